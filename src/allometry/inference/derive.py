"""From draws in sampling coordinates to everything the posterior file holds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from allometry.inference.coordinates import Data, Program, to_sites
from allometry.inference.imported_draws import draw_imported
from allometry.inference.joint import log_student, prior_sites
from allometry.inference.model import (
    Sites,
    expected_log_loss,
    noise_variance,
    site_shapes,
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
        variance = noise_variance(draw, imbalance, runs)
        density = log_student(runs.log_loss - mean, variance)
        per_loss = density - runs.log_loss - jnp.log(scale.loss)
        return {"log_mean": mean, "sd": jnp.sqrt(variance), "log_likelihood": per_loss}

    return jax.vmap(one)(sites)


@partial(jax.jit, static_argnums=1)
def _prior_sites(standard: Sites, program: Program, data: Data, key: Array) -> Sites:
    law, structure, priors = program.law, program.structure, data.priors

    def one(standard: Sites, key: Array) -> Sites:
        own = prior_sites(standard, {}, structure, data.runs, priors)
        if not priors.imported:
            return own
        known = draw_imported(key, priors.imported, law, own)
        return prior_sites(standard, known, structure, data.runs, priors)

    return jax.vmap(one)(standard, key)


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
    sites = _in_chunks({"x": x}, CHUNK, lambda part: _from_coordinates(part["x"], program, data))
    return _collect(sites, program, data, scale, n_runs, step)


def derive_prior(
    program: Program, data: Data, scale: Scale, n_runs: int, *, draws: int, seed: int
) -> Derived:
    """Everything about draws of the prior, at the same runs."""
    rng = np.random.default_rng([seed, 17])
    standard = {
        name: rng.normal(size=(draws, *shape))
        for name, shape in site_shapes(program.structure).items()
    }
    keys = rng.integers(2**32, size=(draws, 2), dtype=np.uint32)
    sites = jax.tree.map(np.asarray, _prior_sites(standard, program, data, keys))
    return _collect(sites, program, data, scale, n_runs, pointwise_step(draws, 1, n_runs))


def _chunks(values: npt.NDArray[np.float64], size: int) -> list[npt.NDArray[np.float64]]:
    """Parts of one length; the last is filled up with its last row, so that one program serves."""
    full = np.concatenate([values, np.repeat(values[-1:], -len(values) % size, axis=0)])
    return [full[start : start + size] for start in range(0, len(full), size)]


def _collect(
    sites: Arrays, program: Program, data: Data, scale: Scale, n_runs: int, step: int
) -> Derived:
    published = _in_chunks(sites, CHUNK, lambda part: _published(part, program, scale))
    kept = {name: values[::step] for name, values in sites.items()}
    size = int(np.clip(CALL_VALUES // len(data.runs.group), 10, CHUNK))
    whole = _in_chunks(kept, size, lambda part: _at_runs(part, program, data, scale))
    at_runs = {name: values[:, :n_runs] for name, values in whole.items()}
    return Derived(sites=sites, published=published, **at_runs)


def _in_chunks(
    values: Arrays, size: int, function: Callable[[Arrays], Mapping[str, npt.ArrayLike]]
) -> Arrays:
    """A function of draws, called with `size` of them at a time."""
    draws = len(next(iter(values.values())))
    by_name = {name: _chunks(part, size) for name, part in values.items()}
    parts = [
        {
            name: np.asarray(found)
            for name, found in function(dict(zip(by_name, chunk, strict=True))).items()
        }
        for chunk in zip(*by_name.values(), strict=True)
    ]
    return {name: np.concatenate([part[name] for part in parts])[:draws] for name in parts[0]}
