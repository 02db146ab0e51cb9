import json
import re

import pandas as pd
import pytest

from allometry.cli import main
from allometry.harness.sweep import read_plan


def answer(capsys, *argv):
    code = main([str(part) for part in argv])
    out = capsys.readouterr()
    return code, (json.loads(out.out) if out.out else None), out.err


def plan_arguments(path, *more):
    start = ["sweep", "plan", "--design", "isoflop", "--contexts", "2048", "--budgets", "1e19"]
    return [*start, "-o", path, *more]


def test_plan_writes_a_table_and_prices_it(capsys, tmp_path):
    path = tmp_path / "plan.csv"
    code, document, _ = answer(
        capsys, *plan_arguments(path, "--mfu", 0.5, "--price-per-hour", 2, "--json")
    )
    plan = read_plan(path)
    assert code == 0
    assert document["runs"] == len(plan) == 14
    assert document["flops"] == pytest.approx(plan.flops.sum(), rel=1e-12)
    assert document["device_hours"] == pytest.approx(14e19 / (989e12 * 0.5) / 3600, rel=0.02)
    assert document["cost"] == pytest.approx(2 * document["device_hours"], rel=1e-12)
    assert {"hours", "cost", "device"} <= set(plan.columns)


def test_the_whole_study_is_one_command(capsys, tmp_path):
    path = tmp_path / "study.csv"
    code, document, _ = answer(capsys, "sweep", "plan", "--design", "study", "-o", path, "--json")
    assert (code, document["runs"], len(read_plan(path))) == (0, 640, 640)
    xlstm = ["sweep", "plan", "--design", "study", "--architectures", "xlstm", "-o", path]
    assert main([str(part) for part in xlstm]) == 0
    assert set(read_plan(path).architecture) == {"xlstm"}


def test_plans_add_up_and_warnings_are_said_on_stderr(capsys, tmp_path):
    first, both = tmp_path / "first.csv", tmp_path / "both.csv"
    design = ["sweep", "plan", "--design", "token-param", "--contexts", 128, "--vocab-size", 256]
    design += ["--sizes", 5e4, "--ratios", 20, "--device", "cpu", "--flops-per-second", 1e10]
    assert main([str(part) for part in [*design, "-o", first]]) == 0
    capsys.readouterr()
    small = ["--design", "isoflop", "--contexts", 128, "--budgets", 1e11, "--vocab-size", 256]
    code, document, err = answer(
        capsys, "sweep", "plan", *small, "--learning-rate", "xlstm=2e-3", "--add", first,
        "-o", both, "--flops-per-second", 1e10, "--json",
    )  # fmt: skip
    assert code == 0
    plan = read_plan(both)
    assert plan.experiment.value_counts().to_dict() == {"isoflop": 14, "tokenparam": 2}
    rates = plan[plan.experiment == "isoflop"].groupby("architecture").learning_rate.unique()
    assert {name: list(values) for name, values in rates.items()} == {
        "transformer": [3e-3],
        "xlstm": [2e-3],
    }
    assert len(document["warnings"]) == err.count("warning: ")


def test_status_and_collect_of_a_sweep(capsys, tmp_path, make_sweep, small_plan):
    from allometry.harness.sweep.worker import work

    folder = make_sweep(diverge=[small_plan.run_id[3]])
    code, document, _ = answer(capsys, "sweep", "status", folder.path, "--json")
    assert (code, document["waiting"], len(document["table"])) == (0, 8, 8)
    out = tmp_path / "early" / "runs.csv"
    assert main(["sweep", "collect", str(folder.path), "-o", str(out)]) == 1
    assert "none of 8 planned runs is over: nothing is written" in capsys.readouterr().err
    assert not out.parent.exists()
    work(folder)
    code, document, _ = answer(capsys, "sweep", "status", folder.path, "--watch", "--json")
    assert (document["finished"], document["diverged"]) == (7, 1)
    out = tmp_path / "runs.csv"
    code, document, _ = answer(capsys, "sweep", "collect", folder.path, "-o", out, "--json")
    assert (code, document["finished"], document["diverged"]) == (0, 7, 1)
    runs = pd.read_csv(out)
    assert runs.loss.isna().sum() == 1
    assert len(pd.read_parquet(document["curves"])) == 8 * 5
    assert main(["sweep", "status", str(folder.path)]) == 0
    assert re.search(r"finished +7", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run", "no.csv", "-o", "x", "--corpus", "c"], "no.csv: no such plan"),
        (["status", "nowhere"], "nowhere: not a sweep's folder"),
        (["collect", "nowhere", "-o", "runs.csv"], "nowhere: not a sweep's folder"),
        (
            ["plan", "--design", "isoflop", "-o", "p.csv"],
            "none given of context_lengths, budgets",
        ),
        (
            ["plan", "--design", "study", "--budgets", "1e18", "--seeds", "1", "-o", "p.csv"],
            "--design study takes no --budgets, --seeds",
        ),
        (
            ["plan", "--design", "isoflop", "--sizes", "1e5", "-o", "p.csv"],
            "--design isoflop takes no --sizes",
        ),
        (
            ["plan", "--design", "token-param", "--optima", "o.csv", "-o", "p.csv"],
            "--design token-param takes no --optima",
        ),
        (
            ["plan", "--design", "study", "--device", "abacus", "-o", "p.csv"],
            "no device named 'abacus'",
        ),
        (
            ["plan", "--design", "isoflop", "--learning-rate", "fast", "-o", "p.csv"],
            "'fast' is neither a number",
        ),
        (["plan", "--design", "study", "-o", "p.xlsx"], "cannot write .xlsx"),
        (["plan", "--design", "study", "--add", "no.csv", "-o", "p.csv"], "no.csv: no such plan"),
    ],
)
def test_bad_input_is_one_line(capsys, tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *argv]) == 2
    out = capsys.readouterr()
    assert out.out == ""
    errors = [line for line in out.err.splitlines() if not line.startswith(("hint", "warning"))]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert message in errors[0]
