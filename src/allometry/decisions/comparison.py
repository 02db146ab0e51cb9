"""Which of two architectures has less loss, and how much compute that is worth."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.typing import ArrayLike

from allometry.decisions.outlook import drifted, law_draws
from allometry.decisions.questions import check_budgets
from allometry.errors import InputError
from allometry.inference import Posterior, interval_columns
from allometry.inference.evaluate import compute_optimal

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
    *,
    context_length: int | None = None,
    force: bool = False,
) -> pd.DataFrame:
    """Probability that `a` has less loss than `b` when both are trained compute-optimally.

    Parameters
    ----------
    posterior : Posterior
    a, b : str
        Values of the first group column (architectures).
    flops : array-like
        Training budgets in FLOPs, the same for both.
    context_length : int, optional
        By default every context length that both have.
    force : bool
        Answer although the fit did not converge.

    Returns
    -------
    DataFrame
        One row a context and budget: ``a``, ``b``, ``flops``, ``context_length`` (if there is
        one), ``probability_a_better`` and ``loss_difference_*`` (a minus b).
    """
    rows, index_a, index_b, budgets = _pairs(posterior, a, b, flops, context_length, force)
    difference = np.exp(_best_loss(posterior, index_a, budgets)) - np.exp(
        _best_loss(posterior, index_b, budgets)
    )
    return rows.assign(
        probability_a_better=(difference < 0).mean(axis=0),
        **interval_columns("loss_difference", difference),
    )


def effective_speedup(
    posterior: Posterior,
    a: str,
    b: str,
    flops: ArrayLike,
    *,
    context_length: int | None = None,
    force: bool = False,
) -> pd.DataFrame:
    """Compute multiplier of `a` over `b` at equal loss: what b needs for a's loss, over a's budget.

    Parameters
    ----------
    posterior, a, b, flops, context_length, force
        As in `compare`; `flops` are the budgets of `a`.

    Returns
    -------
    DataFrame
        As `compare`, with ``speedup_*`` (above one: a is better), and ``probability_out_of_reach``,
        the share of draws in which b needs more than ten thousand times the compute, if it gets
        there at all; these draws count as infinite.
    """
    rows, index_a, index_b, budgets = _pairs(posterior, a, b, flops, context_length, force)
    target = _best_loss(posterior, index_a, budgets)

    def excess(decades: Draws) -> Draws:
        return _best_loss(posterior, index_b, budgets * 10.0**decades) - target

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


def _best_loss(posterior: Posterior, index: npt.NDArray[np.int64], flops: Draws) -> Draws:
    draws = law_draws(posterior, index)
    _, _, log_loss = compute_optimal(draws, posterior.record.cost, index, flops)
    return drifted(posterior, index, flops, log_loss)


def _pairs(
    posterior: Posterior,
    a: str,
    b: str,
    flops: ArrayLike,
    context_length: int | None,
    force: bool,
) -> tuple[pd.DataFrame, npt.NDArray[np.int64], npt.NDArray[np.int64], Draws]:
    """Rows of the answer, group indices of a and b, and budgets, one entry a question."""
    posterior.require_converged(force=force)
    budgets = check_budgets(flops)
    groups = posterior.groups
    first = groups.columns[0]
    levels = groups[first].astype(str).unique()
    if unknown := [name for name in (a, b) if name not in levels]:
        what = f"no {first} {', '.join(unknown)}"
        raise InputError(what, hint=f"The posterior has {', '.join(levels)}.")
    if a == b:
        raise InputError(f"{a} is compared with itself", hint="Name two different ones.")
    others = list(groups.columns[1:])
    keyed = groups.assign(_index=np.arange(len(groups)))
    of_a, of_b = (keyed[keyed[first].astype(str) == name] for name in (a, b))
    if others:
        pairs = of_a.merge(of_b, on=others, suffixes=("_a", "_b"))
    else:
        pairs = of_a.merge(of_b, how="cross", suffixes=("_a", "_b"))
    if context_length is not None and "context_length" in others:
        pairs = pairs[pairs["context_length"] == context_length]
    if pairs.empty:
        what = f"{a} and {b} share no group" + (
            f" at context_length {context_length}" if context_length is not None else ""
        )
        known = "; ".join("/".join(map(str, row)) for row in groups.itertuples(index=False))
        raise InputError(what, hint=f"The posterior has {known}.")
    repeated = pairs.loc[pairs.index.repeat(len(budgets))].reset_index(drop=True)
    all_budgets = np.tile(budgets, len(pairs))
    rows = pd.DataFrame({"a": a, "b": b, "flops": all_budgets})
    rows = rows.assign(**{name: repeated[name].to_numpy() for name in others})
    index_a, index_b = (repeated[f"_index_{s}"].to_numpy(dtype=np.int64) for s in ("a", "b"))
    return rows, index_a, index_b, all_budgets
