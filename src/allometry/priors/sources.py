"""Was a study one of those that a prior was made of? Then it must not begin with that prior."""

import base64
import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.observations import Runs
from allometry.observations.catalogue import TABLES
from allometry.priors.file import PriorFile

Array = npt.NDArray[np.float64]

MARK_BYTES = 3
"""Of a run: among 10,000 marks, one of another run is found there by chance in one of 1,700."""

MARKS = "run_marks"
"""Where a prior's provenance keeps the marks of the runs behind it."""

SHARED = 0.5
"""Share of a study's runs among a prior's from which on it counts as one of its sources."""


def run_marks(params: Array, tokens: Array, loss: Array) -> tuple[str, ...]:
    """A short hash of each run's params and tokens to four digits and loss to five."""
    lines = (f"{n:.3e} {d:.3e} {x:.4e}" for n, d, x in zip(params, tokens, loss, strict=True))
    return tuple(
        base64.b64encode(hashlib.blake2b(line.encode(), digest_size=MARK_BYTES).digest()).decode()
        for line in lines
    )


def joined_marks(tables: Iterable[tuple[Array, Array, Array]]) -> str:
    """Marks of the runs of several tables, as one text of four characters a run."""
    return "".join(sorted({mark for table in tables for mark in run_marks(*table)}))


def _as_list(value: object) -> list[str]:
    if isinstance(value, list):
        return [str(part) for part in value]
    return [part.strip() for part in str(value).split(",")] if value else []


def shared_source(file: PriorFile, runs: Runs) -> str:
    """What a prior and a study have in common, in words; empty if nothing is known.

    The same file, registered table or paper; or half of the study's runs among the prior's.
    """
    known = file.provenance
    if runs.sha256 in _as_list(known.get("sha256")):
        return "it was made from this table"
    if runs.source in TABLES and runs.source in _as_list(known.get("source")):
        return f"it was made from the table {runs.source}"
    if runs.source in TABLES and TABLES[runs.source].paper in known.get("papers", ()):
        return f"it was made from other runs of {TABLES[runs.source].paper}"
    found = _shared_runs(str(known.get(MARKS, "")), runs.table)
    if found >= SHARED * len(runs.table):
        return f"{found} of these {len(runs.table)} runs are among those that it was made from"
    return ""


def _shared_runs(marks: str, table: pd.DataFrame) -> int:
    width = len(base64.b64encode(bytes(MARK_BYTES)))
    theirs = {marks[i : i + width] for i in range(0, len(marks), width)}
    columns = (table[name].to_numpy(dtype=np.float64) for name in ("params", "tokens", "loss"))
    return sum(mark in theirs for mark in run_marks(*columns))
