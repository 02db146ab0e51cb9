"""Curves over sizes, draw by draw: where they are least, and where they pass a level."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from allometry.decisions.optimum import off_optimum, optimum
from allometry.decisions.outlook import law_draws
from allometry.inference import Posterior
from allometry.inference.evaluate import log_loss_at

Draws = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float64]

POINTS = 161
"""Sizes of a valley's grid."""

FIRST_WIDTH, WIDENED, WIDENINGS = 6.0, 4.0, 3
"""A grid reaches a factor 6 beyond the 98 % interval of N*, then 4 times that, at most 3 times."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Valley:
    """Loss against params at one budget in one group, draw by draw.

    Attributes
    ----------
    params, tokens : ndarray, shape (point,)
        Sizes, and the tokens that the budget buys each.
    log_loss : ndarray, shape (draw, point)
        Of the law with its discrepancy.
    best_params, best_log_loss : ndarray, shape (draw,)
        The compute optimum of each draw.
    """

    params: Floats
    tokens: Floats
    log_loss: Draws
    best_params: Draws
    best_log_loss: Draws

    @property
    def relative_regret(self) -> Draws:
        """Loss above the best that the budget can buy, over that best, (draw, point); not negative.

        See `in_loss` for the loss itself.
        """
        return np.maximum(self.signed_relative_regret, 0.0)

    @property
    def signed_relative_regret(self) -> Draws:
        """Below zero where a shape costs less than the cost model says of its size."""
        return np.asarray(np.expm1(self.log_loss - self.best_log_loss[:, None]))

    def in_loss(self, relative: Draws) -> Draws:
        """A regret over the best loss (draw, point) in the unit of loss."""
        return np.asarray(np.exp(self.best_log_loss)[:, None] * relative)


def valley(
    posterior: Posterior,
    group: int,
    flops: float,
    *,
    params: Floats | None = None,
    tokens: Floats | None = None,
    above: float = 0.0,
    points: int = POINTS,
    share: float = 0.98,
) -> Valley:
    """The valley of a group at a budget.

    Parameters
    ----------
    posterior : Posterior
    group : int
        Group index.
    flops : float
        Training budget in FLOPs.
    params : ndarray, optional
        These sizes instead of a grid around the optimum.
    tokens : ndarray, optional
        What the budget buys each of these sizes, where that is known better than by the cost model.
    above : float
        The grid is widened until 99 % of draws have this relative regret at both of its ends.
    points : int
        Sizes of the grid.
    share : float
        Draws whose optimum the grid holds before it is widened, the middle ones.
    """
    at = np.array([group])
    cost = posterior.record.cost
    draws, budget = law_draws(posterior, at), np.array([flops])
    best, _, best_log_loss = optimum(posterior, at, budget)

    def along(sizes: Floats) -> Valley:
        many = np.full(len(sizes), group)
        bought = np.asarray(cost.tokens_at(many, flops, sizes)) if tokens is None else tokens
        log_loss, _ = log_loss_at(draws, sizes, bought)
        return Valley(
            params=sizes,
            tokens=bought,
            log_loss=off_optimum(posterior, many, np.full(len(sizes), flops), sizes, log_loss),
            best_params=best[:, 0],
            best_log_loss=best_log_loss[:, 0],
        )

    if params is not None:
        return along(np.asarray(params, dtype=np.float64))
    low, high = np.quantile(best[:, 0], [(1 - share) / 2, (1 + share) / 2])
    width = FIRST_WIDTH
    for _ in range(WIDENINGS):
        found = along(np.geomspace(low / width, high * width, points))
        ends = np.expm1(found.log_loss[:, [0, -1]] - best_log_loss)
        if (ends > above).mean(axis=0).min() > 0.99:
            break
        width *= WIDENED
    return found


def least(values: Draws, log_x: Floats) -> tuple[Draws, Draws]:
    """Where each row of `values` (draw, point) is least between grid points, and how much it is.

    A parabola through the least point and its neighbours; at an end of the grid, the end. Values
    that are not finite are never chosen; next to one the grid point itself is taken.
    """
    finite = np.where(np.isfinite(values), values, np.inf)
    index = finite.argmin(axis=1)
    rows = np.arange(len(values))
    inner = np.clip(index, 1, len(log_x) - 2)
    before, here, after = (finite[rows, inner + step] for step in (-1, 0, 1))
    step = log_x[1] - log_x[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        curvature = before - 2 * here + after
        shift = 0.5 * (before - after) / curvature
        bottom = here - 0.125 * (before - after) ** 2 / curvature
    fits = (index == inner) & np.isfinite(shift) & (np.abs(shift) <= 1)
    place = np.where(fits, log_x[inner] + shift * step, log_x[index])
    return place, np.where(fits, bottom, finite[rows, index])


def band(curve: Draws, level: float, log_x: Floats) -> tuple[Draws, Draws]:
    """Ends of the stretch around each row's least value in which `curve` is at most `level`.

    Linear between grid points; NaN where the row passes the level nowhere, and an end of the grid
    where it stays below up to there.
    """
    rows, points = curve.shape
    at = curve.argmin(axis=1)
    place = np.arange(points)
    over = curve > level
    # The last point over the level left of the minimum, and the first one right of it.
    before, after = over & (place < at[:, None]), over & (place > at[:, None])
    left = np.where(before.any(axis=1), points - 1 - before[:, ::-1].argmax(axis=1), -1)
    right = np.where(after.any(axis=1), after.argmax(axis=1), points)
    every = np.arange(rows)

    def between(outside: npt.NDArray[np.int64], inside: npt.NDArray[np.int64]) -> Draws:
        out = np.clip(outside, 0, points - 1)
        high, low = curve[every, out], curve[every, np.clip(inside, 0, points - 1)]
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(high > low, (level - low) / (high - low), 0.0)
        start = log_x[np.clip(inside, 0, points - 1)]
        return np.asarray(start + share * (log_x[out] - start))

    low = np.where(left < 0, log_x[0], between(left, left + 1))
    high = np.where(right >= points, log_x[-1], between(right, right - 1))
    never = curve.min(axis=1) > level
    return np.where(never, np.nan, low), np.where(never, np.nan, high)
