"""Coordinates of many thin groups: of each given the levels above it, by its runs and population.

A group with fewer runs than coefficients is fixed by its runs in some directions, ever more tightly
the smaller the noise, and by its population in the others, ever more tightly the smaller the
spreads. No fixed coordinates suit it: around its runs or around its population, chains meet a
funnel in the noise or in the spreads. Here the group's density is taken for a Gaussian *given*
noise, spreads s and population mu, its runs expanded around mu:

    P = 1 + s J' W J s,    theta = mu + s P^-1 s J' W r + s P^-1/2 z

with J = d log loss / d theta and r the residuals at mu, and W the information of a run's noise. z
is nearly a unit Gaussian whatever the levels above are. Without runs it is the group's distance
from its population in spreads. The map is one to one for every P, so the posterior is that of the
model, however rough the expansion.

The population's mean, which all runs tell, is sampled in the law's `Geometry`, and levels of the
first group column by their distance from it in spreads.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from allometry.inference.model import (
    STUDENT_DF,
    PriorArrays,
    RunArrays,
    Sites,
    Structure,
    group_location,
    noise_variance,
)
from allometry.laws import Law, with_naturals

INFORMATION = (STUDENT_DF + 1) / (STUDENT_DF + 3)
"""Fisher information of a location under Student-t noise, over that of a normal of its scale."""

Gaussian = tuple[Float[Array, "group k k"], Float[Array, "k group"], Float[Array, "k group"]]
"""Lower factor of P by group, means, and spreads."""


def to_model(
    raw: Sites, law: Law, structure: Structure, runs: RunArrays, priors: PriorArrays
) -> tuple[Sites, Float[Array, ""]]:
    """Sites of the model from sampled ones, and the log determinant of the map."""
    sites, log_det = dict(raw), jnp.zeros(())
    if law.geometry is not None:
        mean = raw["mean"][:, None]
        sites["mean"] = law.geometry.forward(mean)[:, 0]
        log_det = log_det + law.geometry.log_det(mean)[0]
    if structure.nested:
        log_spread = raw["log_parent_spread"]
        sites["parent"] = sites["mean"][:, None] + jnp.exp(log_spread)[:, None] * raw["parent"]
        log_det = log_det + structure.n_parents * log_spread.sum()
    factor, middle, scale = _gaussian(sites, law, structure, runs, priors)
    sites["theta"] = middle + scale * _solve(factor, raw["theta"].T, transposed=True).T
    log_det = log_det - jnp.log(jnp.diagonal(factor, axis1=1, axis2=2)).sum()
    return sites, log_det + jnp.log(scale).sum()


def from_model(
    sites: Sites, law: Law, structure: Structure, runs: RunArrays, priors: PriorArrays
) -> Sites:
    """What is sampled, of given sites; the inverse of `to_model`."""
    factor, middle, scale = _gaussian(sites, law, structure, runs, priors)
    distance = (sites["theta"] - middle) / scale
    raw = sites | {"theta": jnp.einsum("gji,jg->ig", factor, distance)}
    mean = sites["mean"][:, None]
    if law.geometry is not None:
        raw["mean"] = law.geometry.inverse(mean)[:, 0]
    if structure.nested:
        raw["parent"] = (sites["parent"] - mean) / jnp.exp(sites["log_parent_spread"])[:, None]
    return raw


def _gaussian(
    sites: Sites, law: Law, structure: Structure, runs: RunArrays, priors: PriorArrays
) -> Gaussian:
    location, scale = group_location(sites, structure, runs, priors)

    def log_losses(own: Float[Array, "k run"]) -> Float[Array, " run"]:
        by_name = with_naturals(dict(zip(law.names, own, strict=True)))
        return law.log_loss(by_name, runs.point)

    own = location[:, runs.group]
    mean, pull_back = jax.vjp(log_losses, own)
    (slopes,) = pull_back(jnp.ones_like(mean))  # a run's loss depends on its own column alone
    imbalance = law.imbalance(with_naturals(dict(zip(law.names, own, strict=True))), runs.point)
    weight = INFORMATION * runs.weight / noise_variance(sites, imbalance, runs)
    scaled = slopes * scale[:, runs.group]
    pairs = jnp.concatenate([scaled, (runs.log_loss - mean)[None]])
    products = jnp.einsum("ir,jr->rij", weight * scaled, pairs)
    summed = jax.ops.segment_sum(products, runs.group, num_segments=structure.n_groups)
    factor = _cholesky(summed[:, :, :-1] + jnp.eye(structure.n_coefficients))
    step = _solve(factor, _solve(factor, summed[:, :, -1], transposed=False), transposed=True)
    return factor, location + scale * step.T, scale


def _cholesky(matrices: Float[Array, "group k k"]) -> Float[Array, "group k k"]:
    """Lower factors, a column of all groups at a time.

    LAPACK is called once a group, which makes the gradient several times as long.
    """
    k = matrices.shape[-1]
    columns, rest = [], matrices
    for j in range(k):
        below = jnp.arange(k) >= j
        column = jnp.where(below, rest[:, :, j], 0.0) / jnp.sqrt(rest[:, j, j])[:, None]
        columns.append(column)
        rest = rest - column[:, :, None] * column[:, None, :]
    return jnp.stack(columns, axis=2)


def _solve(
    factor: Float[Array, "group k k"], right: Float[Array, "group k"], *, transposed: bool
) -> Float[Array, "group k"]:
    """L x = right, or L' x = right, a row of all groups at a time."""
    k = factor.shape[-1]
    x, rest = [right[:, 0]] * k, right
    for j in reversed(range(k)) if transposed else range(k):
        x[j] = rest[:, j] / factor[:, j, j]
        rest = rest - (factor[:, j] if transposed else factor[:, :, j]) * x[j][:, None]
    return jnp.stack(x, axis=1)
