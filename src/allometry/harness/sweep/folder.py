"""A sweep's folder: its plan, what is common to its runs, and where each stands.

::

    plan.csv          the plan, checked
    sweep.json        corpus, entry, threads: the SweepConfig
    claims/           who works on what; see `allometry.harness.sweep.claims`
    runs/RUN_ID/      one folder a run, written by the entry; result.json when it is over
    failures/RUN_ID.json   what went wrong with a run that raised
"""

import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import isclose
from pathlib import Path
from typing import Any

import pandas as pd

from allometry.errors import InputError
from allometry.files import check_folder
from allometry.harness.files import read_json, remove_temporary_files, write_json
from allometry.harness.sweep.plan import read_plan, write_plan

ENTRY = "allometry.harness.sweep.entry:train_row"


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepConfig:
    """What is common to the runs of a sweep.

    Attributes
    ----------
    corpus : str
        Folder of the corpus, as an absolute path.
    entry : str
        ``module:function`` that makes one run: called with the plan's row, the run's folder and
        this config; it writes ``result.json`` and goes on where a killed call stopped.
    threads : int
        CPU threads of a run.
    settings : dict
        Further fields of every run's `TrainConfig`.
    loggers : sequence of str
        Experiment trackers that every run tells; see `allometry.harness.training.loggers`.
    """

    corpus: str
    entry: str = ENTRY
    threads: int = 1
    settings: dict[str, Any] | None = None
    loggers: Sequence[str] = ()


class SweepFolder:
    """Where a sweep lives.

    Parameters
    ----------
    path : Path
        Made by `create`.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, path: Path, plan: pd.DataFrame, config: SweepConfig) -> "SweepFolder":
        """Make the folder, or take the one of an earlier, stopped sweep of the same plan.

        The plan may have grown: rows can be added to a sweep, not changed or taken away.

        Raises
        ------
        InputError
            If the folder holds runs that the plan lacks or has otherwise, or another corpus.
        """
        folder = cls(path)
        if folder._config_path.is_file():
            folder._require_same(plan, config)
        check_folder(folder.path)
        for part in (folder.path / "runs", folder.claims, folder._failures):
            part.mkdir(parents=True, exist_ok=True)
            remove_temporary_files(part)
        write_plan(plan, folder._plan_path)
        write_json(folder._config_path, asdict(config))
        return folder

    @property
    def claims(self) -> Path:
        """Folder of the claims."""
        return self.path / "claims"

    def run_path(self, run_id: str) -> Path:
        """Folder of a run."""
        return self.path / "runs" / run_id

    def config(self) -> SweepConfig:
        """What is common to the runs."""
        if not self._config_path.is_file():
            what = "not a sweep's folder: it has no sweep.json"
            raise InputError(what, where=str(self.path), hint="Start one: allometry sweep run.")
        document = read_json(self._config_path)
        known = {field.name for field in fields(SweepConfig)}
        if unknown := [name for name in document if name not in known]:
            what = f"unknown fields: {', '.join(unknown)}"
            raise InputError(what, where=str(self._config_path))
        return SweepConfig(**document)

    def plan(self) -> pd.DataFrame:
        """The plan."""
        self.config()
        return read_plan(self._plan_path)

    def result(self, run_id: str) -> dict[str, Any] | None:
        """Result of a run that is over, diverged ones included."""
        path = self.run_path(run_id) / "result.json"
        return dict(read_json(path)) if path.is_file() else None

    def is_over(self, run_id: str) -> bool:
        """Whether a run needs no more work."""
        return (self.run_path(run_id) / "result.json").is_file()

    def status(self, run_id: str) -> dict[str, Any]:
        """What the run last said of itself; empty if nothing."""
        path = self.run_path(run_id) / "status.json"
        return dict(read_json(path)) if path.is_file() else {}

    def note_failure(self, run_id: str, error: str) -> None:
        """Record that a run raised: it is not tried again unless asked for."""
        document = {"run_id": run_id, "error": error, "host": socket.gethostname()}
        write_json(self._failures / f"{run_id}.json", {**document, "time": round(time.time(), 1)})

    def failure(self, run_id: str) -> str:
        """What went wrong with a run; empty if nothing did."""
        path = self._failures / f"{run_id}.json"
        return str(read_json(path)["error"]) if path.is_file() else ""

    def forget_failures(self) -> None:
        """Let runs that raised be tried again."""
        for path in self._failures.glob("*.json"):
            path.unlink(missing_ok=True)

    @property
    def _plan_path(self) -> Path:
        return self.path / "plan.csv"

    @property
    def _config_path(self) -> Path:
        return self.path / "sweep.json"

    @property
    def _failures(self) -> Path:
        return self.path / "failures"

    def _require_same(self, plan: pd.DataFrame, config: SweepConfig) -> None:
        there = self.config()
        before, now = (
            dict(zip(p.run_id, p.learning_rate, strict=True)) for p in (self.plan(), plan)
        )
        what, hint = "", "Choose another folder."
        if differing := [
            name
            for name in ("corpus", "entry", "settings")
            if getattr(there, name) != getattr(config, name)
        ]:
            what = f"holds a sweep with {_said(there, differing)}, this one has "
            what += _said(config, differing)
            hint = "Give what it began with (--corpus, --set), or choose another folder."
        elif gone := [run_id for run_id in before if run_id not in now]:
            what = f"holds {len(gone)} runs that the plan has not, the first {gone[0]}"
        elif changed := [
            run_id for run_id, rate in before.items() if not isclose(now[run_id], rate)
        ]:
            first = changed[0]
            what = f"holds {first} with learning rate {before[first]:g}, the plan has "
            what += f"{now[first]:g}"
        if what:
            raise InputError(what, where=str(self.path), hint=hint)


def _said(config: SweepConfig, names: Sequence[str]) -> str:
    said = {**asdict(config), "settings": _pairs(config.settings)}
    return ", ".join(f"{name} {said[name]}" for name in names)


def _pairs(settings: Mapping[str, Any] | None) -> str:
    return " ".join(f"{name}={value}" for name, value in (settings or {}).items()) or "none"


def plan_records(plan: pd.DataFrame) -> list[Mapping[str, Any]]:
    """Rows of a plan as mappings of plain values."""
    return [
        {str(name): getattr(value, "item", lambda v=value: v)() for name, value in row.items()}
        for row in plan.to_dict("records")
    ]
