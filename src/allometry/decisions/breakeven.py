"""Where one architecture overtakes another: the budget, and the context, of equal loss."""

import warnings
from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.typing import ArrayLike

from allometry.decisions.asking import (
    UnseenGroupWarning,
    Which,
    allow_names,
    wanted_labels,
    with_unseen,
)
from allometry.decisions.comparison import best_loss, pairs
from allometry.decisions.questions import check_budgets
from allometry.errors import InputError
from allometry.inference import Posterior, interval_columns

Draws = npt.NDArray[np.float64]

BUDGETS = 49
"""Budgets between the ends of a range at which both are compared."""

CONTEXTS = 15
"""Contexts between the ends, beside those that were run."""

BEYOND = 100.0
"""The range of budgets ends at this factor beyond the largest run of the two."""


def break_even_budget(
    posterior: Posterior,
    a: str,
    b: str,
    *,
    flops_low: float | None = None,
    flops_high: float | None = None,
    **which: Unpack[Which],
) -> pd.DataFrame:
    """Budget at which compute-optimal runs of `a` and of `b` have equal loss.

    Parameters
    ----------
    posterior : Posterior
    a, b : str
        Values of the first group column (architectures).
    flops_low, flops_high : float, optional
        Range of budgets in FLOPs; by default from the smallest run of the two to a hundred times
        the largest.
    which : Which
        As in `compare`.

    Returns
    -------
    DataFrame
        One row a context: ``a``, ``b``, ``context_length`` (if there is one), ``unseen``,
        ``flops_low``, ``flops_high``; ``break_even_flops_*`` among the draws that have one; and the
        four ways to go, which add to one: ``probability_a_takes_over``,
        ``probability_b_takes_over`` (better at the upper end and not at the lower one),
        ``probability_a_throughout`` and ``probability_b_throughout`` (no break-even in range).

    Raises
    ------
    NotConvergedError, InputError
        As `compare`; also if the range is not one.
    """
    posterior, rows, index_a, index_b = pairs(posterior, a, b, [1.0], which)
    smallest, largest = posterior.smallest_flops(), posterior.largest_flops()
    found = []
    for i, (g, h) in enumerate(zip(index_a, index_b, strict=True)):
        low = flops_low or float(min(smallest[g], smallest[h]))
        high = flops_high or BEYOND * float(max(largest[g], largest[h]))
        _require_range(low, high, "flops")
        grid = np.geomspace(low, high, BUDGETS)
        difference = _difference(posterior, np.full(BUDGETS, g), np.full(BUDGETS, h), grid)
        labels = rows.iloc[[i]].drop(columns="flops").reset_index(drop=True)
        labels = labels.assign(flops_low=low, flops_high=high)
        found.append(labels.assign(**_outcome("break_even_flops", difference, grid)))
    return pd.concat(found, ignore_index=True)


