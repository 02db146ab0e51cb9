r"""What a law gets wrong: learned from its residuals near the runs, unknown far from them.

Log loss is the law plus a smooth discrepancy, a Gaussian process over

.. math:: c = \log_{10}(N D), \qquad r = \log_{10}(D / N),

with a Matérn 3/2 covariance of the drift's scale, `LENGTH_FLOPS` decades long in c and
`LENGTH_RATIO` in r. Under a law that reads epochs so does the discrepancy, over `LENGTH_EPOCHS`
decades: what over-fitted runs say is not said of fresh text. A share of it is common to all groups
of the study (Kennedy and O'Hagan 2001).
Conditioned on the residuals of the fitted runs it follows them where there are runs (a law that is
off near the largest runs is off just beyond them), goes on with their slope for a while, and
forgets them far away, where its standard deviation has grown to the scale. So the distance of a
prediction from the runs counts in both directions: more compute, and more tokens a parameter.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from allometry.inference.drift import Drift
from allometry.inference.evaluate import LawDraws, log_loss_at, run_noise
from allometry.inference.model import STUDENT_DF

if TYPE_CHECKING:
    from allometry.inference.posterior import Posterior

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

LENGTH_FLOPS = 4.0
LENGTH_RATIO = 5.0
"""Decades over which the discrepancy changes, in c and in r."""

LENGTH_EPOCHS = 1.0
"""Decades of epochs: 4 of them cost little, more than 40 add little (arXiv:2305.16264)."""

CELL = (0.15, 0.25, 0.25)
"""Decades of c, r and epochs within which the residuals of a group's runs are averaged."""

MAX_CELLS = 800
"""Averages that a posterior keeps at most; cells grow until there are no more."""

WIDEST_CELL = 50.0
"""Decades of c of a cell that surely holds all runs of a group."""

THINNED = 100
"""Draws of the law that residuals are averaged over."""

