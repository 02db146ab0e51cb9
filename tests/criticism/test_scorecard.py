"""The scorecard: regrets of sizes, averages, the table that predictions quote, and its folder."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from allometry.cli import main
from allometry.criticism.baseline import HuberFit
from allometry.criticism.decision_score import _held_out_budgets, _valley
from allometry.criticism.reach import reach_rows, write_reach
from allometry.criticism.score_summary import POOLED, regret_rows, score_rows
from allometry.criticism.scorecard import cases, scorecard
from allometry.criticism.scores import normal_log_score, width
from allometry.errors import InputError
from allometry.inference import Sampler
from allometry.observations import read_runs


def budget(flops: float = 1e20, best: float = 1e9, curvature: float = 0.02) -> pd.DataFrame:
    """Seven sizes around the best, with realised FLOPs that scatter by some percent."""
    params = best * np.geomspace(0.3, 3.0, 7)
    realised = flops * np.exp(0.04 * np.asarray([0, 1, -1, 1, 0, -1, 0]))
    log_loss = 1.0 + curvature * np.log(params / best) ** 2 - 0.05 * np.log(realised / flops)
    return pd.DataFrame({"params": params, "loss": np.exp(log_loss), "_flops": realised})


def test_a_valley_gives_the_regret_of_any_size():
    valley = _valley(budget())
    assert np.exp(valley.log_best) == pytest.approx(1e9, rel=1e-6)
    assert valley.log_parabola == pytest.approx(valley.log_best)
    assert valley.regret(2e9) == pytest.approx(0.02 * np.log(2.0) ** 2, rel=1e-6)
    assert valley.regret(1e9) == pytest.approx(0.0, abs=1e-12)
    assert np.isnan(valley.regret(np.nan))


def test_a_size_beyond_the_runs_has_the_regret_of_their_edge():
    valley = _valley(budget())
    assert valley.regret(1e12) == pytest.approx(0.02 * np.log(3.0) ** 2, rel=1e-6)


def test_a_budget_without_a_minimum_among_its_runs_is_not_scored():
    assert _valley(budget(curvature=-0.02)) is None
    falling = budget()
    falling["loss"] = falling["loss"] * (falling["params"] / 1e9) ** -0.2
    assert _valley(falling) is None


def lopsided(sizes: int, *, noise: float = 0.002) -> pd.DataFrame:
    """A valley around 1e9 that is steep to the left, from 2e8 to 1.5e10."""
    params = np.geomspace(2e8, 1.5e10, sizes)
    t = np.log(params / 1e9)
    log_loss = (
        1.0 + 0.03 * t**2 - 0.004 * t**3 + noise * np.random.default_rng(1).normal(size=sizes)
    )
    return pd.DataFrame({"params": params, "loss": np.exp(log_loss), "_flops": 1e20})


def test_a_lopsided_valley_is_a_cubic_if_its_runs_show_it():
    found = _valley(lopsided(15))
    assert found.polynomial.degree() == 3
    assert found.log_best == pytest.approx(np.log(1e9), abs=0.04)
    assert found.log_parabola > found.log_best + 0.1  # towards the flat side
    assert found.regret(3e9) == pytest.approx(
        0.03 * np.log(3) ** 2 - 0.004 * np.log(3) ** 3, rel=0.1
    )
    assert _valley(lopsided(6)).polynomial.degree() == 2


def test_the_error_of_a_minimum_is_that_of_repeated_runs():
    rng = np.random.default_rng(0)
    clean = lopsided(15, noise=0.0)
    found = []
    for _ in range(400):
        loss = clean["loss"] * np.exp(0.004 * rng.normal(size=15))
        found.append(_valley(clean.assign(loss=loss)))
    cubics = [valley for valley in found if valley.polynomial.degree() == 3]
    spread = np.std([valley.log_best for valley in cubics])
    assert np.median([valley.log_sd for valley in cubics]) == pytest.approx(spread, rel=0.2)


def test_held_out_budgets_are_windows_with_enough_sizes():
    runs = pd.concat([budget(1e20), budget(1e21), budget(1e22).iloc[:4]])
    found = _held_out_budgets(runs)
    assert [len(part) for _, part in found] == [7, 7]
    np.testing.assert_allclose([flops for flops, _ in found], [1e20, 1e21], rtol=0.02)
    one_size = budget(1e20).assign(params=1e9)
    assert _held_out_budgets(one_size) == []


def scored(table: str = "chinchilla", **changes: object) -> pd.DataFrame:
    columns: dict[str, object] = {"holdout": "largest", "number": 0, "error": 0.02, "crps": 0.01}
    columns |= {"log_score": 3.0, "distance": [2.0, 50.0]}
    columns |= {"honest_90_low": 0.5, "honest_90_high": 1.0}
    for level in (50, 80, 90):
        columns |= {f"covered_{level}": level == 90, f"width_{level}": level / 1000}
    theirs = {f"baseline_{k}": v for k, v in columns.items() if k not in ("holdout", "number")}
    return pd.DataFrame({"table": table} | columns | theirs | changes)


def test_averages_are_pooled_over_public_tables_only():
    runs = pd.concat([scored(), scored("farseer", error=0.04), scored("synthetic", error=9.0)])
    table = score_rows(runs).set_index(["table", "holdout", "distance"])
    pooled = table.loc[(POOLED, "both", "all")]
    assert pooled["runs"] == 4
    assert pooled["rmse"] == pytest.approx(100 * np.sqrt((0.02**2 + 0.04**2) / 2))
    assert (pooled["coverage_50"], pooled["coverage_90"]) == (0.0, 1.0)
    assert pooled["width_90"] == pytest.approx(9.0)
    assert table.loc[("synthetic", "largest", "all"), "rmse"] == pytest.approx(900.0)
    assert table.loc[(POOLED, "both", "11-100x"), "runs"] == 2
    assert table.loc[("farseer", "largest", "all"), "honest_90_low"] == 0.5
    assert np.isnan(pooled["honest_90_low"])  # of several cuts together nothing is said


def test_regrets_are_compared_where_both_answer():
    decisions = pd.DataFrame(
        {
            "table": "farseer",
            "holdout": "every",
            "regret_posterior": [0.01, 0.03],
            "regret_parabola": [0.02, np.nan],
            "regret_approach_3": [0.05, 0.07],
        }
        | {f"covered_{n}_posterior": [n > 50, True] for n in (50, 80, 90)}
        | {f"covered_{n}_approach_3": [False, n > 80] for n in (50, 80, 90)}
    )
    row = regret_rows(decisions).iloc[-1]
    assert (row["budgets"], row["compared_parabola"]) == (2, 1)
    assert row["regret_posterior"] == pytest.approx(2.0)
    assert row["regret_posterior_there"] == pytest.approx(1.0)
    assert row["regret_parabola"] == pytest.approx(2.0)
    assert row["regret_approach_3"] == pytest.approx(6.0)
    assert [row[f"optimum_{n}"] for n in (50, 80, 90)] == [0.5, 1.0, 1.0]
    assert [row[f"approach_3_optimum_{n}"] for n in (50, 80, 90)] == [0.0, 0.0, 0.5]


def test_reach_is_written_as_it_is_read(tmp_path):
    runs = pd.concat([scored(), scored("farseer"), scored("synthetic")])
    rows = reach_rows(runs)
    assert [(row.low, row.high, row.runs, row.studies) for row in rows] == [
        (1.0, 2.0, 2, 2),
        (30.0, 100.0, 2, 2),
    ]
    document = json.loads(write_reach(runs, tmp_path / "reach.json").read_text())
    assert document["farthest"] == 50.0
    assert document["rows"][0]["median_error"] == 2.0
    assert [path.name for path in tmp_path.iterdir()] == ["reach.json"]


def test_scores_of_draws_are_those_of_their_normal():
    rng = np.random.default_rng(0)
    draws = rng.normal(2.0, 0.5, size=(4000, 3))
    observed = np.asarray([2.0, 2.5, 0.0])
    exact = stats.norm(draws.mean(axis=0), draws.std(axis=0)).logpdf(observed)
    np.testing.assert_allclose(normal_log_score(draws, observed), exact)
    # Of a unit normal: 2 x 1.645; the sample quantiles of 4,000 draws are off by 3 %.
    np.testing.assert_allclose(width(draws, 0.9), 0.5 * 3.29, rtol=0.06)


def test_a_baseline_survives_its_json():
    rng = np.random.default_rng(0)
    fit = HuberFit(
        theta=np.asarray([0.3, 0.4, 0.5, 6.0, 7.0]),
        objective=0.1,
        bootstrap=rng.normal(size=(4, 5)),
        residuals=rng.normal(size=9),
        starts=3,
    )
    again = HuberFit.from_json(json.loads(json.dumps(fit.to_json())))
    for name in ("theta", "bootstrap", "residuals"):
        np.testing.assert_array_equal(getattr(again, name), getattr(fit, name))
    params, tokens = np.asarray([1e8, 1e9]), np.asarray([1e10, 1e11])
    E, A, B = np.exp(0.5), np.exp(6.0), np.exp(7.0)
    expected = np.log(E + A * params**-0.3 + B * tokens**-0.4)
    np.testing.assert_allclose(again.log_loss(params, tokens), expected)


def test_unknown_tables_and_no_runs_are_refused(capsys, tmp_path):
    with pytest.raises(InputError, match="nonsense"):
        cases(["nonsense"])
    folder = str(tmp_path / "card")
    assert main(["validate", "--scorecard", "-o", folder, "--table", "nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err
    assert main(["validate"]) == 2
    assert "no runs to validate" in capsys.readouterr().err


def own_table(path):
    read_runs("synthetic").table.query("architecture == 'transformer'").to_csv(path, index=False)
    return str(path)


def test_cases_of_a_file_are_named_after_it(tmp_path):
    path = own_table(tmp_path / "mine.csv")
    found = cases([path], exclude=["context_length > 2048"])
    assert {case.table for case in found} == {"mine"}
    assert all((case.split.test["context_length"] <= 2048).all() for case in found)
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="two tables are named mine"):
        cases([path, own_table(tmp_path / "other" / "mine.csv")])


def test_averages_over_own_tables_are_not_called_public():
    tables = set(score_rows(pd.concat([scored(), scored("mine")]))["table"])
    assert tables == {"chinchilla", "mine", "all tables"}


def test_a_scorecard_takes_no_law_and_no_holdout(capsys, tmp_path):
    path = own_table(tmp_path / "mine.csv")
    for extra in (["--law", "chinchilla"], ["--holdout", "every"], ["--law-module", "mine"]):
        assert main(["validate", path, "--scorecard", "-o", str(tmp_path / "card"), *extra]) == 2
        assert "chooses law and holdout itself" in capsys.readouterr().err
    assert main(["validate", path, "--table", path]) == 2
    assert "--table is for --scorecard" in capsys.readouterr().err
    assert main(["validate", path, "--folder", str(tmp_path / "card")]) == 2
    assert "--folder is for --scorecard" in capsys.readouterr().err


@pytest.mark.slow
def test_a_scorecard_goes_on_from_its_folder(tmp_path):
    options = {"tables": ["synthetic"], "bootstraps": 2}
    sampler = Sampler(method="laplace", chains=2, draws=100, starts=1)
    first = scorecard(tmp_path, sampler=sampler, **options)
    made = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = scorecard(tmp_path, sampler=sampler, **options)
    assert made == {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    pd.testing.assert_frame_equal(first.runs, again.runs)
    assert again.cpu_seconds == pytest.approx(first.cpu_seconds)
