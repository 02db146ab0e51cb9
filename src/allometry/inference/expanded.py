"""What runs say of coefficients, the law expanded around a place and the noise taken for normal."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from allometry.inference.model import STUDENT_DF, RunArrays, Sites, Structure, noise_variance
from allometry.inference.small_matrices import spd_solve
from allometry.laws import Law, with_naturals

INFORMATION = (STUDENT_DF + 1) / (STUDENT_DF + 3)
"""Fisher information of a location under Student-t noise, over that of a normal of its scale."""


class Told(NamedTuple):
    """J' W J and J' W r of each group: J = d log loss / d coefficients, r the residuals.

    A Gaussian log likelihood d -> h' d - d' H d / 2 of the distance d from the place.
    """

    information: Float[Array, "group k k"]
    push: Float[Array, "group k"]


def told(
    theta: Float[Array, "k group"],
    sites: Sites,
    law: Law,
    structure: Structure,
    runs: RunArrays,
    *,
    bend: Float[Array, " run"] | float = 0.0,
) -> Told:
    """Of coefficients, around `theta`, whose log losses are `bend` larger than the law's.

    Noise is that of `sites`: the common level where they have no ``noise_offset``.
    """
    own = theta[:, runs.group]
    log_loss, pull_back = jax.vjp(lambda own: _log_losses(own, law, runs), own)
    (slopes,) = pull_back(jnp.ones_like(log_loss))  # a run's loss depends on its own column alone
    imbalance = law.imbalance(with_naturals(dict(zip(law.names, own, strict=True))), runs.point)
    weight = INFORMATION * runs.weight / noise_variance(sites, imbalance, runs)
    pairs = jnp.concatenate([slopes, (runs.log_loss - log_loss - bend)[None]])
    products = jnp.einsum("ir,jr->rij", weight * slopes, pairs)
    summed = jax.ops.segment_sum(products, runs.group, num_segments=structure.n_groups)
    return Told(summed[:, :, :-1], summed[:, :, -1])


def told_of_location(
    location: Float[Array, "k group"],
    scale: Float[Array, "k group"],
    sites: Sites,
    law: Law,
    structure: Structure,
    runs: RunArrays,
) -> Told:
    """Of what groups lie around, their own normal deviations integrated; noise at its common level.

    Groups scatter around a curve: the mean of their log losses is not that of their mean. It is
    taken over points at sqrt(k) standard deviations along each coefficient.
    """
    shared = {name: value for name, value in sites.items() if name != "noise_offset"}
    k = structure.n_coefficients
    scatter = scale
    if structure.nested:
        scatter = jnp.sqrt(scale**2 + jnp.exp(2 * sites["log_parent_spread"])[:, None])

    def log_losses(step: Float[Array, " k"]) -> Float[Array, " run"]:
        return _log_losses((location + step[:, None] * scatter)[:, runs.group], law, runs)

    steps = jnp.sqrt(k) * jnp.concatenate([jnp.eye(k), -jnp.eye(k)])
    bend = jax.vmap(log_losses)(steps).mean(axis=0) - log_losses(jnp.zeros(k))
    own = told(location, shared, law, structure, runs, bend=bend)
    s = scale.T
    right = s[:, :, None] * jnp.concatenate([own.information, own.push[:, :, None]], axis=2)
    solved = spd_solve(right[:, :, :-1] * s[:, None, :] + jnp.eye(k), right) / s[:, :, None]
    return Told(solved[:, :, :-1], solved[:, :, -1])


def _log_losses(own: Float[Array, "k run"], law: Law, runs: RunArrays) -> Float[Array, " run"]:
    return law.log_loss(with_naturals(dict(zip(law.names, own, strict=True))), runs.point)
