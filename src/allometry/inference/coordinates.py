"""The sampler's coordinates: one flat vector in which the posterior is nearly a unit Gaussian.

Three maps, innermost first. *Sites*: the flat vector is cut into the model's sites. *Geometry*: a
group with enough runs is described by what its runs determine (the law's `Geometry`), a group with
few runs by its standardised distance from the population (non-centred), which removes the funnel;
between the two, only the coefficients that the runs hardly tell are.
*Whitening*: an affine map by the Laplace approximation at the mode.
"""

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Bool, Float

from allometry.inference.conditional import from_model, to_model
from allometry.inference.joint import log_joint
from allometry.inference.model import (
    PriorArrays,
    RunArrays,
    Sites,
    Structure,
    group_location,
    site_shapes,
)
from allometry.laws import Law

MIN_CENTRED_RUNS = 12
"""Runs from which on a group is centred: about two for each coefficient of the default law."""

MIN_SHAPED_RUNS = 20
"""Runs from which on coefficients that a geometry leaves as they are (log_gamma) are centred too.

Twelve runs hardly tell them: over 300 such groups their spread mixes badly if they are.
"""

Vector = TypeVar("Vector", Float[Array, "..."], npt.NDArray[np.float64])


class Density(Protocol):
    """What a sampler needs of a model: hashable, with all its numbers in `data`."""

    def __hash__(self) -> int: ...

    @property
    def size(self) -> int:
        """Length of the flat vector."""

    def log_density(self, x: Float[Array, " d"], data: Any) -> Float[Array, ""]:
        """Log joint density of a flat vector, up to a constant."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """What a compiled density depends on beside its arrays.

    Groups that are `thin` are sampled given the levels above them: see `conditional`.
    """

    law: Law
    structure: Structure
    thin: bool = False

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(prod(shape) for shape in site_shapes(self.structure).values())

    def log_density(self, x: Float[Array, " d"], data: "Data") -> Float[Array, ""]:
        """`log_posterior`, as samplers ask for it."""
        return log_posterior(x, self, data)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["runs", "priors", "centred"],
    meta_fields=[],
)
@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """Everything numeric that a density is conditioned on."""

    runs: RunArrays
    priors: PriorArrays
    centred: Bool[Array, "k group"]


def centring(
    law: Law, structure: Structure, runs_per_group: npt.NDArray[np.int64]
) -> Bool[Array, "k group"]:
    """Which coefficients of which groups are sampled around their own runs."""
    enough = np.full(structure.n_coefficients, MIN_CENTRED_RUNS)
    if law.geometry is not None:
        enough[law.geometry.unmoved :] = MIN_SHAPED_RUNS
    # One group alone has no population to move with: its few runs still fix its centre.
    return jnp.asarray((runs_per_group >= enough[:, None]) | (not structure.pooled))


def split(x: Vector, structure: Structure) -> dict[str, Vector]:
    """Cut the flat vector, of JAX or NumPy, into sites of its kind."""
    sites, start = {}, 0
    for name, shape in site_shapes(structure).items():
        stop = start + prod(shape)
        sites[name] = x[start:stop].reshape(shape)
        start = stop
    return sites


def join(sites: Sites, structure: Structure) -> Float[Array, " d"]:
    """Put sites into one flat vector; the inverse of `split`."""
    return jnp.concatenate([jnp.ravel(sites[name]) for name in site_shapes(structure)])


def to_sites(x: Float[Array, " d"], program: Program, data: Data) -> tuple[Sites, Float[Array, ""]]:
    """Sites of the model and the log determinant of the map, from sampling coordinates."""
    sites = split(x, program.structure)
    if program.thin:
        return to_model(sites, program.law, program.structure, data.runs, data.priors)
    location, scale = group_location(sites, program.structure, data.runs, data.priors)
    raw = sites["theta"]
    distant = location + scale * raw
    near, near_log_det = raw, jnp.zeros(raw.shape[1])
    if program.law.geometry is not None:
        # Rows of a triangular part are what they are there: gamma, which the others' map reads.
        own = jnp.where(data.centred, raw, distant)
        near, near_log_det = program.law.geometry.forward(own), program.law.geometry.log_det(own)
    theta = jnp.where(data.centred, near, distant)
    log_det = jnp.where(data.centred.any(axis=0), near_log_det, 0.0).sum()
    log_det = log_det + jnp.where(data.centred, 0.0, jnp.log(scale)).sum()
    return sites | {"theta": theta}, log_det


def from_sites(sites: Sites, program: Program, data: Data) -> Float[Array, " d"]:
    """Sampling coordinates of given sites; the inverse of `to_sites`."""
    if program.thin:
        sampled = from_model(sites, program.law, program.structure, data.runs, data.priors)
        return join(sampled, program.structure)
    location, scale = group_location(sites, program.structure, data.runs, data.priors)
    theta = sites["theta"]
    geometry = program.law.geometry
    near = theta if geometry is None else geometry.inverse(theta)
    raw = jnp.where(data.centred, near, (theta - location) / scale)
    return join(sites | {"theta": raw}, program.structure)


def log_posterior(x: Float[Array, " d"], program: Program, data: Data) -> Float[Array, ""]:
    """Log joint density in sampling coordinates, up to a constant."""
    sites, log_det = to_sites(x, program, data)
    return log_joint(program.law, program.structure, data.runs, data.priors, sites) + log_det