NODES_PER_DECADE = 4


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Residuals:
    """Residuals of the fitted runs, averaged in cells, and what they say of the discrepancy.

    Attributes
    ----------
    place : ndarray, shape (cell, 2 or 3)
        c and r of each cell, and log10 epochs where the law reads them.
    group : ndarray of int, shape (cell,)
    weights : ndarray, shape (cell,)
        Inverse covariance of the cells times their residuals.
    root : ndarray, shape (cell, cell)
        Lower Cholesky factor of that covariance.
    scale, shared : float
        Of the drift.
    """

    place: Array
    group: Indices
    weights: Array
    root: Array
    scale: float
    shared: float

    def at(self, group: Indices, place: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the discrepancy at places of groups, (point,)."""
        across = self.scale**2 * covariance(place, self.place)
        across *= _alike(group, self.group, self.shared)
        explained = np.linalg.solve(self.root, across.T)
        variance = self.scale**2 - (explained**2).sum(axis=0)
        return across @ self.weights, np.sqrt(np.maximum(variance, 0.0))


def covariance(a: Array, b: Array) -> Array:
    """Correlation of the discrepancy between places, shape (a, b)."""
    lengths = np.asarray([LENGTH_FLOPS, LENGTH_RATIO, LENGTH_EPOCHS])[: a.shape[1]]
    steps = (a[:, None] - b[None]) / lengths
    scaled = np.sqrt(3.0 * (steps**2).sum(axis=-1))
    return np.asarray((1.0 + scaled) * np.exp(-scaled))


def places(posterior: "Posterior", params: Array, tokens: Array, epochs: Array | None) -> Array:
    """c, r and, where the law reads them, log10 epochs (one pass if not given), (point, 2 or 3)."""
    columns = [np.log10(params) + np.log10(tokens), np.log10(tokens / params)]
    if "epochs" in posterior.law.columns:
        passes = np.ones_like(params) if epochs is None else np.maximum(epochs, 1.0)
        columns.append(np.log10(passes))
    return np.stack(columns, axis=1)


def discrepancy_at(
    posterior: "Posterior",
    group: Indices,
    params: Array,
    tokens: Array,
    epochs: Array | None = None,
) -> tuple[Array, Array]:
    """Mean and standard deviation of the discrepancy of log loss at points, (point,) each.

    A group that was never run has a discrepancy of its own and shares the common part.
    """
    place = places(posterior, np.asarray(params), np.asarray(tokens), epochs)
    return _residuals(posterior).at(np.asarray(group), place)


def discrepancy_along(posterior: "Posterior", group: Indices, flops: Array) -> tuple[Array, Array]:
    """The same at budgets, spent as the group's runs spend theirs (at their median D / N), once.

    `flops` has shape (point,) or (draw, point); so have mean and standard deviation.
    """
    decades = np.log10(np.asarray(flops))
    mean, sd = np.empty_like(decades), np.empty_like(decades)
    for g in np.unique(group):
        mine = np.flatnonzero(np.asarray(group) == g)
        asked = decades[..., mine]
        low, high = np.floor(asked.min()) - 1.0, np.ceil(asked.max()) + 1.0
        nodes, means, sds = _path(posterior, int(g), float(low), float(high))
        mean[..., mine] = np.interp(asked, nodes, means)
        sd[..., mine] = np.interp(asked, nodes, sds)
    return mean, sd


@lru_cache(maxsize=64)
def _path(
    posterior: "Posterior", group: int, low: float, high: float
) -> tuple[Array, Array, Array]:
    """Nodes in log10 FLOPs, and mean and standard deviation there."""
    data = posterior.idata["constant_data"]
    params, tokens, flops = (
        data[n].to_numpy().astype(float) for n in ("params", "tokens", "flops")
    )
    own = data["group_index"].to_numpy() == group
    mine = own if own.any() else np.ones(len(own), dtype=bool)
    ratio = float(np.median(np.log10(tokens[mine] / params[mine])))
    cost = float(np.median(np.log10(flops[mine] / params[mine] / tokens[mine])))
    nodes = np.linspace(low, high, int((high - low) * NODES_PER_DECADE) + 1)
    half = (nodes - cost - ratio) / 2.0  # log10 of params of ratio D / N whose N D is the budget's
    place = places(posterior, 10.0**half, 10.0 ** (half + ratio), None)
    return nodes, *_residuals(posterior).at(np.full(len(nodes), group), place)


# Keyed by identity: a posterior is frozen. Two, so that a comparison of posteriors is not slow.
@lru_cache(maxsize=2)
def _residuals(posterior: "Posterior") -> Residuals:
    data = posterior.idata["constant_data"]
    params, tokens = (data[n].to_numpy().astype(np.float64) for n in ("params", "tokens"))
    group = data["group_index"].to_numpy().astype(np.int64)
    residual, variance = _run_residuals(posterior, group, params, tokens)
    epochs = data["epochs"].to_numpy().astype(np.float64) if "epochs" in data else None
    place = places(posterior, params, tokens, epochs)
    return condition(place, group, residual, variance, posterior.record.drift)


def condition(
    place: Array, group: Indices, residual: Array, variance: Array, drift: Drift
) -> Residuals:
    """The discrepancy given residuals of log loss at places with their variances."""
    place, group, residual, variance = _cells(place, group, residual, variance)
    prior = drift.scale**2 * covariance(place, place) * _alike(group, group, drift.shared)
    root = np.asarray(np.linalg.cholesky(prior + np.diag(variance)), dtype=np.float64)
    weights = np.linalg.solve(root.T, np.linalg.solve(root, residual))
    return Residuals(
        place=place,
        group=group,
        weights=weights,
        root=root,
        scale=drift.scale,
        shared=drift.shared,
    )


def _run_residuals(
    posterior: "Posterior", group: Indices, params: Array, tokens: Array
) -> tuple[Array, Array]:
    """Observed minus expected log loss of each fitted run, and its variance.

    A Student-t is a normal of uncertain variance: given a residual of z scales, its variance is
    that of the scale times (nu + z^2) / (nu + 1), so that outliers count little.
    """
    data, scale = posterior.idata["constant_data"], posterior.record.scale
    keep = np.linspace(0, posterior.n_draws - 1, min(THINNED, posterior.n_draws)).astype(int)
    law = LawDraws(
        law=posterior.law,
        coefficients={n: x[keep] for n, x in posterior.coefficients(group).items()},
        log_reference=(np.log(scale.params), np.log(scale.tokens), np.log(scale.loss)),
    )
    columns = {n: data[n].to_numpy().astype(np.float64) for n in posterior.law.columns}
    log_loss, imbalance = log_loss_at(law, params, tokens, columns)
    noise = run_noise(
        posterior.log_noise(group)[keep], posterior.draws("log_off_valley")[keep], imbalance
    )
    observed = posterior.idata["observed_data"]["loss"].to_numpy().astype(np.float64)
    known = data["loss_stderr"].to_numpy() / observed if "loss_stderr" in data else 0.0
    squared = (noise**2).mean(axis=0) + np.nan_to_num(known) ** 2
    residual = np.log(observed) - log_loss.mean(axis=0)
    return residual, squared * (STUDENT_DF + residual**2 / squared) / (STUDENT_DF + 1.0)


def _cells(
    place: Array, group: Indices, residual: Array, variance: Array
) -> tuple[Array, Indices, Array, Array]:
    """Averages of runs that lie close together, weighted by precision."""
    size = np.asarray(CELL[: place.shape[1]])
    keys, cell = _cell_of(place, group, size)
    while len(keys) > MAX_CELLS and size[0] < WIDEST_CELL:
        size = 1.5 * size
        keys, cell = _cell_of(place, group, size)
    precision = np.bincount(cell, weights=1.0 / variance)

    def average(values: Array) -> Array:
        return np.asarray(np.bincount(cell, weights=values / variance) / precision)

    centre = np.stack([average(column) for column in place.T], axis=1)
    return centre, keys[:, 0].astype(np.int64), average(residual), 1.0 / precision


def _cell_of(place: Array, group: Indices, size: Array) -> tuple[Indices, Indices]:
    """Distinct cells as (group, *place) in steps of `size`, and each run's place among them."""
    rounded = np.round(place / size).astype(np.int64)
    keys, cell = np.unique(np.column_stack([group, rounded]), axis=0, return_inverse=True)
    return keys, cell.reshape(-1)


def _alike(a: Indices, b: Indices, shared: float) -> Array:
    return np.where(np.asarray(a)[:, None] == np.asarray(b)[None], 1.0, shared)
