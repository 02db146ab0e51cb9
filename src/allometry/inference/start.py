"""Places to start the climb to the mode from."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from allometry.inference.conditional_levels import FIRM
from allometry.inference.coordinates import Data, Program, split
from allometry.inference.imported import toward_imported
from allometry.inference.model import RunArrays, site_shapes

Vector = npt.NDArray[np.float64]

SINGULAR = 1e10
"""Condition number above which a regression's slopes are told apart by a ridge."""


def starts(program: Program, data: Data, *, count: int, seed: int) -> list[Vector]:
    """Different places to climb from: a regression start, and perturbations of it.

    With a geometry, log loss regressed on log N and log D gives the first three coordinates of
    every group in closed form; the others start at the prior. The perturbed starts move those
    others by about one prior standard deviation. With imported priors, the first starts at their
    mean and the second at that of the default prior.
    """
    slopes, residual = _regression(data.runs, program.structure.n_groups)
    if program.thin:
        residual = np.exp(np.asarray(data.priors.noise)[0])
    first = np.asarray(_start(program, data, slopes, residual))
    rng = np.random.default_rng([seed, 1])
    found = [first]
    if data.priors.imported and count > 1:  # the other end of the robust mixture
        found.append(np.asarray(_start(program, without_imported(data), slopes, residual)))
    while len(found) < count:
        sites = {n: np.array(part) for n, part in split(first, program.structure).items()}
        theta = sites["mean"][:, None] if program.thin else sites["theta"]
        loose = slice(FIRM, None) if program.law.geometry is not None else slice(None)
        shift = np.asarray(rng.normal(0.0, 0.8, size=theta[loose].shape[0]))
        theta[loose] += shift[:, None]
        found.append(np.concatenate([np.ravel(part) for part in sites.values()]))
    return found


@partial(jax.jit, static_argnums=0)
def _start(
    program: Program, data: Data, slopes: Float[Array, "3 group"], residual: Float[Array, ""]
) -> Float[Array, " d"]:
    structure, priors = program.structure, data.priors
    k, g = structure.n_coefficients, structure.n_groups
    theta = jnp.broadcast_to(priors.loc[:, None], (k, g))
    theta = toward_imported(priors.imported, program.law, theta)
    geometry = program.law.geometry
    raw = theta
    if geometry is None:
        residual = jnp.exp(priors.noise[0])
    else:
        prior = geometry.inverse(theta)
        raw = jnp.stack([slopes[0], jnp.log(-slopes[1]), jnp.log(-slopes[2]), *prior[3:]])
        theta = geometry.forward(raw)
    mean = theta.mean(axis=1)
    log_between = jnp.log(priors.between)
    parent = jnp.broadcast_to(mean[:, None], (k, structure.n_parents))
    centred = data.centred
    if program.thin:  # all but what runs hardly tell of the mean by its distance from a guess
        if geometry is not None:
            mean = geometry.inverse(mean[:, None])[:, 0].at[:FIRM].set(0.0)
        parent, centred = jnp.zeros_like(parent), jnp.zeros_like(centred)
    everything = {
        "log_noise": jnp.log(residual),
        "log_off_valley": priors.off_valley[0],
        "mean": mean,
        "log_spread": log_between,
        "per_doubling": jnp.zeros(k),
        "log_parent_spread": log_between,
        "parent": parent,
        "noise_offset": jnp.zeros(g),
        "theta": jnp.where(centred, raw, 0.0),
    }
    return jnp.concatenate([jnp.ravel(everything[name]) for name in site_shapes(structure)])


def without_imported(data: Data) -> Data:
    """The same data under the default prior alone."""
    return replace(data, priors=replace(data.priors, imported=()))


def _regression(runs: RunArrays, n_groups: int) -> tuple[Vector, np.float64]:
    """Slopes of log loss on (1, log N, log D) by group, shrunk to the pooled ones; residual sd."""
    group, weight = np.asarray(runs.group), np.asarray(runs.weight)
    log_params, log_tokens = np.asarray(runs.log_params), np.asarray(runs.log_tokens)
    log_loss = np.asarray(runs.log_loss)
    design = np.stack([np.ones_like(log_params), log_params, log_tokens])
    weighted = design * weight
    pooled_gram = weighted @ design.T
    ridge = 1e-3 * np.trace(pooled_gram) / 3 * np.eye(3)
    pooled = np.linalg.solve(
        pooled_gram + ridge, weighted @ log_loss + ridge @ np.array([0.0, -0.05, -0.05])
    )
    gram, moment = np.zeros((n_groups, 3, 3)), np.zeros((n_groups, 3))
    np.add.at(gram, group, np.einsum("ir,jr->rij", weighted, design))
    np.add.at(moment, group, (weighted * log_loss).T)
    if np.linalg.cond(pooled_gram) > SINGULAR:  # params and tokens move together in all runs
        pooled_gram = pooled_gram + 1e-6 * ridge
    shrink = 2.0 * pooled_gram / max(weight.sum(), 1.0)  # worth two runs
    solved = np.linalg.solve(gram + shrink, (moment + shrink @ pooled)[..., None])
    coefficients = solved[..., 0].T
    slopes = np.concatenate([coefficients[:1], np.minimum(coefficients[1:], -0.005)])
    fitted = (slopes[:, group] * design).sum(axis=0)
    total = max(weight.sum() - 3.0, 1.0)
    variance = (weight * (log_loss - fitted) ** 2).sum() / total
    return slopes, np.clip(np.sqrt(variance), 1e-4, 0.1)
