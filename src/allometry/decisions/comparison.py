"""Which of two architectures has less loss, and how much compute that is worth."""

from collections.abc import Callable, Mapping
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.typing import ArrayLike

from allometry.decisions.asking import OPEN, Which, allow_names, wanted_labels, with_unseen
from allometry.decisions.optimum import optimum
from allometry.decisions.outlook import reach_columns
from allometry.decisions.questions import check_budgets
from allometry.errors import InputError
from allometry.inference import Posterior, interval_columns

ITERATIONS = 26
"""Of the root search: to 1e-6 decades, as a test checks."""

SPEEDUP_DECADES = 4.0
"""Largest compute multiple that is looked for, in decades, on both sides."""

Draws = npt.NDArray[np.float64]


def compare(
    posterior: Posterior,
    a: str,
    b: str,
    flops: ArrayLike,
    **which: Unpack[Which],
) -> pd.DataFrame:
    """Probability that `a` has less loss than `b` when both are trained compute-optimally.

    Parameters
    ----------
    posterior : Posterior
    a, b : str
        Values of the first group column (architectures).
    flops : array-like
        Training budgets in FLOPs, the same for both.
    which : Which
        ``context_length`` (by default every one that both have; if one of the two lacks it, it is
        predicted from the population), ``group`` (other columns), ``unseen`` (allow a name that no
        group has), ``force``.

    Returns
    -------
    DataFrame
        One row a context and budget: ``a``, ``b``, ``flops``, ``context_length`` (if there is
        one), ``unseen`` (whether one of the two was never run there), ``probability_a_better``,
        ``loss_difference_*`` (a minus b), and ``extrapolation_factor, distance_outside, reach`` of
        the one whose runs are farther from the budget; see `reach_columns`.
    """
    posterior, rows, index_a, index_b = pairs(posterior, a, b, flops, which)
    budgets = rows["flops"].to_numpy()
    losses, reaches = [], []
    for index in (index_a, index_b):
        params, tokens, log_loss = optimum(posterior, index, budgets)
        medians = (np.median(values, axis=0) for values in (params, tokens))
        losses.append(np.exp(log_loss))
        reaches.append(pd.DataFrame(reach_columns(posterior, index, budgets, *medians)))
    of_a, of_b = reaches
    farther = of_a.where(of_a["extrapolation_factor"] >= of_b["extrapolation_factor"], of_b)
    difference = losses[0] - losses[1]
    return rows.assign(
        probability_a_better=(difference < 0).mean(axis=0),
        **interval_columns("loss_difference", difference),
        **{str(name): values for name, values in farther.items()},
    )


def effective_speedup(
    posterior: Posterior,
    a: str,
    b: str,
    flops: ArrayLike,
    **which: Unpack[Which],
) -> pd.DataFrame:
    """Compute multiplier of `a` over `b` at equal loss: what b needs for a's loss, over a's budget.

    Parameters
    ----------
    posterior, a, b, flops, which
        As in `compare`; `flops` are the budgets of `a`.

    Returns
    -------
    DataFrame
        As `compare`, with ``speedup_*`` (above one: a is better), and ``probability_out_of_reach``,
        the share of draws in which b needs more than ten thousand times the compute, if it gets
        there at all; these draws count as infinite.
    """
    posterior, rows, index_a, index_b = pairs(posterior, a, b, flops, which)
    budgets = rows["flops"].to_numpy()
    target = best_loss(posterior, index_a, budgets)

    def excess(decades: Draws) -> Draws:
        return best_loss(posterior, index_b, budgets * 10.0**decades) - target

    decades = _root(excess, target.shape)
    unreachable = decades > SPEEDUP_DECADES - 1e-6
    speedup = np.where(unreachable, np.inf, 10.0**decades)
    return rows.assign(
        **interval_columns("speedup", speedup),
        probability_out_of_reach=unreachable.mean(axis=0),
    )


