"""Runs that could be made: those of a list, or a grid near those that were made."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.decisions.prediction import place_points
from allometry.errors import InputError
from allometry.inference import Posterior

BEYOND = 4.0
"""Candidates have at most so many times the params, or the tokens, of the largest fitted ones."""

WITHIN = 2.0
"""Least params and tokens, and tokens a param at both ends, this factor outside of the fitted."""

STEPS_PER_DOUBLING = (2.0, 1.0, 0.5)
"""Of params and of FLOPs: the finest grid that has no more than `MOST` candidates."""

MOST = 3000
MOST_GROUPS = 24

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Candidates:
    """Runs that could be made.

    Attributes
    ----------
    group : ndarray of int, shape (candidate,)
    params, tokens, flops : ndarray, shape (candidate,)
        FLOPs are those of the posterior's cost model.
    again : bool
        Whether one may be made more than once, with another seed.
    """

    group: npt.NDArray[np.int64]
    params: Floats
    tokens: Floats
    flops: Floats
    again: bool = True


def listed_runs(posterior: Posterior, table: pd.DataFrame, budget: float) -> Candidates:
    """Runs of a table that a budget can buy, each once.

    Parameters
    ----------
    posterior : Posterior
    table : DataFrame
        ``params``, ``tokens`` and group columns; a run without a group is one of every group.
    budget : float

    Raises
    ------
    InputError
        If the table cannot be used, or the budget buys none of its runs.
    """
    placed, index = place_points(posterior, table)
    params, tokens = (placed[name].to_numpy(dtype=np.float64) for name in ("params", "tokens"))
    flops = np.asarray(posterior.record.cost.flops(index, params, tokens))
    paid = flops <= budget
    if not paid.any():
        cheapest = f"the cheapest costs {flops.min():.3g}" if len(flops) else "there is none"
        raise InputError(f"{budget:.3g} FLOPs buy no run of the table: {cheapest}", where="budget")
    return Candidates(
        group=index[paid],
        params=params[paid],
        tokens=tokens[paid],
        flops=flops[paid],
        again=False,
    )


def candidate_runs(posterior: Posterior, groups: list[int], budget: float) -> Candidates:
    """Runs of groups that a budget can buy.

    A grid over params and FLOPs: the whole budget, and down from it by halves and less, so that
    what is left of the budget after a run can be spent. Of many groups the first `MOST_GROUPS`.

    Raises
    ------
    InputError
        If there is none.
    """
    kept = groups[:MOST_GROUPS]
    for steps in STEPS_PER_DOUBLING:
        parts = [_grid(posterior, group, budget, steps) for group in kept]
        if sum(len(part[0]) for part in parts) <= MOST:
            break
    index = np.repeat(np.asarray(kept, dtype=np.int64), [len(part[0]) for part in parts])
    params, tokens, flops = (np.concatenate(column) for column in zip(*parts, strict=True))
    if not len(index):
        cheapest = posterior.smallest_flops()[np.asarray(kept)].min()
        what = f"{budget:.3g} FLOPs buy no run: the smallest fitted one cost {cheapest:.3g}"
        raise InputError(what, where="budget", hint="Give a larger budget, or other groups.")
    return Candidates(group=index, params=params, tokens=tokens, flops=flops)


def _grid(
    posterior: Posterior, group: int, budget: float, steps: float
) -> tuple[Floats, Floats, Floats]:
    """Params, tokens and FLOPs of a group's candidates."""
    data = posterior.idata["constant_data"]
    fitted = [data[name].to_numpy().astype(np.float64) for name in ("params", "tokens")]
    own = data["group_index"].to_numpy() == posterior.alike()[group]
    params, tokens = fitted[0][own], fitted[1][own]
    cheapest = float(posterior.smallest_flops()[group])
    if budget < cheapest:
        return np.empty(0), np.empty(0), np.empty(0)
    halvings = np.arange(int(steps * np.log2(budget / cheapest)) + 1) / steps
    low, high = params.min() / WITHIN, params.max() * BEYOND
    sizes = np.geomspace(low, high, int(steps * np.log2(high / low)) + 2)
    size, flops = (grid.ravel() for grid in np.meshgrid(sizes, budget * 2.0**-halvings))
    bought = np.asarray(posterior.record.cost.tokens_at(np.full(len(size), group), flops, size))
    ratio, known = bought / size, tokens / params
    near = (bought >= tokens.min() / WITHIN) & (bought <= tokens.max() * BEYOND)
    near &= (ratio >= known.min() / WITHIN) & (ratio <= known.max() * WITHIN)
    return size[near], bought[near], flops[near]
