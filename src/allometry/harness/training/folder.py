"""A run's folder: config, status, loss curve, result and checkpoint.

::

    config.json     the TrainConfig
    status.json     {"status": ..., "step", "steps", "loss", "pid", "host", "time", ...}
    curve.jsonl     one StepReport.curve_row() a line
    result.json     the RunResult, when the run is over
    checkpoint/     the state to go on from; in the end model.safetensors
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from allometry.errors import InputError
from allometry.harness.files import (
    no_space_is_one_line,
    read_json,
    remove_temporary_files,
    write_bytes,
    write_json,
)
from allometry.harness.training.config import TrainConfig
from allometry.harness.training.result import RunResult, StepReport

STATUSES = ("claimed", "running", "finished", "diverged", "failed", "stopped")


class RunFolder:
    """Where one run lives.

    Parameters
    ----------
    path : Path
        The folder; it is made when a run is opened in it.
    writes : bool
        Whether this process writes: of several that train one model, the first.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path, self.writes = path, writes

    @property
    def checkpoint(self) -> Path:
        """Folder of the checkpoint."""
        return self.path / "checkpoint"

    def open(self, config: TrainConfig) -> None:
        """Make the folder, or check that it holds this run.

        A run that ended with an error before its first row gives way to one of another config.

        Raises
        ------
        InputError
            If it holds a run of another config.
        """
        path = self.path / "config.json"
        if path.is_file() and not self._failed_at_once():
            there = TrainConfig.from_json(read_json(path), where=str(path))
            if names := there.differences(config):
                what = f"holds a run with another {', '.join(names)}"
                raise InputError(what, where=str(self.path), hint="Choose another folder.")
        if self.writes:
            remove_temporary_files(self.path)
            remove_temporary_files(self.checkpoint)
            write_json(path, config.to_json())

    def _failed_at_once(self) -> bool:
        status = self.path / "status.json"
        if not status.is_file() or read_json(status)["status"] != "failed":
            return False
        return not (self.path / "curve.jsonl").exists() and not self.checkpoint.exists()

    def result(self) -> RunResult | None:
        """Result of a run that is over."""
        path = self.path / "result.json"
        return RunResult(**read_json(path)) if path.is_file() else None

    def finish(self, result: RunResult) -> None:
        """Write the result: from here on the run is over."""
        if self.writes:
            write_json(self.path / "result.json", result.to_json())

    def set_status(self, status: str, **more: Any) -> None:
        """Write ``status.json``."""
        if self.writes:
            document = {"status": status, **more, "pid": os.getpid(), "host": socket.gethostname()}
            write_json(self.path / "status.json", {**document, "time": round(time.time(), 1)})

    @contextmanager
    def status_on_exit(self) -> Iterator[None]:
        """Write ``failed`` or ``stopped`` if the block is left by an exception."""
        try:
            yield
        except KeyboardInterrupt:
            self.set_status("stopped")
            raise
        except BaseException as error:
            try:
                self.set_status("failed", error=f"{type(error).__name__}: {error}")
            except Exception:  # a full disk fails here as well: the first error is the one to tell
                raise error from None
            raise

    def append_curve(self, report: StepReport) -> None:
        """Add a row to the loss curve."""
        if self.writes:
            path = self.path / "curve.jsonl"
            with no_space_is_one_line(path), path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(report.curve_row()) + "\n")

    def sync_curve(self) -> None:
        """Make sure that the rows so far survive a crash of the machine."""
        if self.writes:
            path = self.path / "curve.jsonl"
            with no_space_is_one_line(path), path.open("a") as file:
                os.fsync(file.fileno())

    def cut_curve(self, step: int) -> None:
        """Drop rows after `step`: a resumed run writes them again, and the half line of a kill."""
        path = self.path / "curve.jsonl"
        if self.writes and path.is_file():
            rows = [row for row in read_curve(self.path) if row["step"] <= step]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            write_bytes(path, text.encode())


def read_curve(folder: Path) -> list[dict[str, Any]]:
    """Rows of a run's loss curve; a last line that was not finished is left out."""
    path = folder / "curve.jsonl"
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]  # after the last newline: nothing, or half
