"""Averages of runs that lie close together: what a discrepancy is learned from."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

CELL = (0.15, 0.25, 0.25)
"""Decades of c, r and epochs within which the residuals of a group's runs are averaged."""

MAX_CELLS = 800
"""Averages that are kept at most; cells grow until there are no more."""

WIDEST_CELL = 50.0
"""Decades of c of a cell that surely holds all runs of a group."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cells:
    """Runs of a group within a cell, averaged by precision.

    Attributes
    ----------
    cell : ndarray of int, shape (run,)
        Cell of each run.
    group : ndarray of int, shape (cell,)
        Group of each cell: a group is never mixed with another.
    precision : ndarray, shape (run,)
        Inverse variance of each run's residual.
    """

    cell: Indices
    group: Indices
    precision: Array

    @property
    def variance(self) -> Array:
        """Of each cell's average, (cell,)."""
        return np.asarray(1.0 / np.bincount(self.cell, weights=self.precision))

    def average(self, values: Array) -> Array:
        """Average of what runs have, (run,) or (run, column), shape (cell,) or (cell, column)."""
        if values.ndim == 2:
            return np.stack([self.average(column) for column in values.T], axis=1)
        sums = np.bincount(self.cell, weights=values * self.precision)
        return np.asarray(sums * self.variance)


def cells_of(place: Array, group: Indices, variance: Array) -> Cells:
    """Cells of runs at places (run, 2 or 3)."""
    size = np.asarray(CELL[: place.shape[1]])
    keys, cell = _cells(place, group, size)
    while len(keys) > MAX_CELLS and size[0] < WIDEST_CELL:
        size = 1.5 * size
        keys, cell = _cells(place, group, size)
    return Cells(cell=cell, group=keys[:, 0].astype(np.int64), precision=1.0 / variance)


def _cells(place: Array, group: Indices, size: Array) -> tuple[Indices, Indices]:
    """Distinct cells as (group, *place) in steps of `size`, and each run's place among them."""
    rounded = np.round(place / size).astype(np.int64)
    keys, cell = np.unique(np.column_stack([group, rounded]), axis=0, return_inverse=True)
    return keys, cell.reshape(-1)
