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
"""Draws in one compiled call, fewer where there are many runs."""

CALL_VALUES = 5_000_000
"""Draws times runs in one compiled call: 40 MB for each intermediate array."""

POINTWISE_VALUES = 20_000_000
"""Draws times runs that are kept of each quantity by run: a fifth of a gigabyte."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Derived:
    """Quantities of a set of draws; the first axis is the draw.

    Attributes
    ----------
    sites : dict of ndarray
        The model's sites, on the sampler's scale.
    published : dict of ndarray, shape (draw, group)
        Coefficients with params and tokens in units of one.
    log_mean, sd, log_likelihood : ndarray, shape (kept, run)
        Expected log(L / L0); noise scale there; log density of the run's loss in its own unit: of
        every `pointwise_step`-th draw.
    """

    sites: Arrays
    published: Arrays
    log_mean: npt.NDArray[np.float64]
    sd: npt.NDArray[np.float64]
    log_likelihood: npt.NDArray[np.float64]


@partial(jax.jit, static_argnums=1)
def _from_coordinates(x: Float[Array, "draw d"], program: Program, data: Data) -> Sites:
    return jax.vmap(lambda point: to_sites(point, program, data)[0])(x)


@partial(jax.jit, static_argnums=(1, 2))
def _published(sites: Sites, program: Program, scale: Scale) -> Sites:
    def one(theta: Float[Array, "k group"]) -> Sites:
        coefficients = dict(zip(program.law.names, theta, strict=True))
        return program.law.published(coefficients, scale)

    return jax.vmap(one)(sites["theta"])


@partial(jax.jit, static_argnums=(1, 3))
def _at_runs(sites: Sites, program: Program, data: Data, scale: Scale) -> Sites:
    def one(draw: Sites) -> Sites:
        runs = data.runs
        mean, imbalance = expected_log_loss(program.law, draw["theta"], runs)
        sd = noise_sd(draw, imbalance, runs)
        noise = numpyro.distributions.StudentT(STUDENT_DF, mean, sd)
        density = noise.log_prob(runs.log_loss) - runs.log_loss - jnp.log(scale.loss)
        return {"log_mean": mean, "sd": sd, "log_likelihood": density}

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


def pointwise_step(draws: int, chains: int, n_runs: int) -> int:
    """Every how many draws of a chain quantities by run are kept: one, but of very many runs.

    The smallest divisor of `draws` that keeps no more than `POINTWISE_VALUES`.
    """
    divisors = (n for n in range(1, draws + 1) if draws % n == 0)
    fits = (n for n in divisors if chains * draws // n * n_runs <= POINTWISE_VALUES)
    return next(fits, draws)


def derive(
    x: npt.NDArray[np.float64],
    program: Program,
    data: Data,
    scale: Scale,
    n_runs: int,
    *,
    step: int = 1,
) -> Derived:
    """Everything about posterior draws, shape (draw, d) in sampling coordinates.

    Quantities by run are those of every `step`-th draw.
    """
    parts = [
        jax.tree.map(np.asarray, _from_coordinates(jnp.asarray(part), program, data))
        for part in _chunks(x, CHUNK)
    ]
    sites = {name: np.concatenate([part[name] for part in parts])[: len(x)] for name in parts[0]}
    return _collect(sites, program, data, scale, n_runs, step)


def derive_prior(
    program: Program, data: Data, scale: Scale, n_runs: int, *, draws: int, seed: int
) -> Derived:
    """Everything about draws of the prior, at the same runs."""
    drawn = _prior_sites(jax.random.key(seed), program, data, draws)
    sites = jax.tree.map(np.asarray, drawn)
    return _collect(sites, program, data, scale, n_runs, pointwise_step(draws, 1, n_runs))


def _chunks(values: npt.NDArray[np.float64], size: int) -> list[npt.NDArray[np.float64]]:
    """Parts of one length; the last is filled up with its last row, so that one program serves."""
    full = np.concatenate([values, np.repeat(values[-1:], -len(values) % size, axis=0)])
    return [full[start : start + size] for start in range(0, len(full), size)]


def _collect(
    sites: Arrays, program: Program, data: Data, scale: Scale, n_runs: int, step: int
) -> Derived:
    published = jax.tree.map(np.asarray, _published(sites, program, scale))
    kept = {name: values[::step] for name, values in sites.items()}
    draws = len(kept["theta"])
    size = int(np.clip(CALL_VALUES // len(data.runs.group), 10, CHUNK))
    by_name = {name: _chunks(values, size) for name, values in kept.items()}
    parts = []
    for chunk in range(len(by_name["theta"])):
        one = {name: jnp.asarray(chunks[chunk]) for name, chunks in by_name.items()}
        at_runs = _at_runs(one, program, data, scale)
        parts.append({name: np.asarray(value)[:, :n_runs] for name, value in at_runs.items()})
    whole = {name: np.concatenate([part[name] for part in parts])[:draws] for name in parts[0]}
    return Derived(sites=sites, published=published, **whole)
