"""A worker: claims runs, cheapest first, and makes them until none is left.

Executors start it as ``python -m allometry.harness.sweep FOLDER``, or call `work`.
"""

import argparse
import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from allometry.errors import AllometryError, InputError, KernelError, RunError
from allometry.harness.sweep.claims import LOST_EXIT_CODE, heartbeat, release_all, try_claim
from allometry.harness.sweep.folder import SweepConfig, SweepFolder, plan_records

POLL_SECONDS = 1.0
REFUSED_EXIT_CODE = 76
"""Of a worker that met what would spoil every run: kernels that are wrong, a full disk."""

Entry = Callable[[Mapping[str, Any], Path, SweepConfig], None]


def work(folder: SweepFolder, *, parent: int = 0) -> int:
    """Make runs until every run of the sweep is over or has failed; return how many were made here.

    While other workers hold all that is left it waits: their claims become free if they die.

    Parameters
    ----------
    folder : SweepFolder
        The sweep.
    parent : int
        Process to die with; 0: nobody.

    Raises
    ------
    KernelError, RunError
        If no run can be made here; see `REFUSED_EXIT_CODE`.
    """
    rows = cheapest_first(folder)
    made = 0
    while rows:
        progressed = False
        for row in rows:
            if parent and os.getppid() != parent:
                sys.exit(LOST_EXIT_CODE)
            if make_run(folder, row, parent=parent):
                made, progressed = made + 1, True
                break  # from the cheapest on: one may have become free meanwhile
        rows = [row for row in rows if is_open(folder, row)]
        if rows and not progressed:
            time.sleep(POLL_SECONDS)
    return made


def cheapest_first(folder: SweepFolder) -> list[Mapping[str, Any]]:
    """Rows of the plan whose runs are open, by FLOPs and then in the plan's order."""
    rows = [row for row in plan_records(folder.plan()) if is_open(folder, row)]
    return sorted(rows, key=lambda row: row["flops"])


def is_open(folder: SweepFolder, row: Mapping[str, Any]) -> bool:
    """Whether a run still has to be made: it is not over and has not failed."""
    run_id = row["run_id"]
    return not folder.is_over(run_id) and not folder.failure(run_id)


def make_run(folder: SweepFolder, row: Mapping[str, Any], *, parent: int = 0) -> bool:
    """Make one run if it is open and nobody else holds it; say whether it was made here.

    What the run raises is recorded as its failure, unless it would befall every run.
    """
    run_id = row["run_id"]
    claim = try_claim(folder.claims, run_id) if is_open(folder, row) else None
    if claim is None:
        return False
    with heartbeat(claim, parent=parent):
        if not is_open(folder, row):  # over between the look and the claim
            return False
        path = folder.run_path(run_id)
        path.mkdir(parents=True, exist_ok=True)
        config = folder.config()
        try:
            entry_named(config.entry)(row, path, config)
            if not folder.is_over(run_id):
                raise RunError(f"{config.entry} returned without a result.json", where=str(path))
        except (KernelError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            if isinstance(error, RunError) and isinstance(error.__cause__, OSError):
                raise  # no space left: the next run would fare no better
            (path / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
            folder.note_failure(run_id, _one_line(error))
    return True


def make_run_when_free(folder: SweepFolder, row: Mapping[str, Any]) -> None:
    """Make one run; while another holds it, wait until it is over or its holder has died."""
    while is_open(folder, row) and not make_run(folder, row):
        time.sleep(POLL_SECONDS)


def entry_named(name: str) -> Entry:
    """Function of a ``module:function``."""
    module, _, function = name.partition(":")
    try:
        found: Entry = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"no entry {name!r}: {error}", hint="Give it as module:function."
        ) from error
    return found


def main() -> int:
    """Work as a process of its own; the exit code says why it ended."""
    parser = argparse.ArgumentParser(prog="python -m allometry.harness.sweep")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parent", type=int, default=0)
    arguments = parser.parse_args()
    folder = SweepFolder(arguments.folder)
    try:
        work(folder, parent=arguments.parent)
    except KeyboardInterrupt:
        release_all(folder.claims, os.getpid())  # it may have come before the heartbeat began
        return 130
    except AllometryError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201 (a process's own)
        return REFUSED_EXIT_CODE
    return 0


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, AllometryError) else f"{type(error).__name__}: {text}"
