r"""The population that groups are drawn from: how laws of groups that were never run may differ.

The fit pools E and the two terms coefficient by coefficient. One group's coefficients trade off
against each other, so spreads of each by itself allow losses that no group comes near: for a new
context of the reference study +-6 %, where contexts differ by less than 1 %. A group that was never
run is therefore drawn in the law's `Geometry` (loss, slopes and shares at the reference run). With
phi the coordinates of group g, of architecture a at d doublings of the context from the reference,

.. math:: \phi_g = m + \eta_a + s\,d + \epsilon_g

eta, s and epsilon are normal. Groups differ little *over the runs of the study*, and their
coordinates differ together so that they do: with J the change of log loss at the n runs by phi, the
precision of each of the three is

.. math:: J^T J / (n \sigma^2) + \mathrm{diag}(1 / (f w_k)^2)

so that in every direction that runs see, losses differ by as much as at the reference run (sigma),
and in those that they do not see, coordinates differ by their own spreads w. Sigma of eta and of
epsilon and the factor f have log-normal priors and are integrated on a grid; all else is linear
algebra. Deviations epsilon of contexts a doubling or more apart are independent; nearer ones are
alike (a triangular kernel). What the fit knows of phi_g (posterior mean and covariance) is the data
of this random-effects model with Gaussian errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.inference.evaluate import LawDraws, log_loss_at
from allometry.laws import Law
from allometry.laws.two_term import TWO_TERM_GEOMETRY

if TYPE_CHECKING:
    from allometry.inference.posterior import Posterior

Floats = npt.NDArray[np.float64]

MEAN_SD = 1.0
"""Prior sd of m about the mean of the groups: wide in every coordinate."""

GRID = np.linspace(-2.5, 2.5, 9)
FACTORS = np.linspace(-2.0, 2.0, 5)
"""Prior standard deviations of the logs of the sigmas, and of f, that are integrated over."""

FACTOR_LOG_SD = 0.6
MOST_GROUPS = 24
"""Groups that a population is learned from: those of a new group's kind, the nearest contexts."""

