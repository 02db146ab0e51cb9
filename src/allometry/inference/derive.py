"""From draws in sampling coordinates to everything the posterior file holds."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import numpyro
from jaxtyping import Array, Float

from allometry.inference.coordinates import Data, Program, to_sites
from allometry.inference.imported_draws import draw_imported
from allometry.inference.model import (
    STUDENT_DF,
    Sites,
    expected_log_loss,
    loss_model,
    noise_sd,
)
from allometry.laws import Scale

Arrays = dict[str, npt.NDArray[np.float64]]
CHUNK = 500
"""Draws in one compiled call."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Derived:
    """Quantities of a set of draws; the first axis is the draw.

    Attributes
    ----------
    sites : dict of ndarray
        The model's sites, on the sampler's scale.
    published : dict of ndarray, shape (draw, group)
        Coefficients with params and tokens in units of one.
    log_mean, sd, log_likelihood : ndarray, shape (draw, run)
        Expected log(L / L0); noise scale there; log density of the run's loss in its own unit.
    """

    sites: Arrays
    published: Arrays
    log_mean: npt.NDArray[np.float64]
    sd: npt.NDArray[np.float64]
    log_likelihood: npt.NDArray[np.float64]


@partial(jax.jit, static_argnums=1)
def _from_coordinates(x: Float[Array, "draw d"], program: Program, data: Data) -> Sites:
    return jax.vmap(lambda point: to_sites(point, program, data)[0])(x)


@partial(jax.jit, static_argnums=(1, 3))
def _at_runs(sites: Sites, program: Program, data: Data, scale: Scale) -> tuple[Sites, Sites]:
    def one(draw: Sites) -> tuple[Sites, Sites]:
        runs, theta = data.runs, draw["theta"]
        mean, imbalance = expected_log_loss(program.law, theta, runs)
        sd = noise_sd(draw, imbalance, runs)
        noise = numpyro.distributions.StudentT(STUDENT_DF, mean, sd)
        density = noise.log_prob(runs.log_loss) - runs.log_loss - jnp.log(scale.loss)
        coefficients = dict(zip(program.law.names, theta, strict=True))
        published = program.law.published(coefficients, scale)
        return published, {"log_mean": mean, "sd": sd, "log_likelihood": density}

    return jax.vmap(one)(sites)


@partial(jax.jit, static_argnums=(1, 3))
def _prior_sites(key: Array, program: Program, data: Data, draws: int) -> Sites:
    def one(key: Array) -> Sites:
        own = drawn(key, {})
        if not data.priors.imported:
            return own
        blocks = data.priors.imported
        return drawn(key, draw_imported(jax.random.fold_in(key, 1), blocks, program.law, own))

    def drawn(key: Array, known: Sites) -> Sites:
        model = numpyro.handlers.seed(numpyro.handlers.substitute(loss_model, data=known), key)
        traced = numpyro.handlers.trace(model).get_trace(
            program.law, program.structure, data.runs, data.priors, observed=False
        )
        sites = {n: s["value"] for n, s in traced.items() if s["type"] == "sample"}
        return {name: value for name, value in sites.items() if name != "log_loss"}

    return jax.vmap(one)(jax.random.split(key, draws))


def derive(
    x: npt.NDArray[np.float64], program: Program, data: Data, scale: Scale, n_runs: int
) -> Derived:
    """Everything about posterior draws, shape (draw, d) in sampling coordinates."""
    sites = [
        jax.tree.map(np.asarray, _from_coordinates(jnp.asarray(part), program, data))
        for part in _chunks(x)
    ]
    return _collect(sites, program, data, scale, n_runs, len(x))


def derive_prior(
    program: Program, data: Data, scale: Scale, n_runs: int, *, draws: int, seed: int
) -> Derived:
    """Everything about draws of the prior, at the same runs."""
    key = jax.random.key(seed)
    sites = jax.tree.map(np.asarray, _prior_sites(key, program, data, CHUNK))
    return _collect([sites], program, data, scale, n_runs, draws)


def _chunks(x: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    short = -len(x) % CHUNK
    full = np.concatenate([x, np.repeat(x[-1:], short, axis=0)])
    return [full[start : start + CHUNK] for start in range(0, len(full), CHUNK)]


def _collect(
    chunks: list[Arrays], program: Program, data: Data, scale: Scale, n_runs: int, draws: int
) -> Derived:
    parts = []
    for sites in chunks:
        published, at_runs = _at_runs(jax.tree.map(jnp.asarray, sites), program, data, scale)
        kept = {name: np.asarray(value)[:, :n_runs] for name, value in at_runs.items()}
        parts.append((sites, jax.tree.map(np.asarray, published), kept))
    sites, published, at_runs = (
        {name: np.concatenate([part[i][name] for part in parts])[:draws] for name in parts[0][i]}
        for i in range(3)
    )
    return Derived(sites=sites, published=published, **at_runs)
