"""Loggers with the trackers' own clients, offline; each is skipped where its client is missing.

To run them: pip install wandb mlflow tensorboard.
"""

import json

import pytest

from allometry.cli import main

STEPS = [8, 16, 24]


@pytest.fixture
def train_with(tmp_path, config):
    """Train a small run with one logger; returns its folder and its rows of the curve."""

    def run(logger):
        path, folder = tmp_path / "wanted.json", tmp_path / "run"
        path.write_text(json.dumps(config(log_steps=8).to_json()))
        assert main(["train", str(path), "-o", str(folder), "--logger", logger]) == 0
        rows = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows] == STEPS
        return folder, rows

    return run


@pytest.mark.filterwarnings("ignore")  # third-party clients warn about their own dependencies
def test_tensorboard_reads_back_what_was_logged(train_with):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, rows = train_with("tensorboard")
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    for name in ("train_loss", "val_loss", "learning_rate"):
        logged = events.Scalars(name)
        assert [event.step for event in logged] == STEPS
        # Event files hold float32.
        assert [event.value for event in logged] == pytest.approx(
            [row[name] for row in rows], rel=1e-6
        )


@pytest.mark.filterwarnings("ignore")
def test_mlflow_reads_back_what_was_logged(train_with, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    _, rows = train_with("mlflow")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs(["0"])
    assert run.info.run_name == "run"
    assert run.data.params["shape.d_model"] == "32"
    logged = client.get_metric_history(run.info.run_id, "val_loss")
    assert [(metric.step, metric.value) for metric in logged] == [
        (row["step"], row["val_loss"]) for row in rows
    ]


@pytest.mark.filterwarnings("ignore")
def test_wandb_keeps_what_was_logged(train_with, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder, rows = train_with("wandb")
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    # The client has no reader of its own for offline runs; its records hold numbers as JSON text.
    written = path.read_bytes()
    for row in rows:
        assert json.dumps(row["val_loss"]).encode() in written
        assert json.dumps(row["train_loss"]).encode() in written