def _root(excess: Callable[[Draws], Draws], shape: tuple[int, ...]) -> Draws:
    """Where a falling function of decades is zero (Illinois rule); an end if it has one sign."""
    low, high = np.full(shape, -SPEEDUP_DECADES), np.full(shape, SPEEDUP_DECADES)
    at_low, at_high = excess(low), excess(high)
    outside = np.where(at_high > 0, SPEEDUP_DECADES, np.where(at_low < 0, -SPEEDUP_DECADES, np.nan))
    for _ in range(ITERATIONS):
        slope = np.where(at_high == at_low, 1.0, at_high - at_low)  # equal only once both are zero
        middle = np.clip((low * at_high - high * at_low) / slope, low, high)
        value = excess(middle)
        falls_later = value > 0
        low, at_low_new = (
            np.where(falls_later, middle, low),
            np.where(falls_later, value, at_low / 2),
        )
        high = np.where(falls_later, high, middle)
        at_high = np.where(falls_later, at_high / 2, value)
        at_low = at_low_new
    return np.where(np.isfinite(outside), outside, np.where(value > 0, low, high))


def best_loss(posterior: Posterior, index: npt.NDArray[np.int64], flops: Draws) -> Draws:
    """Log loss of compute-optimal runs, (draw, point), for groups and budgets by point."""
    return optimum(posterior, index, flops)[2]


def pairs(
    posterior: Posterior, a: str, b: str, flops: ArrayLike, which: Which
) -> tuple[Posterior, pd.DataFrame, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The posterior with both, rows of the answer, and group indices of a and b by row."""
    posterior.require_converged(force=which.get("force", False))
    budgets = check_budgets(flops)
    first, *others = posterior.groups.columns
    levels = set(posterior.groups[first].astype(str))
    if not posterior.record.by or (first in OPEN and not {a, b} <= levels):
        raise posterior.not_grouped_by(["architecture"])
    if a == b:
        raise InputError(f"{a} is compared with itself", hint="Name two different ones.")
    wanted = wanted_labels(posterior, {**which, "architecture": None})
    for name in (a, b):
        allow_names(posterior, {first: name}, unseen=which.get("unseen", False))
    allow_names(posterior, wanted, unseen=which.get("unseen", False))
    found = _shared(posterior, a, b, wanted)
    if found.empty:
        posterior = _with_both(posterior, a, b, wanted)
        found = _shared(posterior, a, b, wanted)
    if found.empty:
        known = "; ".join("/".join(map(str, r)) for r in posterior.groups.itertuples(index=False))
        hint = f"The posterior has {known}. Name a context to predict one of them there."
        raise InputError(f"{a} and {b} share no group", hint=hint)
    repeated = found.loc[found.index.repeat(len(budgets))].reset_index(drop=True)
    index_a, index_b = (repeated[f"_index_{s}"].to_numpy(dtype=np.int64) for s in ("a", "b"))
    rows = pd.DataFrame({"a": a, "b": b, "flops": np.tile(budgets, len(found))})
    rows = rows.assign(**{name: repeated[name].to_numpy() for name in others})
    rows = rows.assign(unseen=posterior.unseen[index_a] | posterior.unseen[index_b])
    return posterior, rows, index_a, index_b


def _shared(posterior: Posterior, a: str, b: str, wanted: Mapping[str, Any]) -> pd.DataFrame:
    """Groups that differ in nothing but the first column, one row a pair."""
    groups = posterior.groups.assign(_index=np.arange(len(posterior.groups)))
    first, *others = posterior.groups.columns
    for name, value in wanted.items():
        groups = groups[groups[name].astype(str) == str(value)]
    of_a, of_b = (groups[groups[first].astype(str) == name] for name in (a, b))
    how: dict[str, Any] = {"on": others} if others else {"how": "cross"}
    return of_a.merge(of_b, **how, suffixes=("_a", "_b"))


def _with_both(posterior: Posterior, a: str, b: str, wanted: Mapping[str, Any]) -> Posterior:
    """The posterior with the groups that a and b lack: at what is asked, or where the other is."""
    groups = posterior.groups
    first, *others = groups.columns
    levels = groups[first].astype(str)
    unknown = [name for name in (a, b) if name not in set(levels)]
    if not wanted and not unknown:
        return posterior
    places = groups[others] if len(unknown) == 2 else groups.loc[levels.isin([a, b]), others]
    places = places.assign(**wanted).drop_duplicates() if others else pd.DataFrame(index=[0])
    asked = pd.concat([places.assign(**{first: name}) for name in (a, b)])[list(groups.columns)]
    known = groups.astype(str).agg("/".join, axis=1)
    lost = asked[~asked.astype(str).agg("/".join, axis=1).isin(known)]
    return with_unseen(posterior, lost)
