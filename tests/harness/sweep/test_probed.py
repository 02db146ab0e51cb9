import json

import pandas as pd
import pytest

from allometry.accounting import study_learning_rate
from allometry.cli import main
from allometry.errors import RunError
from allometry.harness.sweep import ProbedRate, SweepConfig, probe_plan, read_plan, with_rates
from allometry.harness.training import probe


def test_wider_models_take_the_probed_rate_times_the_ratio_of_the_study():
    found = ProbedRate(
        architecture="xlstm", run_id="x", d_model=64, learning_rate=0.01, losses={0.01: 1.0}
    )
    plan = pd.DataFrame(
        {
            "architecture": ["xlstm", "xlstm", "xlstm", "transformer"],
            "d_model": [64, 512, 4096, 4096],
            "learning_rate": [3e-3, 3e-3, 9e-4, 5e-4],
        }
    )
    # The study: 3e-3 up to width 1024, 9e-4 at 4096; so a probe of 1e-2 is 3e-3 there.
    assert study_learning_rate("xlstm", 4096) == 9e-4
    assert list(with_rates(plan, [found]).learning_rate) == [0.01, 0.01, 0.003, 5e-4]


def test_a_probe_at_the_edge_plans_nothing(small_plan, corpus, tmp_path):
    config = SweepConfig(corpus=str(corpus), settings={"validation_tokens": 512})
    small = small_plan.assign(steps=4, tokens=4 * small_plan.batch_size * 32)
    with pytest.raises(RunError, match="transformer: the best rate, 1e-05, is at the edge") as said:
        probe_plan(small, tmp_path, config, rates=(1e-6, 1e-5))
    assert "--learning-rate" in said.value.hint


def test_a_plan_takes_its_rates_from_a_probe(corpus, tmp_path, capsys, monkeypatch):
    # Far too slow, good, far too fast: the middle one wins on any text.
    monkeypatch.setattr(probe, "RATES", (1e-6, 1e-2, 0.9))
    path = tmp_path / "plan.csv"
    arguments = ["sweep", "plan", "--design", "token-param", "--contexts", "32", "--sizes", "50e3"]
    arguments += ["80e3", "--ratios", "0.1", "0.2", "--corpus", corpus, "--batch-tokens", "64"]
    arguments += ["--device", "cpu", "--flops-per-second", "1e10", "--json", "-o", path]
    code = main([str(part) for part in [*arguments, "--lr-probe", tmp_path / "probe"]])
    document = json.loads(capsys.readouterr().out)
    assert code == 0
    plan = read_plan(path)
    assert plan.groupby("architecture").learning_rate.nunique().to_dict() == {
        "transformer": 1,
        "xlstm": 1,
    }
    for architecture, rate in document["probed_learning_rates"].items():
        # The vertex lies between the outer rates, and the rows have it to three digits.
        assert 1e-6 < rate < 0.9
        rows = plan[plan.architecture == architecture]
        assert rows.learning_rate.iloc[0] == pytest.approx(rate, rel=5e-3)
    probed = json.loads((tmp_path / "probe/transformer/rate-1.000e-02/config.json").read_text())
    smallest = plan[plan.architecture == "transformer"].sort_values(["params", "flops"]).iloc[0]
    assert (probed["steps"], probed["shape"]["d_model"]) == (smallest.steps, smallest.d_model)


@pytest.mark.parametrize("more", [[], ["--corpus", "CORPUS", "--learning-rate", "1e-3"]])
def test_a_probe_without_corpus_or_with_a_rate_is_refused(more, corpus, tmp_path, capsys):
    more = [str(corpus) if part == "CORPUS" else part for part in more]
    start = ["sweep", "plan", "--design", "isoflop", "--contexts", "32", "--budgets", "1e10"]
    start += ["--vocab-size", "256", "-o", str(tmp_path / "p.csv"), "--lr-probe", str(tmp_path)]
    assert main([*start, *more]) == 2
    assert "--lr-probe needs --corpus" in capsys.readouterr().err
