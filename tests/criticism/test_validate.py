import json

import numpy as np
import pytest
from simulation import TRUTH, simulate_runs

from allometry.cli import main
from allometry.criticism import validate
from allometry.criticism.cutoffs import budget_cutoffs, splits
from allometry.criticism.validate import predictions, score_table
from allometry.errors import InputError
from allometry.inference import Sampler
from allometry.observations import read_runs

QUICK = Sampler(method="laplace", chains=2, draws=200, starts=1)
ONE = {("transformer", 1024): TRUTH["transformer", 1024]}
BUDGETS = (1e18, 1e19, 1e20)


def study(seed: int = 4):
    return simulate_runs(seed, groups=ONE, budgets=BUDGETS, sizes=8)


@pytest.fixture(scope="module")
def answers():
    options = {"holdout": "flops>5e19", "sampler": QUICK, "bootstraps": 4}
    return predictions(study(), **options)


def test_only_hidden_runs_are_scored_at_their_distance(answers):
    assert len(answers) == 8
    assert (answers["flops"] > 5e19).all()
    np.testing.assert_allclose(answers["distance"], 10.0)
    assert (answers["train_runs"] == 16).all()
    assert (answers["cutoff_flops"] == 1e19).all()


def test_hidden_losses_do_not_reach_the_fit(answers):
    table = study()
    table.loc[table["flops"] > 5e19, "loss"] *= 1.5
    options = {"holdout": "flops>5e19", "sampler": QUICK, "bootstraps": 4}
    moved = predictions(table, **options)
    for name in ("predicted", "run_loss_q5", "baseline_predicted"):
        np.testing.assert_array_equal(moved[name], answers[name])
    assert not moved["covered_90"].any()
    assert (moved["crps"] > answers["crps"]).all()
    assert (moved["log_score"] < answers["log_score"]).all()


def test_a_pnorm_study_is_predicted_better_than_by_the_practice(answers):
    scores = score_table(answers).iloc[0]
    # The additive law bends too little on p-norm runs and is 10 x away here.
    assert scores["rmse"] < scores["baseline_rmse"]
    assert scores["crps"] < scores["baseline_crps"]
    assert scores["coverage_90"] >= scores["coverage_50"]


def test_score_table_averages_by_distance(answers):
    near = answers.assign(distance=2.0, error=0.02, crps=0.01, covered_90=True)
    far = answers.assign(distance=50.0, error=0.04, crps=0.03, covered_90=False)
    import pandas as pd

    table = score_table(pd.concat([near, far])).set_index("distance")
    assert table.index.tolist() == ["all", "<=3.5x", ">11x"]
    assert table.loc["<=3.5x", "rmse"] == pytest.approx(2.0)
    assert table.loc["all", "rmse"] == pytest.approx(100 * np.sqrt((0.02**2 + 0.04**2) / 2))
    assert table.loc["all", "crps"] == pytest.approx(2.0)
    assert table["coverage_90"].tolist() == [0.5, 1.0, 0.0]
    assert table["test_runs"].tolist() == [16, 8, 8]


def test_largest_hides_the_largest_budget_of_each_group():
    runs = read_runs(simulate_runs(0))
    (split,) = splits(runs, "largest")
    assert (split.test["flops"] == 1e20).all()
    assert len(split.test) == 24
    assert len(split.train.table) == 48
    assert split.train.excluded[-1].reason == "held out: largest"


def test_every_cuts_between_budgets_and_leaves_enough():
    cutoffs = budget_cutoffs(np.repeat(10.0 ** np.arange(16, 22), 10))
    # Twenty runs and six tenths of a decade must be left; the last budget can be predicted.
    np.testing.assert_allclose(np.log10(cutoffs), [17.5, 18.5, 19.5, 20.5], atol=1e-9)
    continuous = budget_cutoffs(np.geomspace(1e17, 1e22, 200))
    assert len(continuous) == 5
    assert all(1e17 < cutoff < 1e22 for cutoff in continuous)
    assert budget_cutoffs(np.full(100, 1e20)) == []


def test_groups_without_runs_left_are_not_asked():
    table = simulate_runs(0, budgets=(1e18, 1e20))
    table = table[~((table["architecture"] == "xlstm") & (table["flops"] == 1e18))]
    (split,) = splits(read_runs(table), "flops>1e19")
    assert set(split.test["architecture"]) == {"transformer"}


def test_a_holdout_that_hides_nothing_is_refused():
    with pytest.raises(InputError, match="leaves no group"):
        splits(read_runs(study()), "flops>1e30")


def test_a_word_that_is_no_holdout_is_answered_with_those_that_are():
    with pytest.raises(InputError, match="holdout: condition 'largst': no column") as error:
        validate(study(), holdout="largst", sampler=QUICK)
    assert "largest, every, or a condition" in error.value.hint


def test_no_holdout_condition_runs_code():
    with pytest.raises(InputError, match="not allowed"):
        splits(read_runs(study()), "__import__('os').system('true')")


def test_validate_is_the_score_table_of_the_predictions(answers):
    options = {"holdout": "flops>5e19", "sampler": QUICK, "bootstraps": 4}
    table = validate(study(), **options)
    assert table.equals(score_table(answers))


def test_command_prints_the_contract(tmp_path, capsys):
    path = tmp_path / "runs.csv"
    study().to_csv(path, index=False)
    code = main(["validate", str(path), "--bootstraps", "2", "--holdout", "largest", "--json"])
    assert code == 0
    (row,) = json.loads(capsys.readouterr().out)
    keys = {"law", "cutoff_flops", "train_runs", "test_runs", "coverage_50", "coverage_80"}
    keys |= {"coverage_90", "rmse", "crps", "log_score", "baseline"}
    assert keys <= set(row)
    assert set(row["baseline"]) == {"name", "rmse", "coverage_90", "crps"}
    assert (row["law"], row["train_runs"], row["test_runs"]) == ("pnorm", 16, 8)


def test_command_says_so_where_chains_do_not_agree(tmp_path, capsys, monkeypatch):
    path = tmp_path / "runs.csv"
    study().to_csv(path, index=False)
    table = validate(study(), holdout="largest", sampler=QUICK, bootstraps=2)
    for rhat, said in ((1.02, False), (1.2, True)):
        found = table.assign(max_rhat=rhat)
        monkeypatch.setattr("allometry.criticism.validate", lambda *_, _found=found, **__: _found)
        assert main(["validate", str(path), "--holdout", "largest", "--json"]) == 0
        assert ("R-hat 1.20" in capsys.readouterr().err) is said


def test_command_refuses_a_bad_condition(tmp_path, capsys):
    path = tmp_path / "runs.csv"
    study().to_csv(path, index=False)
    assert main(["validate", str(path), "--holdout", "budget>3"]) == 2
    assert "no column 'budget'" in capsys.readouterr().err
