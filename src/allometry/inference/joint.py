"""The joint density of the hierarchical model, written out: what samplers and climbs evaluate.

`allometry.inference.model.loss_model` is the definition, from which priors and predictions are
drawn, and to which tests hold this density at random points. NumPyro's own `log_density` runs the
program through its handlers each time that JAX traces it, which takes a second a fit.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from allometry.inference.imported import log_factor
from allometry.inference.model import (
    SPREAD_LOG_SD,
    STUDENT_DF,
    PriorArrays,
    RunArrays,
    Sites,
    Structure,
    expected_log_loss,
    group_location,
    noise_sd,
)
from allometry.laws import Law

Values = Float[Array, "..."]


def log_joint(
    law: Law, structure: Structure, runs: RunArrays, priors: PriorArrays, sites: Sites
) -> Float[Array, ""]:
    """Log density of sites and runs under `loss_model`, up to a constant."""
    location, scale = group_location(sites, structure, runs, priors)
    parts = [
        _normal(sites["log_noise"], *priors.noise),
        _normal(sites["log_off_valley"], *priors.off_valley),
        _normal(sites["theta"], location, scale),
        _runs(law, runs, sites),
    ]
    log_between = jnp.log(priors.between)
    if structure.pooled:
        parts += [
            _normal(sites["mean"], priors.loc, priors.scale),
            _normal(sites["log_spread"], log_between, SPREAD_LOG_SD),
            _normal(sites["noise_offset"], 0.0, priors.noise_between),
        ]
    if structure.covariate:
        parts.append(_normal(sites["per_doubling"], 0.0, priors.per_doubling))
    if structure.nested:
        spread = sites["log_parent_spread"]
        parts += [
            _normal(spread, log_between, SPREAD_LOG_SD),
            _normal(sites["parent"], sites["mean"][:, None], jnp.exp(spread)[:, None]),
        ]
    if priors.imported:
        parts.append(log_factor(priors.imported, law, sites))
    total: Float[Array, ""] = sum(parts, jnp.zeros(()))
    return total


def _normal(x: Values, loc: Values | float, scale: Values | float) -> Float[Array, ""]:
    z = (x - loc) / scale
    return -(0.5 * z**2 + jnp.broadcast_to(jnp.log(scale), z.shape)).sum()


def _runs(law: Law, runs: RunArrays, sites: Sites) -> Float[Array, ""]:
    """Log likelihood: Student-t of `STUDENT_DF` degrees of freedom around the law."""
    mean, imbalance = expected_log_loss(law, sites["theta"], runs)
    sd = noise_sd(sites, imbalance, runs)
    z = (runs.log_loss - mean) / sd
    density = -0.5 * (STUDENT_DF + 1) * jnp.log1p(z**2 / STUDENT_DF) - jnp.log(sd)
    return jnp.where(runs.weight > 0, density, 0.0).sum()
