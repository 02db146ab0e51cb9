import io
import json
import math
import sys

import pytest
from rich.console import Console

from allometry.cli import main
from allometry.errors import InputError
from allometry.harness.training import progress, train
from allometry.harness.training.loggers import open_logger
from allometry.harness.training.progress import progress_bar

STAND_IN = """
import json
from pathlib import Path
def init(*, name, config, dir):
    return Run(name, config, Path(dir))
class Run:
    def __init__(self, name, config, folder):
        self.rows, self.path = [{"name": name, "seed": config["seed"]}], folder / "sent.json"
    def log(self, values, step):
        self.rows.append({"step": step, **values})
    def finish(self):
        self.path.write_text(json.dumps(self.rows))
"""


def test_the_bar_shows_loss_speed_and_time_left(tmp_path, config):
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    with progress_bar(steps=24, console=console) as show:
        result = train(config(), tmp_path / "run", progress=show)
    text = out.getvalue()
    assert "24/24" in text
    assert f"val {result.loss:.4f}" in text
    assert "tokens/s MFU" in text
    assert "0:00:00 left" in text


@pytest.mark.parametrize(("seconds", "steps"), [(0.0, [8, 16, 24]), (math.inf, [])])
def test_without_a_terminal_there_is_a_line_now_and_then(
    tmp_path, config, monkeypatch, seconds, steps
):
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", seconds)
    out = io.StringIO()
    with progress_bar(steps=24, console=Console(file=out, width=20)) as show:
        train(config(log_steps=8), tmp_path / "run", progress=show)
    lines = out.getvalue().splitlines()
    assert [line.split(" loss ")[0] for line in lines] == [f"step {k}/24" for k in steps]
    assert all("tokens/s MFU" in line for line in lines)


def test_a_tracker_gets_every_row_through_its_own_client(tmp_path, config, monkeypatch):
    (tmp_path / "wandb.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    path = tmp_path / "wanted.json"
    path.write_text(json.dumps(config(log_steps=8).to_json()))
    folder = tmp_path / "run"
    folder.mkdir()
    assert main(["train", str(path), "-o", str(folder), "--logger", "wandb"]) == 0
    head, *rows = json.loads((folder / "sent.json").read_text())
    assert head == {"name": "run", "seed": 0}
    assert [row["step"] for row in rows] == [8, 16, 24]
    assert rows[-1]["val_loss"] == json.loads((folder / "result.json").read_text())["loss"]
    sys.modules.pop("wandb", None)


def test_an_unknown_or_missing_tracker_is_one_line(tmp_path, config, monkeypatch):
    with pytest.raises(InputError, match="no logger 'x'; there are wandb, mlflow, tensorboard"):
        open_logger("x", config(), tmp_path)
    monkeypatch.setitem(sys.modules, "mlflow", None)  # as if it were not installed
    with (
        pytest.raises(InputError, match="mlflow is not installed") as error,
        open_logger("mlflow", config(), tmp_path),
    ):
        pass
    assert error.value.hint == "Install it: pip install 'allometry[mlflow]'."
