import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from allometry.accounting import TransformerShape
from allometry.cli import main
from allometry.errors import RunError
from allometry.harness.training import train

TRAIN = """
import json, sys
from pathlib import Path
from allometry.harness.training import TrainConfig, train
config = TrainConfig.from_json(json.loads(Path(sys.argv[1]).read_text()))
train(config, Path(sys.argv[2]), progress=lambda report: print(report.step, flush=True))
"""


def start(tmp_path, config, folder):
    path = tmp_path / "wanted.json"
    path.write_text(json.dumps(config.to_json()))
    command = [sys.executable, "-c", TRAIN, str(path), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kept(folder, contents):
    """What must be bit-equal: everything but the clock's files."""
    names = contents(folder)
    result = json.loads((folder / "result.json").read_text())
    clock = ("seconds", "tokens_per_second", "mfu", "loader_share", "run_id")
    return {
        "files": {k: v for k, v in names.items() if k not in ("result.json", "status.json")},
        "result": {k: v for k, v in result.items() if k not in clock},
    }


@pytest.mark.parametrize(
    ("architecture", "kills", "seed"), [("transformer", 2, 0), ("xlstm", 1, 1)]
)
def test_a_run_killed_at_random_moments_ends_bit_equal(
    tmp_path, config, contents, architecture, kills, seed
):
    run = config(architecture, steps=30, checkpoint_seconds=0.0)
    train(run, tmp_path / "whole")
    rng = np.random.default_rng(seed)
    kill_after = sorted(rng.choice(np.arange(2, 28), size=kills, replace=False))
    for step in kill_after:
        process = start(tmp_path, run, tmp_path / "run")
        for line in process.stdout:
            if int(line) >= step:
                break
        time.sleep(rng.uniform(0, 0.02))  # anywhere in the next step, or in its checkpoint
        assert process.poll() is None, process.stderr.read()
        process.kill()
        process.communicate()
        assert not (tmp_path / "run" / "result.json").exists()
    steps = []
    train(run, tmp_path / "run", progress=lambda report: steps.append(report.step))
    assert 2 < steps[0]  # it went on, it did not start again
    assert kept(tmp_path / "run", contents) == kept(tmp_path / "whole", contents)


class InterruptedRunError(Exception):
    pass


def interrupt_at(step):
    def listener(report):
        if report.step == step:
            raise InterruptedRunError

    return listener


def test_any_checkpoint_gives_the_same_run(tmp_path, config, contents):
    run = config(steps=12, log_steps=1, checkpoint_seconds=0.0)
    train(run, tmp_path / "whole")
    for step in (1, 2, 7, 12):
        with pytest.raises(InterruptedRunError):
            train(run, tmp_path / f"at{step}", progress=interrupt_at(step))
        status = json.loads((tmp_path / f"at{step}" / "status.json").read_text())
        assert status["status"] == "failed"
        train(run, tmp_path / f"at{step}")
        assert kept(tmp_path / f"at{step}", contents) == kept(tmp_path / "whole", contents)


def test_half_a_line_of_the_curve_is_dropped(tmp_path, config, contents):
    run = config(steps=12, log_steps=1, checkpoint_seconds=0.0)
    train(run, tmp_path / "whole")
    with pytest.raises(InterruptedRunError):
        train(run, tmp_path / "run", progress=interrupt_at(5))
    with (tmp_path / "run" / "curve.jsonl").open("a") as file:
        file.write('{"step": 6, "tok')
    train(run, tmp_path / "run")
    assert kept(tmp_path / "run", contents) == kept(tmp_path / "whole", contents)


def test_a_damaged_checkpoint_is_named(tmp_path, config):
    run = config(steps=12, log_steps=1, checkpoint_seconds=0.0)
    with pytest.raises(InterruptedRunError):
        train(run, tmp_path / "run", progress=interrupt_at(5))
    (path,) = (tmp_path / "run" / "checkpoint").glob("step-*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match=f"{path.name}: damaged checkpoint"):
        train(run, tmp_path / "run")


def _latest(**changes):
    # The pointer of the checkpoint, with changed values; None takes a value out.
    def harm(folder):
        latest = json.loads((folder / "latest.json").read_text()) | changes
        latest = {name: value for name, value in latest.items() if value is not None}
        (folder / "latest.json").write_text(json.dumps(latest))

    return harm


def _no_tensors(folder):
    content = b"no tensors here"
    (folder / "step-000000005.safetensors").write_bytes(content)
    _latest(sha256=hashlib.sha256(content).hexdigest())(folder)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_latest(sha256=None), "latest.json: damaged checkpoint: no file, sha256 and state"),
        (_latest(state=3), "latest.json: damaged checkpoint: no file, sha256 and state"),
        (_latest(file="step-9.safetensors"), "step-9.safetensors: missing checkpoint"),
        (_latest(state={"mood": 1}), "checkpoint of another version: .*'mood'"),
        (_no_tensors, "step-000000005.safetensors: damaged checkpoint: "),
    ],
)
def test_a_checkpoint_that_is_none_is_one_line(tmp_path, config, harm, said):
    run = config(steps=6, log_steps=1, checkpoint_seconds=0.0)
    with pytest.raises(InterruptedRunError):
        train(run, tmp_path / "run", progress=interrupt_at(6))
    harm(tmp_path / "run" / "checkpoint")
    with pytest.raises(RunError, match=said):
        train(run, tmp_path / "run")


@pytest.mark.parametrize("other", [{"n_layers": 3}, {"d_model": 64}])
def test_a_checkpoint_of_another_model_is_refused(tmp_path, config, other):
    run = config(steps=6, log_steps=1, checkpoint_seconds=0.0)
    foreign = replace(run, shape=TransformerShape(**{**_SMALL, **other}))
    for name, each in (("run", run), ("foreign", foreign)):
        with pytest.raises(InterruptedRunError):
            train(each, tmp_path / name, progress=interrupt_at(6))
    shutil.rmtree(tmp_path / "run" / "checkpoint")
    shutil.copytree(tmp_path / "foreign" / "checkpoint", tmp_path / "run" / "checkpoint")
    with pytest.raises(RunError, match="checkpoint of another model: blocks"):
        train(run, tmp_path / "run")


_SMALL = {"d_model": 32, "n_layers": 2, "n_heads": 2, "vocab_size": 256}


def test_a_full_disk_is_one_line_and_leaves_the_checkpoint_before(
    tmp_path, config, contents, capsys, monkeypatch
):
    run = config(steps=12, log_steps=1, checkpoint_seconds=0.0)
    train(run, tmp_path / "whole")
    path = tmp_path / "wanted.json"
    path.write_text(json.dumps(run.to_json()))
    real, left = os.fsync, [20]

    def fsync(descriptor):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert main(["train", str(path), "-o", str(tmp_path / "run")]) == 1
    error, hint = capsys.readouterr().err.strip().splitlines()
    assert "cannot write: No space left on device" in error
    assert "goes on where it stopped" in hint
    assert list((tmp_path / "run" / "checkpoint").glob("step-*")) != []
    left[0] = 10**6
    assert main(["train", str(path), "-o", str(tmp_path / "run")]) == 0
    assert kept(tmp_path / "run", contents) == kept(tmp_path / "whole", contents)
