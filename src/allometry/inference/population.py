r"""The population that groups are drawn from, in the coordinates that runs determine.

The fit pools E and the two terms coefficient by coefficient. One group's coefficients trade off
against each other, so spreads of each by itself allow losses that no group comes near: for a new
context of the reference study +-6 %, where contexts differ by less than 1 %. A group that was never
run is therefore drawn in the law's `Geometry` (loss, slopes and shares at the reference run), whose
coordinates groups differ in independently. For each coordinate phi of group g, of architecture a at
d doublings of the context from the reference,

.. math:: \phi_g = m + \tau\,\eta_a + s\,d + \sigma\,\epsilon_g

with log-normal priors on the spreads tau and sigma. Deviations epsilon of contexts a doubling or
more apart are independent; nearer ones are alike (a triangular kernel). What the fit knows of each
phi_g (posterior mean and variance) is the data of a random-effects model with Gaussian errors; its
two spreads are integrated on a grid, all else is linear algebra.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.laws import Law
from allometry.laws.two_term import TWO_TERM_GEOMETRY

if TYPE_CHECKING:
    from allometry.inference.posterior import Posterior

Floats = npt.NDArray[np.float64]

MEAN_SD = 1.0
"""Prior sd of m about the mean of the groups: wide in every coordinate."""

GRID = np.linspace(-2.5, 2.5, 15)
"""Prior standard deviations of log tau and log sigma that are integrated over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spreads:
    """Priors of one coordinate of the population.

    Attributes
    ----------
    within : float
        Median of sigma: between groups of one architecture, beside the trend in context.
    between : float
        Median of tau: between architectures.
    per_doubling : float
        Standard deviation of s.
    log_sd : float
        Of both spreads: few groups say little of them.
    """

    within: float
    between: float
    per_doubling: float
    log_sd: float = 0.6


TWO_TERM_SPREADS = (
    # Log loss at the reference run: half a percent between contexts, two between architectures,
    # ten and more between data sets, so that its spreads are the most open.
    Spreads(within=0.006, between=0.02, per_doubling=0.015, log_sd=1.0),
    Spreads(within=0.04, between=0.08, per_doubling=0.03),  # log slope of log loss in log N
    Spreads(within=0.04, between=0.08, per_doubling=0.03),  # and in log D
    Spreads(within=0.10, between=0.20, per_doubling=0.05),  # logit of the reducible share
    Spreads(within=0.10, between=0.20, per_doubling=0.08),  # logit of the params term's share of it
    Spreads(within=0.06, between=0.08, per_doubling=0.03),  # log gamma
)
"""Priors in the coordinates of `TWO_TERM_GEOMETRY`, in its order."""


def population_spreads(posterior: "Posterior") -> tuple[Spreads, ...]:
    """Priors of each coordinate; those of a coefficient where the law has no geometry for it."""
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
    seen = np.flatnonzero(~posterior.unseen)
    old = _places(posterior, posterior.groups.iloc[seen].reset_index(drop=True))
    new = _places(posterior, labels)
    phi = to_coordinates(posterior.law, posterior.draws("theta")[:, :, seen])
    rng = np.random.default_rng([posterior.record.seed, 11])
    columns = [
        _draw(phi[:, k], old, new, spreads, rng)
        for k, spreads in enumerate(population_spreads(posterior))
    ]
    return from_coordinates(posterior.law, np.stack(columns, axis=1))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Places:
    """Where groups lie: level of the first column, all columns but the context, doublings."""

    level: npt.NDArray[np.object_]
    family: npt.NDArray[np.object_]
    doublings: Floats


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


def _covariance(a: _Places, b: _Places, tau: float, sigma: float, slope: float) -> Floats:
    level = a.level[:, None] == b.level
    distance = np.abs(a.doublings[:, None] - b.doublings)
    alike = (a.family[:, None] == b.family) * np.maximum(1.0 - distance, 0.0)
    trend = a.doublings[:, None] * b.doublings
    return np.asarray(MEAN_SD**2 + tau**2 * level + slope**2 * trend + sigma**2 * alike)


def _draw(
    phi: Floats, old: _Places, new: _Places, spreads: Spreads, rng: np.random.Generator
) -> Floats:
    """Draws of one coordinate of new groups, (draw, new group), from that of old ones (draw, old).

    With weights w of the old groups' *means*, each draw takes w of its own phi: it carries the
    errors of the phi already, so they are taken out of the covariance that is added.
    """
    means, errors = phi.mean(axis=0), np.diag(phi.var(axis=0))
    centre = means.mean()
    cells = [
        (spreads.between * np.exp(a * spreads.log_sd), spreads.within * np.exp(b * spreads.log_sd))
        for a in GRID
        for b in GRID
    ]
    log_prior = np.array([-0.5 * (a**2 + b**2) for a in GRID for b in GRID])
    grams = np.stack(
        [_covariance(old, old, *cell, spreads.per_doubling) + errors for cell in cells]
    )
    residual = means - centre
    solved = np.linalg.solve(grams, np.broadcast_to(residual[:, None], (*grams.shape[:2], 1)))
    log_likelihood = -0.5 * (np.linalg.slogdet(grams)[1] + residual @ solved[..., 0].T)
    log_weight = log_prior + log_likelihood
    weight = np.exp(log_weight - log_weight.max())
    chosen = rng.choice(len(cells), size=len(phi), p=weight / weight.sum())
    z = rng.normal(size=(len(phi), len(new.level)))
    drawn = np.empty_like(z)
    for cell in np.unique(chosen):
        rows = chosen == cell
        tau, sigma = cells[int(cell)]
        cross = _covariance(new, old, tau, sigma, spreads.per_doubling)
        weights = np.linalg.solve(grams[cell], cross.T).T
        mean = centre + (phi[rows] - centre) @ weights.T
        rest = _covariance(new, new, tau, sigma, spreads.per_doubling)
        rest = rest - weights @ cross.T - weights @ errors @ weights.T
        drawn[rows] = mean + z[rows] @ _root(rest).T
    return drawn


def _root(covariance: Floats) -> Floats:
    """A square root of a covariance that rounding may have left a little indefinite."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
