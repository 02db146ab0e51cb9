"""How far a sweep is: a state for each run, and the sum of them."""

import time
from typing import Any

import pandas as pd

from allometry.harness.sweep.claims import holder_of
from allometry.harness.sweep.folder import SweepFolder, plan_records

STATES = ("finished", "diverged", "failed", "running", "stopped", "waiting")
"""Of a run. ``stopped``: it began, and nobody works on it now."""


class SweepStatus:
    """Reader of a sweep's folder that looks at runs that are over only once.

    Parameters
    ----------
    folder : SweepFolder
        The sweep.
    """

    def __init__(self, folder: SweepFolder) -> None:
        self._folder = folder
        self._rows = plan_records(folder.plan())
        self._over: dict[str, dict[str, Any]] = {}
        self._start: tuple[float, float] | None = None

    def table(self) -> pd.DataFrame:
        """State of every run, in the plan's order.

        Returns
        -------
        DataFrame
            run_id, state, flops, done (share of the steps), loss, holder (host and process) and
            error (of failed and diverged runs).
        """
        return pd.DataFrame([self._of(row) for row in self._rows])

    def summary(self, table: pd.DataFrame) -> dict[str, Any]:
        """Runs by state, FLOPs done and planned, and seconds left at the pace since the first call.

        Diverged and failed runs count as done. `seconds_left` is None until something was done.
        """
        done = float((table.flops * table.done).sum())
        total = float(table.flops.sum())
        now = time.monotonic()
        self._start = self._start or (now, done)
        gained, elapsed = done - self._start[1], now - self._start[0]
        counts = table.state.value_counts()
        return {
            "runs": len(table),
            **{state: int(counts.get(state, 0)) for state in STATES},
            "flops_done": done,
            "flops": total,
            "seconds_left": elapsed / gained * (total - done) if gained > 0 else None,
        }

    def _of(self, row: Any) -> dict[str, Any]:
        run_id = row["run_id"]
        known = self._over.get(run_id)
        if known is not None:
            return known
        folder = self._folder
        base = {"run_id": run_id, "state": "", "flops": row["flops"], "done": 1.0, "loss": None}
        base |= {"holder": "", "error": ""}
        if result := folder.result(run_id):
            state = "diverged" if result.get("diverged") else "finished"
            error = str(result.get("reason") or "")
            self._over[run_id] = {**base, "state": state, "loss": result["loss"], "error": error}
            return self._over[run_id]
        if error := folder.failure(run_id):
            return {**base, "state": "failed", "error": error}
        status = folder.status(run_id)
        done = status.get("step", 0) / status["steps"] if status.get("steps") else 0.0
        holder = holder_of(folder.claims, run_id)
        state = "running" if holder else "stopped" if status else "waiting"
        return {**base, "state": state, "done": done, "holder": holder}
