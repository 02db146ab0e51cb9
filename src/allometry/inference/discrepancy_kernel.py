r"""Covariance of a discrepancy between places, and what of it a law has taken up already.

A Matérn 5/2 in c and r. Of a law that was imported from studies whose runs lay over a range, the
coefficients are those of a fit over that range: whatever of the discrepancy the law could take up
there is in them. What is left is orthogonal to the law there (Plumlee 2017),

.. math:: \delta'(x) = \delta(x) - g(x)^T (G^T W G)^{-1} G^T W \delta,

with g the law's slopes in its coefficients at a place, G those at the cells of the range, and W
weights. It is small within the range and as large as ever far from it. Without an import the
coefficients are those of the few runs at hand, and nothing beyond them has been taken up.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from allometry.inference.fitted_range import FittedRange

Array = npt.NDArray[np.float64]
Slopes = Callable[[Array], Array]

LENGTH_EPOCHS = 1.0
"""Decades of epochs: 4 of them cost little, more than 40 add little (arXiv:2305.16264)."""

COMMON = 3.0
"""Cells count by this power of how many studies have runs there: laws of studies hold over the
range that these have in common, and 1 and 2 predict hidden runs less well (docs/priors.md)."""

RIDGE = 1e-5
"""A refit leaves alone what changes log loss by less than its root, .3 %, for an e-fold: else runs
of one budget, say, would tell of a discrepancy far from them whatever fits."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TakenUp:
    """What a law fitted over a range takes up of a discrepancy of unit variance.

    Attributes
    ----------
    weight : float
        Of the import.
    cells : ndarray, shape (cell, 2)
    refit : ndarray, shape (coefficient, cell)
        Change of the coefficients with the discrepancy at the cells.
    variance : ndarray, shape (coefficient, coefficient)
        Of that change.
    slopes : callable
        Of the law at places (place, 2): (place, coefficient).
    """

    weight: float
    cells: Array
    refit: Array
    variance: Array
    slopes: Slopes

    def at(self, place: Array, length: float) -> tuple[Array, Array]:
        """The law's slopes at places, and the covariance of the discrepancy there with a refit."""
        across = covariance(place, self.cells, length) @ self.refit.T
        return self.slopes(place), across


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Kernel:
    """Correlation of a discrepancy, less what imported laws have taken up.

    Attributes
    ----------
    length : float
        Decades.
    taken : tuple of TakenUp
    """

    length: float
    taken: tuple[TakenUp, ...] = ()

    def between(self, a: Array, b: Array) -> Array:
        """Covariance between places, in units of its variance far from all: shape (a, b)."""
        found = covariance(a, b, self.length)
        for one in self.taken:
            (slope_a, across_a), (slope_b, across_b) = (one.at(x, self.length) for x in (a, b))
            change = slope_a @ one.variance @ slope_b.T
            change -= slope_a @ across_b.T + across_a @ slope_b.T
            found = found + one.weight * change
        return found

    def variance(self, place: Array) -> Array:
        """The same of each place with itself, (place,)."""
        found = np.ones(len(place))
        for one in self.taken:
            slope, across = one.at(place, self.length)
            found += one.weight * ((slope @ one.variance - 2.0 * across) * slope).sum(axis=1)
        return np.maximum(found, 0.0)


def covariance(a: Array, b: Array, length: float) -> Array:
    """Correlation of the discrepancy between places before anything is taken up, shape (a, b)."""
    lengths = np.asarray([length, length, LENGTH_EPOCHS])[: a.shape[1]]
    steps = (a[:, None] - b[None]) / lengths
    squares = 5.0 * (steps**2).sum(axis=-1)
    root = np.sqrt(squares)
    return np.asarray((1.0 + root + squares / 3.0) * np.exp(-root))


def taken_up(found: FittedRange, slopes: Slopes, length: float) -> TakenUp:
    """What a law of these slopes takes up over a range."""
    table = np.asarray(found.cells)
    cells, weight = table[:, :2], (table[:, 2] / table[:, 2].max()) ** COMMON
    weight = weight / weight.sum()
    there = slopes(cells)
    normal = (there.T * weight) @ there + RIDGE * np.eye(there.shape[1])
    refit = np.linalg.solve(normal, there.T * weight)
    return TakenUp(
        weight=found.weight,
        cells=cells,
        refit=refit,
        variance=refit @ covariance(cells, cells, length) @ refit.T,
        slopes=slopes,
    )
