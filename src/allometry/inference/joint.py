"""The hierarchical model written out: its joint density, and draws of its prior.

`allometry.inference.model.loss_model` is the definition, to which tests hold both at random points.
NumPyro's own functions run the program through its handlers each time that JAX traces it, which
takes a second a fit, and half a second to import.
"""

from math import lgamma, log, pi

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
    noise_variance,
)
from allometry.laws import Law

Values = Float[Array, "..."]

NU = STUDENT_DF
STUDENT_LOG_NORM = lgamma((NU + 1) / 2) - lgamma(NU / 2) + NU / 2 * log(NU) - log(pi) / 2


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
    """Log likelihood of the runs around the law."""
    mean, imbalance = expected_log_loss(law, sites["theta"], runs)
    variance = noise_variance(sites, imbalance, runs)
    return jnp.where(runs.weight > 0, log_student(runs.log_loss - mean, variance), 0.0).sum()


def log_student(residual: Values, variance: Values) -> Values:
    """Log density of the noise: Student-t of `STUDENT_DF` degrees of freedom and squared scale.

    As the difference of two logarithms, whose gradient takes no root.
    """
    spread = jnp.log(NU * variance + residual**2)
    log_density: Values = 0.5 * NU * jnp.log(variance) - 0.5 * (NU + 1) * spread
    return STUDENT_LOG_NORM + log_density


def prior_sites(
    standard: Sites, known: Sites, structure: Structure, runs: RunArrays, priors: PriorArrays
) -> Sites:
    """Sites of one draw of the prior from standard normal ones of the same shapes.

    Sites that are `known` keep their value, and what is below them follows.
    """
    found = dict(known)

    def add(name: str, loc: Values | float, scale: Values | float) -> None:
        if name in standard and name not in found:
            found[name] = loc + scale * standard[name]

    log_between = jnp.log(priors.between)
    add("log_noise", *priors.noise)
    add("log_off_valley", *priors.off_valley)
    add("mean", priors.loc, priors.scale)
    add("log_spread", log_between, SPREAD_LOG_SD)
    add("per_doubling", 0.0, priors.per_doubling)
    add("log_parent_spread", log_between, SPREAD_LOG_SD)
    if structure.nested:
        add("parent", found["mean"][:, None], jnp.exp(found["log_parent_spread"])[:, None])
    add("noise_offset", 0.0, priors.noise_between)
    add("theta", *group_location(found, structure, runs, priors))
    return found
