"""Places to start the climb to the mode from."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from allometry.inference.coordinates import Data, Program, split
from allometry.inference.imported import toward_imported
from allometry.inference.model import RunArrays, site_shapes

Vector = npt.NDArray[np.float64]


def starts(program: Program, data: Data, *, count: int, seed: int) -> list[Vector]:
    """Different places to climb from: a regression start, and perturbations of it.

    With a geometry, log loss regressed on log N and log D gives the first three coordinates of
    every group in closed form; the others start at the prior. The perturbed starts move those
    others by about one prior standard deviation. With imported priors, the first starts at their
    mean and the second at that of the default prior.
    """
    first = np.asarray(_start(program, data))
    rng = np.random.default_rng([seed, 1])
    found = [first]
    if data.priors.imported and count > 1:  # the other end of the robust mixture
        found.append(np.asarray(_start(program, without_imported(data))))
    while len(found) < count:
        sites = {n: np.array(part) for n, part in split(first, program.structure).items()}
        theta = sites["theta"]
        loose = slice(3, None) if program.law.geometry is not None else slice(None)
        shift = np.asarray(rng.normal(0.0, 0.8, size=theta[loose].shape[0]))
        theta[loose] += shift[:, None]
        found.append(np.concatenate([np.ravel(part) for part in sites.values()]))
    return found


@partial(jax.jit, static_argnums=0)
def _start(program: Program, data: Data) -> Float[Array, " d"]:
    structure, runs, priors = program.structure, data.runs, data.priors
    k, g = structure.n_coefficients, structure.n_groups
    theta = jnp.broadcast_to(priors.loc[:, None], (k, g))
    theta = toward_imported(priors.imported, program.law, theta)
    geometry = program.law.geometry
    residual = jnp.exp(priors.noise[0])
    raw = theta
    if geometry is not None:
        slopes, residual = _regression(runs, g)
        prior = geometry.inverse(theta)
        raw = jnp.stack([slopes[0], jnp.log(-slopes[1]), jnp.log(-slopes[2]), *prior[3:]])
        theta = geometry.forward(raw)
    mean = theta.mean(axis=1)
    log_between = jnp.log(priors.between)
    everything = {
        "log_noise": jnp.log(residual),
        "log_off_valley": priors.off_valley[0],
        "mean": mean,
        "log_spread": log_between,
        "per_doubling": jnp.zeros(k),
        "log_parent_spread": log_between,
        "parent": jnp.broadcast_to(mean[:, None], (k, structure.n_parents)),
        "noise_offset": jnp.zeros(g),
        "theta": jnp.where(data.centred, raw, 0.0),
    }
    return jnp.concatenate([jnp.ravel(everything[name]) for name in site_shapes(structure)])


def without_imported(data: Data) -> Data:
    """The same data under the default prior alone."""
    return replace(data, priors=replace(data.priors, imported=()))


def _regression(runs: RunArrays, n_groups: int) -> tuple[Float[Array, "3 group"], Float[Array, ""]]:
    """Slopes of log loss on (1, log N, log D) by group, shrunk to the pooled ones; residual sd."""
    design = jnp.stack([jnp.ones_like(runs.log_params), runs.log_params, runs.log_tokens])
    weighted = design * runs.weight
    pooled_gram = weighted @ design.T
    ridge = 1e-3 * jnp.trace(pooled_gram) / 3 * jnp.eye(3)
    pooled = jnp.linalg.solve(
        pooled_gram + ridge, weighted @ runs.log_loss + ridge @ jnp.array([0.0, -0.05, -0.05])
    )
    member = jax.nn.one_hot(runs.group, n_groups, axis=0)  # [group, run]
    gram = jnp.einsum("gr,ir,jr->gij", member, weighted, design)
    moment = jnp.einsum("gr,ir,r->gi", member, weighted, runs.log_loss)
    weight = 2.0 * pooled_gram / jnp.maximum(runs.weight.sum(), 1.0)  # worth two runs
    coefficients = jnp.linalg.solve(gram + weight, (moment + weight @ pooled)[..., None])[..., 0].T
    slopes = jnp.concatenate([coefficients[:1], jnp.minimum(coefficients[1:], -0.005)])
    fitted = (slopes[:, runs.group] * design).sum(axis=0)
    total = jnp.maximum(runs.weight.sum() - 3.0, 1.0)
    variance = (runs.weight * (runs.log_loss - fitted) ** 2).sum() / total
    return slopes, jnp.clip(jnp.sqrt(variance), 1e-4, 0.1)
