r"""What a law gets wrong: learned from its residuals near the runs, unknown far from them.

Log loss is the law plus a smooth discrepancy, a Gaussian process over

.. math:: c = \log_{10}(N D), \qquad r = \log_{10}(D / N),

with a Matérn 5/2 covariance of the drift's scale and length in both. Under a law that
reads epochs so does the discrepancy, over `LENGTH_EPOCHS` decades: what over-fitted runs say is not
said of fresh text. A share of it is common to all groups of the study (Kennedy and O'Hagan 2001).
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
from scipy.linalg import cho_solve, solve_triangular

from allometry.inference.discrepancy_cells import cells_of
from allometry.inference.discrepancy_kernel import Kernel, covariance, taken_up
from allometry.inference.discrepancy_scale import StudyScale, learn_scale, prior_scale
from allometry.inference.drift import Drift
from allometry.inference.fitted_range import place_of
from allometry.inference.residuals import RunResiduals, mean_law_slopes, run_residuals

if TYPE_CHECKING:
    from allometry.inference.posterior import Posterior

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

TELLING_GROUPS = 16
"""Groups that the scale is learned from at most."""

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
    scale : StudyScale
        Of this study's discrepancy.
    drift : Drift
        What was thought of it before the runs.
    kernel : Kernel
        Its correlation before them.
    """

    place: Array
    group: Indices
    weights: Array
    root: Array
    scale: StudyScale
    drift: Drift
    kernel: Kernel

    def at(self, group: Indices, place: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the discrepancy at places of groups, (point,)."""
        across = self._across(group, place)
        explained = solve_triangular(self.root, across.T, lower=True)
        left = self.scale.scale**2 * self.kernel.variance(place) - (explained**2).sum(axis=0)
        return across @ self.weights, np.sqrt(np.maximum(left, 0.0))

    def between(self, group: Indices, place: Array) -> Array:
        """Covariance of the discrepancy between places of groups, (point, point)."""
        explained = solve_triangular(self.root, self._across(group, place).T, lower=True)
        alike = _alike(group, group, self.drift.shared)
        prior = self.scale.scale**2 * self.kernel.between(place, place) * alike
        return np.asarray(prior - explained.T @ explained)

    def _across(self, group: Indices, place: Array) -> Array:
        """Covariance between places of groups and the cells, before residuals, (point, cell)."""
        alike = _alike(group, self.group, self.drift.shared)
        along = self.kernel.between(place, self.place)
        return np.asarray(self.scale.scale**2 * along * alike)


def places(posterior: "Posterior", params: Array, tokens: Array, epochs: Array | None) -> Array:
    """c, r and, where the law reads them, log10 epochs (one pass if not given), (point, 2 or 3)."""
    place = place_of(params, tokens)
    if "epochs" not in posterior.law.columns:
        return place
    passes = np.ones_like(params) if epochs is None else np.maximum(epochs, 1.0)
    return np.column_stack([place, np.log10(passes)])


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


def discrepancy_between(
    posterior: "Posterior", group: Indices, params: Array, tokens: Array
) -> Array:
    """Covariance of the discrepancy of log loss between points given the runs, (point, point)."""
    place = places(posterior, np.asarray(params), np.asarray(tokens), None)
    return _residuals(posterior).between(np.asarray(group), place)


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
    nodes = np.linspace(low, high, int((high - low) * NODES_PER_DECADE) + 1)
    place = places(posterior, *spent_as_runs(posterior, group, 10.0**nodes), None)
    return nodes, *_residuals(posterior).at(np.full(len(nodes), group), place)


def spent_as_runs(posterior: "Posterior", group: int, flops: Array) -> tuple[Array, Array]:
    """Params and tokens that budgets (point,) buy as the group's runs spend theirs."""
    data = posterior.idata["constant_data"]
    params, tokens, spent = (
        data[n].to_numpy().astype(float) for n in ("params", "tokens", "flops")
    )
    own = data["group_index"].to_numpy() == group
    mine = own if own.any() else np.ones(len(own), dtype=bool)
    ratio = float(np.median(np.log10(tokens[mine] / params[mine])))
    cost = float(np.median(np.log10(spent[mine] / params[mine] / tokens[mine])))
    # log10 of the params of ratio D / N whose N D is the budget's
    half = (np.log10(flops) - cost - ratio) / 2.0
    return 10.0**half, 10.0 ** (half + ratio)


def study_scale(posterior: "Posterior") -> StudyScale:
    """Scale of the discrepancy in the posterior's study, learned from its fitted runs."""
    return _residuals(posterior).scale


# Keyed by identity: a posterior is frozen. Two, so that a comparison of posteriors is not slow.
@lru_cache(maxsize=2)
def _residuals(posterior: "Posterior") -> Residuals:
    data = posterior.idata["constant_data"]
    params, tokens = (data[n].to_numpy().astype(np.float64) for n in ("params", "tokens"))
    group = data["group_index"].to_numpy().astype(np.int64)
    found = run_residuals(posterior, group, params, tokens)
    epochs = data["epochs"].to_numpy().astype(np.float64) if "epochs" in data else None
    drift, place = posterior.record.drift, places(posterior, params, tokens, epochs)
    return condition(place, group, found, drift, _kernel(posterior, drift.length))


def _kernel(posterior: "Posterior", length: float) -> Kernel:
    """Of a posterior's discrepancy, without what its imported laws have taken up."""
    ranges = posterior.record.fitted_ranges
    if not ranges or posterior.law.columns:
        return Kernel(length=length)
    slopes = mean_law_slopes(posterior)
    return Kernel(length=length, taken=tuple(taken_up(one, slopes, length) for one in ranges))


def condition(
    place: Array,
    group: Indices,
    found: RunResiduals,
    drift: Drift,
    kernel: Kernel | None = None,
) -> Residuals:
    """The discrepancy given residuals of the runs of groups at places."""
    kernel = kernel or Kernel(length=drift.length)
    scale = prior_scale(drift.scale, log_sd=drift.log_sd)
    if drift.scale > 0 and found.slopes is not None:
        scale = _learned(place, group, found, found.slopes, drift)
    cells = cells_of(place, group, found.variance)
    place, residual = cells.average(place), cells.average(found.residual)
    alike = _alike(cells.group, cells.group, drift.shared)
    prior = scale.scale**2 * kernel.between(place, place) * alike
    root = np.asarray(np.linalg.cholesky(prior + np.diag(scale.noise * cells.variance)))
    return Residuals(
        place=place,
        group=cells.group,
        weights=cho_solve((root, True), residual),
        root=root,
        scale=scale,
        drift=drift,
        kernel=kernel,
    )


def _learned(
    place: Array, group: Indices, found: RunResiduals, slopes: Array, drift: Drift
) -> StudyScale:
    """Scale of the study from the groups with most runs, which tell it."""
    most = np.argsort(-np.bincount(group), kind="stable")[:TELLING_GROUPS]
    kept = np.isin(group, most)
    place, group, residual, slopes = place[kept], group[kept], found.residual[kept], slopes[kept]
    cells = cells_of(place, group, found.variance[kept])
    mean, middle = cells.average(residual), cells.average(place)
    own = [cells.average(np.where((group == g)[:, None], slopes, 0.0)) for g in np.unique(group)]
    squares = (residual - mean[cells.cell]) ** 2 * cells.precision
    return learn_scale(
        mean,
        cells.variance,
        covariance(middle, middle, drift.length) * _alike(cells.group, cells.group, drift.shared),
        np.concatenate(own, axis=1),
        scale=drift.scale,
        log_sd=drift.log_sd,
        spare=(len(residual) - len(mean), float(squares.sum())),
    )


def _alike(a: Indices, b: Indices, shared: float) -> Array:
    return np.where(np.asarray(a)[:, None] == np.asarray(b)[None], 1.0, shared)
