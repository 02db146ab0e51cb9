"""Leaving runs out, to be predicted: each group's largest budget, or all above a cutoff."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from allometry.errors import InputError
from allometry.inference.groups import group_runs
from allometry.observations import Exclusion, Runs

SAME_BUDGET = 0.2
"""Decades of compute within which runs belong to one budget: realised FLOPs scatter by 10 %."""

LARGEST_SHARE = 0.1
"""Share of a group's runs that its largest budget has at least."""


def run_flops(table: pd.DataFrame) -> pd.Series:
    """Training FLOPs of each run: the table's, or 6 N D where it has none."""
    six_nd = 6.0 * table["params"] * table["tokens"]
    return table["flops"].fillna(six_nd) if "flops" in table else six_nd


def largest_budget(table: pd.DataFrame, by: Sequence[str] | None = None) -> pd.Series:
    """Whether a run belongs to the largest budget of its group.

    That is the runs within `SAME_BUDGET` of the group's largest, or the largest tenth of the group
    where these are more: tables without budgets have a top run and not a top budget.
    """
    groups = group_runs(table, by)
    decades = np.log10(run_flops(table))
    by_group = decades.groupby(groups.index)
    near_top = decades > by_group.transform("max") - SAME_BUDGET
    in_tenth = by_group.rank(ascending=False, method="first") <= LARGEST_SHARE * by_group.transform(
        "size"
    )
    largest: pd.Series = near_top | in_tenth
    return largest


def without_largest(runs: Runs, *, by: Sequence[str] | None = None) -> Runs:
    """The runs without each group's largest budget; what was left out is in `excluded`.

    Raises
    ------
    InputError
        If nothing is left.
    """
    return leave_out(
        runs, largest_budget(runs.table, by or runs.by or None), "held out: largest budget"
    )


def leave_out(runs: Runs, held_out: pd.Series, reason: str) -> Runs:
    """The runs that are not held out, with the others recorded as excluded."""
    kept = runs.table[~held_out].reset_index(drop=True)
    if kept.empty:
        raise InputError("no run is left to fit", where=runs.source, hint="Hold out fewer runs.")
    rows = runs.table[held_out]
    names = rows["run_id"].astype(str) if "run_id" in rows else pd.Series([None] * len(rows))
    gone = tuple(
        Exclusion(row=int(row), run_id=name, reason=reason)
        for row, name in zip(rows.index, names, strict=True)
    )
    return replace(runs, table=kept, excluded=(*runs.excluded, *gone))
