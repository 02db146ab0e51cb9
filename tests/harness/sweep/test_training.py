"""A real sweep: corpus, plan, training, kill, table."""

import json
import math
import subprocess
import sys
import time

import pandas as pd
import pytest

from allometry.cli import main
from allometry.errors import InputError, KernelError
from allometry.harness.corpus import read_manifest
from allometry.harness.sweep import (
    LocalExecutor,
    Recipe,
    SweepStatus,
    collect_sweep,
    open_sweep,
    plan_token_param,
    run_sweep,
    validation_share,
    write_plan,
)
from allometry.harness.sweep.entry import _check_kernels, train_row
from allometry.harness.sweep.worker import work
from allometry.kernels import check
from allometry.observations import read_runs

SETTINGS = {"validation_tokens": 512, "validation_points": 2, "checkpoint_seconds": 0.0}
STAND_IN = """
from pathlib import Path
def init(*, name, config, dir):
    return Run(Path(dir) / "told.txt", name)
class Run:
    def __init__(self, path, name):
        self.file = path.open("w")
        print(name, file=self.file)
    def log(self, values, step):
        if "val_loss" in values:
            print(values["val_loss"], file=self.file)
    def finish(self):
        self.file.close()
"""
"""A client of a tracker that keeps what it is told in the run's folder."""
CLOCK = ["seconds", "tokens_per_second", "mfu", "loader_share"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    text = folder / "text.txt"
    lines = [f"{a} times {b} is {a * b}" for a in range(60) for b in range(60)]
    parts = [lines[k : k + 100] for k in range(0, len(lines), 100)]
    text.write_text("\n<|endoftext|>\n".join("\n".join(part) for part in parts))
    assert (
        main(["corpus", "build", str(text), "-o", str(folder / "built"), "--tokenizer", "bytes"])
        == 0
    )
    return folder / "built"


@pytest.fixture(scope="module")
def plan():
    return plan_token_param(
        architectures=["transformer", "xlstm"],
        context_lengths=[16],
        sizes=[16_500],
        ratios=[0.5],
        recipe=Recipe(vocab_size=256, batch_tokens=128),
    )


def test_a_row_becomes_the_run_that_it_says(corpus, plan, tmp_path):
    folder = open_sweep(plan, tmp_path / "sweep", corpus=corpus, settings=SETTINGS)
    row = plan.iloc[1].to_dict()
    run = folder.run_path(row["run_id"])
    run.mkdir()
    train_row(row, run, folder.config())
    runs, curves = collect_sweep(folder)
    (made,) = runs.to_dict("records")
    same = ["run_id", "experiment", "architecture", "context_length", "params", "tokens", "flops"]
    same += ["steps", "batch_size", "learning_rate", "seed", "d_model", "n_layers", "vocab_size"]
    assert {name: made[name] for name in same} == {name: row[name] for name in same}
    assert 0 < made["loss"] < math.log(256)  # better than a blind guess
    assert curves.val_loss.dropna().iloc[-1] == made["loss"]


def test_a_run_of_a_plan_can_be_trained_alone_in_the_sweeps_folder(corpus, plan, tmp_path, capsys):
    folder = open_sweep(
        plan, tmp_path / "sweep", corpus=corpus, settings={"validation_tokens": 512}
    )
    path = write_plan(plan, tmp_path / "plan.csv")
    run_id = plan.run_id[1]
    command = ["train", str(path), "--corpus", str(corpus), "-o", str(folder.run_path(run_id))]
    command += ["--threads", "1", "--validation-tokens", "512"]
    assert main([*command, "--run-id", "another"]) == 2
    assert "no run 'another' in this plan" in capsys.readouterr().err
    assert main([*command, "--run-id", run_id]) == 0
    assert SweepStatus(folder).table().state.tolist() == ["waiting", "finished"]
    other = open_sweep(plan, tmp_path / "other", corpus=corpus, settings={"validation_tokens": 512})
    run = other.run_path(run_id)
    run.mkdir()
    train_row(plan.iloc[1].to_dict(), run, other.config())
    (alone,), (in_sweep,) = (collect_sweep(f)[0].loss.tolist() for f in (folder, other))
    assert alone == in_sweep


def test_a_device_whose_kernels_are_wrong_trains_nothing(corpus, plan, tmp_path, monkeypatch):
    right = check.mlstm

    def wrong(*args, **kwargs):
        h, state = right(*args, **kwargs)
        return 1.01 * h, state

    monkeypatch.setattr(check, "mlstm", wrong)
    _check_kernels.cache_clear()
    folder = open_sweep(plan, tmp_path / "sweep", corpus=corpus, settings=SETTINGS)
    with pytest.raises(KernelError, match=r"mLSTM chunkwise kernels on cpu: .* differ from"):
        work(folder)
    assert SweepStatus(folder).table().state.tolist() == ["waiting"] * len(plan)
    assert not list(folder.path.glob("runs/*/config.json"))


def test_a_device_that_is_not_there_stops_the_sweep_before_it_trains(
    corpus, plan, tmp_path, monkeypatch
):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    _check_kernels.cache_clear()
    settings = {**SETTINGS, "device": "cuda"}
    folder = open_sweep(plan, tmp_path / "sweep", corpus=corpus, settings=settings)
    with pytest.raises(KernelError, match="there is no CUDA device here"):
        work(folder)
    assert SweepStatus(folder).table().state.tolist() == ["waiting"] * len(plan)


def test_a_sweep_tells_a_tracker_of_its_runs(corpus, plan, tmp_path, monkeypatch):
    (tmp_path / "wandb.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    folder = open_sweep(
        plan, tmp_path / "sweep", corpus=corpus, settings=SETTINGS, loggers=["wandb"]
    )
    row = plan.iloc[0].to_dict()
    run = folder.run_path(row["run_id"])
    run.mkdir()
    train_row(row, run, folder.config())
    sys.modules.pop("wandb", None)
    name, *losses = (run / "told.txt").read_text().split()
    assert name == row["run_id"]
    made = json.loads((run / "result.json").read_text())
    assert float(losses[-1]) == made["loss"]
    assert len(losses) == SETTINGS["validation_points"]


@pytest.mark.slow
def test_a_killed_training_sweep_ends_in_the_undisturbed_table(corpus, plan, tmp_path):
    undisturbed = open_sweep(plan, tmp_path / "undisturbed", corpus=corpus, settings=SETTINGS)
    run_sweep(undisturbed, LocalExecutor(workers=1))
    file = write_plan(plan, tmp_path / "plan.csv")
    argv = ["sweep", "run", str(file), "-o", str(tmp_path / "killed"), "--corpus", str(corpus)]
    argv += ["--workers", "1", "--set", *(f"{k}={v}" for k, v in SETTINGS.items())]
    code = f"import sys; from allometry.cli import main; sys.exit(main({argv!r}))"
    driver = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    checkpoints = tmp_path / "killed" / "runs"
    end = time.monotonic() + 120
    while not list(checkpoints.glob("*/checkpoint/*")):
        assert time.monotonic() < end
        assert driver.poll() is None
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    assert main(argv) == 0
    killed = open_sweep(plan, tmp_path / "killed", corpus=corpus, settings=SETTINGS)
    (expected, expected_curves), (runs, curves) = collect_sweep(undisturbed), collect_sweep(killed)
    # Bit-equal but for the clock: the same thread count computes the same numbers.
    pd.testing.assert_frame_equal(
        runs.drop(columns=CLOCK), expected.drop(columns=CLOCK), check_exact=True
    )
    pd.testing.assert_frame_equal(curves, expected_curves, check_exact=True)
    file = tmp_path / "runs.csv"
    runs.to_csv(file, index=False)
    read = read_runs(file).table
    assert (read.params.astype(int) == plan.params).all()
    assert (read.tokens.astype(int) == plan.tokens).all()
    assert read.flops.to_numpy() == pytest.approx(plan.flops.to_numpy(), rel=1e-12)


def test_validation_that_costs_more_than_training_is_said(corpus, plan, tmp_path, capsys):
    all_of_it = open_sweep(plan, tmp_path / "a", corpus=corpus)
    held_out = read_manifest(corpus).tokens("validation")
    by_hand = (plan.flops * 9 * held_out / 3 / plan.tokens).sum() / plan.flops.sum()
    assert validation_share(all_of_it) == pytest.approx(by_hand, rel=1e-12)
    settings = {"validation_tokens": 256, "validation_points": 1}
    little = open_sweep(plan, tmp_path / "b", corpus=corpus, settings=settings)
    assert validation_share(little) == pytest.approx(by_hand * 256 / held_out / 9, rel=1e-12)
    assert validation_share(little) < 1 / 50


def test_what_does_not_fit_is_told_before_anything_starts(
    corpus, plan, tmp_path, capsys, monkeypatch
):
    with pytest.raises(InputError, match="models of 64 vocabulary rows"):
        open_sweep(plan.assign(vocab_size=64), tmp_path / "a", corpus=corpus)
    with pytest.raises(InputError, match="no setting named no_such_field") as caught:
        open_sweep(plan, tmp_path / "b", corpus=corpus, settings={"no_such_field": 1})
    assert "validation_tokens" in caught.value.hint
    assert "steps" not in caught.value.hint.split(", ")  # the plan sets them
    with pytest.raises(InputError, match="no logger 'x'; there are wandb, mlflow, tensorboard"):
        open_sweep(plan, tmp_path / "d", corpus=corpus, loggers=["x"])
    monkeypatch.setitem(sys.modules, "mlflow", None)  # as if it were not installed
    with pytest.raises(InputError, match="mlflow is not installed"):
        open_sweep(plan, tmp_path / "d", corpus=corpus, loggers=["mlflow"])
    with pytest.raises(InputError, match="the plan sets steps"):
        open_sweep(plan, tmp_path / "c", corpus=corpus, settings={"steps": 1})
    file = write_plan(plan, tmp_path / "plan.csv")
    argv = [
        "sweep",
        "run",
        str(file),
        "-o",
        str(tmp_path / "d"),
        "--corpus",
        str(tmp_path / "none"),
    ]
    assert main(argv) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err
    assert not any((tmp_path / name).exists() for name in "abcd")
