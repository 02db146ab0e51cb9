"""How far a discrepancy tilts a group's valleys: its slope along iso-compute curves, by budget.

Where log loss gets the discrepancy, the optimum of a budget moves by minus this slope over the
valley's curvature: by several times what the law's own coefficients leave open, far from the runs.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from allometry.inference.discrepancy import discrepancy_at, discrepancy_between, study_scale
from allometry.inference.drift import draw_far

if TYPE_CHECKING:
    from allometry.inference.posterior import Posterior

Array = npt.NDArray[np.float64]

SIDE = 0.5
"""e-folds of params on both sides of the optimum between which slopes and curvatures are taken."""

BEFORE, BEYOND, NODES = 3.0, 9.0, 49
"""Decades of compute before a group's smallest and beyond its largest run, and budgets there."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SlopePath:
    """Slope of a group's discrepancy per e-fold of params, at evenly spaced budgets.

    Attributes
    ----------
    log_flops : ndarray, shape (node,)
        log10 of the budgets.
    log_params : ndarray, shape (node,)
        Natural log of the params around which the slope is taken.
    mean : ndarray, shape (node,)
    root : ndarray, shape (node, node)
        Lower Cholesky factor of the slopes' covariance.
    """

    log_flops: Array
    log_params: Array
    mean: Array
    root: Array

    def log_params_at(self, flops: Array) -> Array:
        """Params around which the slope is taken at budgets of any shape, natural log."""
        place, low = self._place(flops)
        step = self.log_params[low + 1] - self.log_params[low]
        return np.asarray(self.log_params[low] + (place - low) * step)

    def slopes_at(self, posterior: "Posterior", group: int, flops: Array) -> Array:
        """Draws of the slope at budgets (point,) or (draw, point), shape (draw, point)."""
        slopes = _slopes(self, posterior, group)
        place, low = self._place(flops)
        share = np.clip(place - low, 0.0, 1.0)
        if low.ndim == 1:
            return np.asarray((1.0 - share) * slopes[:, low] + share * slopes[:, low + 1])
        before, after = (np.take_along_axis(slopes, low + k, axis=1) for k in (0, 1))
        return np.asarray((1.0 - share) * before + share * after)

    def _place(self, flops: Array) -> tuple[Array, npt.NDArray[np.int64]]:
        """Budgets in steps from the first node, and the node before each (of the last but one)."""
        step = self.log_flops[1] - self.log_flops[0]
        place = (np.log10(flops) - self.log_flops[0]) / step
        low = np.clip(np.floor(place), 0, len(self.log_flops) - 2).astype(np.int64)
        return place, low


def path_budgets(posterior: "Posterior", group: int) -> Array:
    """Budgets of a group's path in FLOPs, shape (node,)."""
    low = np.log10(posterior.smallest_flops()[group]) - BEFORE
    high = np.log10(posterior.largest_flops()[group]) + BEYOND
    return np.asarray(10.0 ** np.linspace(low, high, NODES))


def slope_path(posterior: "Posterior", group: int, flops: Array, log_params: Array) -> SlopePath:
    """The slope at budgets and params of a group, given the residuals of the fitted runs."""
    sides = np.exp(log_params[:, None] + SIDE * np.array([-1.0, 1.0])).ravel()
    own = np.full(len(sides), group)
    tokens = np.asarray(posterior.record.cost.tokens_at(own, np.repeat(flops, 2), sides))
    alike = posterior.alike()[own]
    mean, _ = discrepancy_at(posterior, alike, sides, tokens)
    between = discrepancy_between(posterior, alike, sides, tokens)
    weights = np.kron(np.eye(len(flops)), np.array([-1.0, 1.0]) / (2.0 * SIDE))
    covariance = weights @ between @ weights.T
    jitter = 1e-8 * np.trace(covariance) / len(flops) + 1e-300
    return SlopePath(
        log_flops=np.log10(flops),
        log_params=log_params,
        mean=weights @ mean,
        root=np.asarray(np.linalg.cholesky(covariance + jitter * np.eye(len(flops)))),
    )


# Keyed by identity. A question goes group by group, or between two or three of them.
@lru_cache(maxsize=16)
def _slopes(path: SlopePath, posterior: "Posterior", group: int) -> Array:
    """Draws of the slope at the path's budgets, shape (draw, node)."""
    return np.asarray(path.mean + _far_errors(posterior, group) @ path.root.T)


def _far_errors(posterior: "Posterior", group: int) -> Array:
    """Unit errors by draw and node, times how far off the scale may be far from the runs.

    A share of them is common to all groups, as it is of the discrepancy.
    """
    seed, shape = posterior.record.seed, (posterior.n_draws, NODES)
    common = np.random.default_rng([seed, 19]).normal(size=shape)
    own = np.random.default_rng([seed, 19, group + 1]).normal(size=shape)
    shared = posterior.record.drift.shared
    far = draw_far(log_sd=study_scale(posterior).log_sd, draws=len(own), seed=seed)
    return np.asarray(far[:, None] * (np.sqrt(shared) * common + np.sqrt(1.0 - shared) * own))
