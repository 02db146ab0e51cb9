"""Which runs are hidden from a fit, to be predicted by it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.errors import InputError
from allometry.inference.groups import group_runs
from allometry.inference.holdout import largest_budget, leave_out, run_flops
from allometry.observations import Runs
from allometry.observations.expressions import select_rows

MIN_RUNS_A_GROUP = 4
"""A group with fewer runs left is not predicted: nothing of it would be its own."""

MIN_TRAIN_RUNS = 20
MIN_TRAIN_DECADES = 0.6
"""What a cutoff of ``every`` must leave to fit: runs, and decades of compute between them."""

MIN_TEST_RUNS = 5
"""Runs that a cutoff of ``every`` hides at least."""

MAX_CUTOFFS = 5


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Split:
    """Runs to fit and runs to predict.

    Attributes
    ----------
    train : Runs
    test : DataFrame
        Hidden runs of groups that `train` has, with ``_flops`` and ``_distance``, their training
        compute over the largest left in their group.
    cutoff_flops : float
        Training compute of the largest run that was left.
    """

    train: Runs
    test: pd.DataFrame
    cutoff_flops: float


def splits(runs: Runs, holdout: str) -> list[Split]:
    """Ways to hide runs.

    Parameters
    ----------
    runs : Runs
    holdout : str
        ``largest``: each group's largest budget. ``every``: all runs above a cutoff, for up to
        `MAX_CUTOFFS` cutoffs between budgets. Else a condition such as ``flops>1e20``: the rows
        that fulfil it.

    Raises
    ------
    InputError
        If nothing is left to fit or to predict.
    """
    table = runs.table
    if holdout == "largest":
        hidden = [largest_budget(table, runs.by or None)]
    elif holdout == "every":
        flops = run_flops(table)
        hidden = [flops > cutoff for cutoff in budget_cutoffs(flops.to_numpy(dtype=np.float64))]
    else:
        shown = table if "flops" in table else table.assign(flops=run_flops(table))
        try:
            hidden = [select_rows(shown, holdout)]
        except InputError as error:
            hint = 'Write largest, every, or a condition such as "flops > 1e20".'
            raise InputError(error.what, where="holdout", hint=hint) from error
    found = [_split(runs, rows, holdout) for rows in hidden]
    kept = [split for split in found if split is not None]
    if not kept:
        what = f"holdout {holdout} leaves no group with both {MIN_RUNS_A_GROUP} runs and a test run"
        hint = 'Hold out other runs, such as holdout="flops>1e20" (--holdout).'
        raise InputError(what, where=runs.source, hint=hint)
    return kept


def budget_cutoffs(flops: npt.NDArray[np.float64]) -> list[float]:
    """Compute to cut at: even steps of log compute, each moved to the widest gap near it."""
    decades = np.sort(np.log10(flops))
    if len(decades) < MIN_TRAIN_RUNS + MIN_TEST_RUNS:
        return []
    span = decades[-1] - decades[0]
    low = max(decades[0] + max(MIN_TRAIN_DECADES, span / 4), decades[MIN_TRAIN_RUNS - 1])
    high = decades[-MIN_TEST_RUNS]
    if low >= high:
        return []
    steps = np.linspace(low, high, MAX_CUTOFFS)
    reach = (high - low) / (MAX_CUTOFFS - 1) / 2
    middles, widths = (decades[1:] + decades[:-1]) / 2, np.diff(decades)
    found = []
    for step in steps:
        near = np.abs(middles - step) <= reach
        allowed = near & (middles >= low) & (middles <= high) & (widths > 0)
        if allowed.any():
            found.append(float(middles[allowed][np.argmax(widths[allowed])]))
    return [float(10.0**cutoff) for cutoff in dict.fromkeys(found)]


def _split(runs: Runs, hidden: pd.Series, holdout: str) -> Split | None:
    if not hidden.any() or hidden.all():
        return None
    table = runs.table
    groups = pd.Series(group_runs(table, runs.by or None).index, index=table.index)
    flops = run_flops(table)
    left = (~hidden).groupby(groups).transform("sum")
    train = leave_out(runs, hidden, f"held out: {holdout}")
    top = flops.where(~hidden).groupby(groups).transform("max")
    predictable = hidden & (left >= MIN_RUNS_A_GROUP)
    if not predictable.any():
        return None
    test = table.assign(_flops=flops, _distance=flops / top)[predictable].reset_index(drop=True)
    return Split(train=train, test=test, cutoff_flops=float(flops[~hidden].max()))