MOST_RUNS = 200
"""Runs that say over which params and tokens groups are alike."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spreads:
    """Priors of the spread of log loss, or of one coordinate.

    Attributes
    ----------
    within : float
        Between groups of one architecture, beside the trend in context.
    between : float
        Between architectures.
    per_doubling : float
        Standard deviation of the trend.
    """

    within: float
    between: float
    per_doubling: float


LOSS = Spreads(within=0.006, between=0.02, per_doubling=0.015)
"""Log loss at the reference run, medians: half a percent between contexts, two between
architectures, ten and more between data sets, so that it is the most open."""

LOSS_LOG_SD = 1.0

TWO_TERM_SPREADS = (
    Spreads(within=0.06, between=0.20, per_doubling=0.15),  # log loss: ten times `LOSS`, so open
    Spreads(within=0.04, between=0.08, per_doubling=0.03),  # log slope of log loss in log N
    Spreads(within=0.04, between=0.08, per_doubling=0.03),  # and in log D
    Spreads(within=0.10, between=0.20, per_doubling=0.05),  # logit of the reducible share
    Spreads(within=0.10, between=0.20, per_doubling=0.08),  # logit of the params term's share of it
    Spreads(within=0.06, between=0.08, per_doubling=0.03),  # log gamma
)
"""Medians in the coordinates of `TWO_TERM_GEOMETRY`, in its order."""


def population_spreads(posterior: "Posterior") -> tuple[Spreads, ...]:
    """Medians of each coordinate; those of a coefficient where the law has no geometry for it."""
    of_coefficients = tuple(
        Spreads(within=c.between, between=c.between, per_doubling=c.per_doubling)
        for c in posterior.record.priors.coefficients
    )
    if posterior.law.geometry is not TWO_TERM_GEOMETRY:
        return of_coefficients
    known = 6 if len(of_coefficients) == 6 else 5
    return (*TWO_TERM_SPREADS[:known], *of_coefficients[known:])


def to_coordinates(law: Law, theta: Floats) -> Floats:
    """Coordinates of coefficients, (draw, coefficient, group) both."""
    return _map(law, theta, inverse=True)


def from_coordinates(law: Law, phi: Floats) -> Floats:
    """Coefficients of coordinates; the inverse of `to_coordinates`."""
    return _map(law, phi, inverse=False)


def _map(law: Law, values: Floats, *, inverse: bool) -> Floats:
    if law.geometry is None:
        return values
    with jax.enable_x64(True):
        by_row = jnp.moveaxis(jnp.asarray(values), 1, 0)
        mapped = law.geometry.inverse(by_row) if inverse else law.geometry.forward(by_row)
        return np.asarray(jnp.moveaxis(mapped, 0, 1))


def new_theta(posterior: "Posterior", labels: pd.DataFrame) -> Floats:
    """Draws of the coefficients of groups that were never run, (draw, coefficient, group).

    Drawn together, so that two contexts of a new architecture share its effect; each draw goes with
    the posterior's draw of the other groups.
    """
    new = _places(posterior, labels)
    seen = np.flatnonzero(~posterior.unseen)
    every = _places(posterior, posterior.groups.iloc[seen].reset_index(drop=True))
    near = _nearest(every, new)
    phi = to_coordinates(posterior.law, posterior.draws("theta")[:, :, seen[near]])
    told = sensitivity(posterior, phi.mean(axis=(0, 2)))
    rng = np.random.default_rng([posterior.record.seed, 11])
    drawn = _draw(phi, every.take(near), new, told, population_spreads(posterior), rng)
    return from_coordinates(posterior.law, drawn)


def sensitivity(posterior: "Posterior", phi: Floats) -> Floats:
    """Mean over the study's runs of J^T J: J is the change of log loss by each coordinate."""
    data, law, scale = posterior.idata["constant_data"], posterior.law, posterior.record.scale
    count = data.sizes["run"]
    rows = np.linspace(0, count - 1, min(count, MOST_RUNS)).astype(np.int64)
    params, tokens = (data[name].to_numpy()[rows] for name in ("params", "tokens"))
    columns = {name: data[name].to_numpy()[rows].astype(np.float64) for name in law.columns}
    step = 1e-3  # central differences: the error is of order 1e-6
    around = phi + step * np.concatenate([np.eye(len(phi)), -np.eye(len(phi))])
    theta = from_coordinates(law, around[:, :, None])
    draws = LawDraws(
        law=law,
        coefficients={
            n: np.repeat(theta[:, i], len(rows), axis=1) for i, n in enumerate(law.names)
        },
        log_reference=(np.log(scale.params), np.log(scale.tokens), np.log(scale.loss)),
    )
    up, down = np.split(log_loss_at(draws, params, tokens, columns)[0], 2)
    change = (up - down) / (2 * step)  # [coordinate, run]
    return np.asarray(change @ change.T / len(rows))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Places:
    """Where groups lie: level of the first column, all columns but the context, doublings."""

    level: npt.NDArray[np.object_]
    family: npt.NDArray[np.object_]
    doublings: Floats

    def take(self, rows: npt.NDArray[np.int64]) -> "_Places":
        """Some of them."""
        return _Places(
            level=self.level[rows], family=self.family[rows], doublings=self.doublings[rows]
        )


def _nearest(old: _Places, new: _Places) -> npt.NDArray[np.int64]:
    """The groups to learn from, in order: at most `MOST_GROUPS`, those most like a new one."""
    other = (~np.isin(old.level, new.level)).astype(np.float64)
    apart = np.abs(old.doublings[:, None] - new.doublings).min(axis=1)
    return np.sort(np.lexsort((apart, other))[:MOST_GROUPS])