def break_even_context(
    posterior: Posterior,
    a: str,
    b: str,
    flops: ArrayLike,
    *,
    context_low: int | None = None,
    context_high: int | None = None,
    **which: Unpack[Which],
) -> pd.DataFrame:
    """Context length at which compute-optimal runs of `a` and of `b` have equal loss.

    Contexts that were run are what they are; between and beyond them both architectures are
    predicted from the population, so that the interval knows how little two or three contexts tell.

    Parameters
    ----------
    posterior : Posterior
        Of runs grouped by an architecture and ``context_length``.
    a, b : str
        Values of the first group column.
    flops : array-like
        Training budgets in FLOPs, the same for both.
    context_low, context_high : int, optional
        Range of contexts in tokens; by default from half the shortest that was run to four times
        the longest.
    which : Which
        ``group`` (values of further columns), ``unseen``, ``force``.

    Returns
    -------
    DataFrame
        One row a budget: ``a``, ``b``, ``flops``, ``context_low``, ``context_high``;
        ``break_even_context_*`` among the draws that have one, and the probabilities of
        `break_even_budget`, from short to long contexts.

    Warns
    -----
    UnseenGroupWarning
        That contexts which were not run are predicted.
    """
    budgets = check_budgets(flops)
    if "context_length" not in posterior.groups:
        raise posterior.not_grouped_by(["context_length"])
    run = posterior.groups["context_length"].astype(int)
    low = context_low or max(int(run.min()) // 2, 1)
    high = context_high or 4 * int(run.max())
    _require_range(low, high, "contexts")
    inside = sorted({int(c) for c in run if low <= c <= high})
    grid = np.unique([*np.geomspace(low, high, CONTEXTS).round().astype(int), *inside])
    wanted = wanted_labels(posterior, {**which, "architecture": None, "context_length": None})
    others = [str(n) for n in posterior.groups.columns[1:] if n not in ("context_length", *wanted)]
    if any(posterior.groups[name].nunique() > 1 for name in others):
        raise InputError(f"several {', '.join(others)} at one context", hint="Name one (--group).")
    for name in (a, b):
        allow_names(
            posterior, {posterior.groups.columns[0]: name}, unseen=which.get("unseen", False)
        )
    with warnings.catch_warnings():  # one sentence below says it for all of them
        warnings.simplefilter("ignore", UnseenGroupWarning)
        extended = _with_contexts(posterior, a, b, grid, wanted)
    if extended is not posterior:
        text = f"contexts other than {', '.join(map(str, inside)) or 'none'} were never run: "
        text += "both architectures are predicted there from the population of groups"
        warnings.warn(text, UnseenGroupWarning, stacklevel=2)
    return _over_contexts(extended, a, b, grid, budgets, which)


def _with_contexts(
    posterior: Posterior,
    a: str,
    b: str,
    contexts: npt.NDArray[np.int64],
    wanted: Mapping[str, Any],
) -> Posterior:
    """The posterior with both architectures at every context, all that are new drawn together."""
    groups = posterior.groups
    constant = {n: groups[n].iloc[0] for n in groups.columns[1:] if n != "context_length"}
    labels = pd.DataFrame({groups.columns[0]: np.repeat([a, b], len(contexts))})
    labels = labels.assign(**constant).assign(**wanted)
    labels = labels.assign(context_length=np.tile(contexts, 2))[list(groups.columns)]
    known = groups.astype(str).agg("/".join, axis=1)
    lost = labels[~labels.astype(str).agg("/".join, axis=1).isin(known)]
    return posterior if lost.empty else with_unseen(posterior, lost)


def _over_contexts(
    posterior: Posterior,
    a: str,
    b: str,
    contexts: npt.NDArray[np.int64],
    budgets: Draws,
    which: Which,
) -> pd.DataFrame:
    found = []
    every: Which = {**which, "architecture": None, "context_length": None}
    for budget in budgets:
        _, rows, index_a, index_b = pairs(posterior, a, b, [budget], every)
        own = rows["context_length"].astype(int)
        order = np.argsort(own.to_numpy(), kind="stable")
        order = order[np.isin(own.to_numpy()[order], contexts)]
        flops = np.full(len(order), budget)
        difference = _difference(posterior, index_a[order], index_b[order], flops)
        labels = {"a": a, "b": b, "flops": budget}
        labels |= {"context_low": int(contexts[0]), "context_high": int(contexts[-1])}
        place: Draws = np.asarray(own, dtype=np.float64)[order]
        row = pd.DataFrame([labels]).assign(**_outcome("break_even_context", difference, place))
        found.append(row)
    return pd.concat(found, ignore_index=True)


def _difference(
    posterior: Posterior,
    index_a: npt.NDArray[np.int64],
    index_b: npt.NDArray[np.int64],
    flops: Draws,
) -> Draws:
    """Log loss of a over b, (draw, point): negative where a is better."""
    return best_loss(posterior, index_a, flops) - best_loss(posterior, index_b, flops)


def _outcome(name: str, difference: Draws, at: Draws) -> dict[str, Any]:
    """Where a difference (draw, point) changes its sign between both ends, and how often."""
    first, last = difference[:, 0] < 0, difference[:, -1] < 0
    crosses = first != last
    place = crossing(difference[crosses], at)
    return {
        **interval_columns(name, place if len(place) else np.full(1, np.nan)),
        "probability_a_takes_over": float((~first & last).mean()),
        "probability_b_takes_over": float((first & ~last).mean()),
        "probability_a_throughout": float((first & last).mean()),
        "probability_b_throughout": float((~first & ~last).mean()),
    }


def crossing(difference: Draws, at: Draws) -> Draws:
    """First place at which each row has not the sign of its first point, on a log axis.

    Rows must have the other sign somewhere.
    """
    rows = np.arange(len(difference))
    changed = (difference < 0) != (difference[:, :1] < 0)
    after = changed.argmax(axis=1)
    before = np.maximum(after - 1, 0)
    low, high = difference[rows, before], difference[rows, after]
    share = low / (low - high)
    return np.asarray(np.exp((1 - share) * np.log(at[before]) + share * np.log(at[after])))


def _require_range(low: float, high: float, where: str) -> None:
    if not (0 < low < high < np.inf):
        raise InputError(f"{low:g} to {high:g} is not a range", where=where)