def _places(posterior: "Posterior", labels: pd.DataFrame) -> _Places:
    others = [name for name in labels.columns if name != "context_length"]
    text = labels[others].astype(str)
    same = np.full(len(labels), "", dtype=object)  # grouped by context alone: one family
    doublings = np.zeros(len(labels))
    if "context_length" in labels:
        contexts = labels["context_length"].to_numpy(dtype=np.float64)
        doublings = np.log2(contexts / posterior.record.context_reference)
    return _Places(
        level=text.iloc[:, 0].to_numpy(dtype=object) if others else same,
        family=text.agg("/".join, axis=1).to_numpy(dtype=object) if others else same,
        doublings=doublings,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Effects:
    """Covariances (coordinate, coordinate) of an architecture, of a doubling, and of a group."""

    level: Floats
    trend: Floats
    own: Floats


def _covariance(a: _Places, b: _Places, effects: _Effects) -> Floats:
    """Covariance of all coordinates of places a, (a and coordinate), with those of b."""
    level = (a.level[:, None] == b.level).astype(np.float64)
    trend = a.doublings[:, None] * b.doublings
    distance = np.abs(a.doublings[:, None] - b.doublings)
    alike = (a.family[:, None] == b.family) * np.maximum(1.0 - distance, 0.0)
    mean = MEAN_SD**2 * np.eye(len(effects.level))
    return np.asarray(
        np.kron(np.ones_like(level), mean)
        + np.kron(level, effects.level)
        + np.kron(trend, effects.trend)
        + np.kron(alike, effects.own)
    )


def _cells(told: Floats, spreads: Sequence[Spreads]) -> tuple[list[_Effects], Floats]:
    """Effects at each node of the grid of both sigmas and f, and their log prior."""

    def effect(name: str, a: float, f: float) -> Floats:
        spread = np.array([getattr(one, name) for one in spreads]) * np.exp(f * FACTOR_LOG_SD)
        loss = getattr(LOSS, name) * np.exp(a * LOSS_LOG_SD)
        return np.asarray(np.linalg.inv(told / loss**2 + np.diag(spread**-2.0)))

    cells, log_prior = [], []
    for f in FACTORS:
        level, own = ([effect(n, a, f) for a in GRID] for n in ("between", "within"))
        trend = effect("per_doubling", 0.0, f)
        for a, above in zip(GRID, level, strict=True):
            for b, beside in zip(GRID, own, strict=True):
                cells.append(_Effects(level=above, trend=trend, own=beside))
                log_prior.append(-0.5 * (a**2 + b**2 + f**2))
    return cells, np.array(log_prior)


def _draw(
    phi: Floats,
    old: _Places,
    new: _Places,
    told: Floats,
    spreads: Sequence[Spreads],
    rng: np.random.Generator,
) -> Floats:
    """Draws of new groups' coordinates, (draw, coordinate, new), from those of old ones.

    With weights w of the old groups' *means*, each draw takes w of its own phi: it carries the
    errors of the phi already, so they are taken out of the covariance that is added.
    """
    n_draws, k, n_old = phi.shape
    n_new = len(new.level)
    by_group = np.moveaxis(phi, 2, 1)  # [draw, group, coordinate]
    means, centre = by_group.mean(axis=0), by_group.mean(axis=(0, 1))
    blocks = np.zeros((n_old, k, n_old, k))
    for g in range(n_old):
        blocks[g, :, g] = np.cov(by_group[:, g].T).reshape(k, k)
    errors = blocks.reshape(n_old * k, n_old * k)
    residual = (means - centre).ravel()
    cells, log_prior = _cells(told, spreads)
    log_weight = log_prior
    for i, effects in enumerate(cells):
        factor = np.linalg.cholesky(_covariance(old, old, effects) + errors)
        z = np.linalg.solve(factor, residual)
        log_weight[i] -= np.log(np.diagonal(factor)).sum() + 0.5 * z @ z
    weight = np.exp(log_weight - log_weight.max())
    chosen = rng.choice(len(cells), size=n_draws, p=weight / weight.sum())
    z = rng.normal(size=(n_draws, n_new * k))
    around = (by_group - centre).reshape(n_draws, -1)
    drawn = np.empty_like(z)
    for cell in np.unique(chosen):
        rows, effects = chosen == cell, cells[int(cell)]
        cross = _covariance(new, old, effects)
        weights = np.linalg.solve(_covariance(old, old, effects) + errors, cross.T).T
        rest = _covariance(new, new, effects) - weights @ cross.T - weights @ errors @ weights.T
        drawn[rows] = around[rows] @ weights.T + z[rows] @ _root(rest).T
    shaped = centre + drawn.reshape(n_draws, n_new, k)
    return np.moveaxis(shaped, 1, 2)


def _root(covariance: Floats) -> Floats:
    """A square root of a covariance that rounding may have left a little indefinite."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
