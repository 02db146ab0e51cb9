"""The latency model as a NumPyro program: one law, partially pooled architectures, shape effects.

Every site is real-valued. A *cell* is one model shape of one architecture in one phase: compilers
choose other kernels for other shapes, so launches and work of a cell deviate from the law by a
log-normal effect each, whose spread is learned. A shape that was not timed draws new effects.
"""

from dataclasses import dataclass
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.infer.util import log_density

from allometry.inference.model import STUDENT_DF, Sites
from allometry.laws.latency import (
    LatencyLaw,
    LatencyValues,
    Work,
    log_seconds,
    natural_values,
)

NOISE = (-3.5, 0.7)
"""Normal prior of log noise: 3 % of a timing, within a factor of four."""
LAUNCH_SPREAD = 0.08
"""Spread of the effects on launches: fixed. Learned, it lets launches shrink with size and stand
for work: the same timings, and no prediction for a size that was not timed."""
WORK_SPREAD = 0.02
WORK_SPREAD_LOG_SD = 0.2
"""Median, and log sd, of the log-normal prior on the spread of the effects on work: tight, because
a wide spread trades bandwidth for effects that grow with size and predicts no other size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyStructure:
    """What changes the program and not only its numbers.

    Attributes
    ----------
    active : tuple of (int, int)
        Coefficient and architecture of every entry of ``theta``.
    n_coefficients, n_architectures, n_cells, n_noises : int
        Coefficients of the law; architectures; cells; architecture x phase.
    bounded : bool
        The peaks are ceilings.
    """

    active: tuple[tuple[int, int], ...]
    n_coefficients: int
    n_architectures: int
    n_cells: int
    n_noises: int
    bounded: bool


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["work", "architecture", "cell", "noise", "log_seconds", "relative_sd", "weight"],
    meta_fields=[],
)
@dataclass(frozen=True, kw_only=True, slots=True)
class TimingArrays:
    """Timings as arrays, padded with timings of weight zero.

    Attributes
    ----------
    work : Work
        What each of them had to do.
    architecture, cell, noise : Array, shape (architecture, timing), (cell, timing), (noise, timing)
        One where the timing is of that architecture, cell, architecture x phase; zero elsewhere.
        A product with these is ten times as fast as indexing: its gradient scatters nothing.
    log_seconds, relative_sd : Array, shape (timing,)
        What was measured, and its known standard error over it.
    weight : Array, shape (timing,)
        One for a timing, zero for padding.
    """

    work: Work
    architecture: Float[Array, "architecture timing"]
    cell: Float[Array, "cell timing"]
    noise: Float[Array, "noise timing"]
    log_seconds: Float[Array, " timing"]
    relative_sd: Float[Array, " timing"]
    weight: Float[Array, " timing"]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["timings", "loc", "scale", "between"],
    meta_fields=[],
)
@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyData:
    """Everything numeric that the density is conditioned on; priors by coefficient."""

    timings: TimingArrays
    loc: Float[Array, " k"]
    scale: Float[Array, " k"]
    between: Float[Array, " k"]


def latency_site_shapes(structure: LatencyStructure) -> dict[str, tuple[int, ...]]:
    """Shapes of the sampled sites, in the order of the flat vector."""
    return {
        "log_work_spread": (),
        "log_noise": (structure.n_noises,),
        "mean": (structure.n_coefficients,),
        "theta": (len(structure.active),),
        "launch_effect": (structure.n_cells,),
        "work_effect": (structure.n_cells,),
    }


def by_architecture(
    theta: Float[Array, "active *draws"], structure: LatencyStructure, fill: float = 0.0
) -> Float[Array, "k architecture *draws"]:
    """Coefficients as a table; `fill` where one does not concern an architecture."""
    k, a = (jnp.asarray(part) for part in zip(*structure.active, strict=True))
    shape = (structure.n_coefficients, structure.n_architectures, *theta.shape[1:])
    return jnp.full(shape, fill, dtype=theta.dtype).at[k, a].set(theta)


def point_values(
    law: LatencyLaw,
    table: Float[Array, "k architecture *draws"],
    architecture: Float[Array, "architecture point"],
) -> LatencyValues:
    """Coefficients of each point, with points last: arrays (*draws, point)."""
    chosen = jnp.einsum("ka...,ap->k...p", table, architecture)
    return dict(zip(law.names, chosen, strict=True))


def latency_model(
    law: LatencyLaw, structure: LatencyStructure, data: LatencyData, *, observed: bool = True
) -> None:
    """Sample the latency law; with `observed`, condition on what was measured."""
    timings = data.timings
    spread = dist.Normal(jnp.log(WORK_SPREAD), WORK_SPREAD_LOG_SD)
    work_spread = jnp.exp(numpyro.sample("log_work_spread", spread))
    with numpyro.plate("architecture_phase", structure.n_noises):
        log_noise = numpyro.sample("log_noise", dist.Normal(*NOISE))
    with numpyro.plate("coefficient", structure.n_coefficients):
        mean = numpyro.sample("mean", dist.Normal(data.loc, data.scale))
    k = jnp.asarray([coefficient for coefficient, _ in structure.active])
    with numpyro.plate("active", len(structure.active)):
        theta = numpyro.sample("theta", dist.Normal(mean[k], data.between[k]))
    with numpyro.plate("cell", structure.n_cells):
        launch = numpyro.sample("launch_effect", dist.Normal(0.0, LAUNCH_SPREAD))
        work = numpyro.sample("work_effect", dist.Normal(0.0, work_spread))
    table = natural_values(law, by_architecture(theta, structure), bounded=structure.bounded)
    parts = law.parts(point_values(law, table, timings.architecture), timings.work)
    center = log_seconds(parts, launch @ timings.cell, work @ timings.cell)
    sd = jnp.sqrt(jnp.exp(2 * log_noise) @ timings.noise + timings.relative_sd**2)
    n = timings.log_seconds.shape[0]
    with numpyro.plate("timing", n), numpyro.handlers.mask(mask=timings.weight > 0):
        noisy = dist.StudentT(STUDENT_DF, center, sd)
        numpyro.sample("log_seconds", noisy, obs=timings.log_seconds if observed else None)


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyProgram:
    """The density of the flat vector of sites, as `allometry.inference.nuts` samples it."""

    law: LatencyLaw
    structure: LatencyStructure

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(prod(shape) for shape in latency_site_shapes(self.structure).values())

    def split(self, x: Float[Array, "*batch d"]) -> Sites:
        """Cut flat vectors into sites, batch first."""
        sites, start = {}, 0
        for name, shape in latency_site_shapes(self.structure).items():
            stop = start + prod(shape)
            sites[name] = x[..., start:stop].reshape(*x.shape[:-1], *shape)
            start = stop
        return sites

    def log_density(self, x: Float[Array, " d"], data: LatencyData) -> Float[Array, ""]:
        """Log joint density of a flat vector, up to a constant."""
        joint: Float[Array, ""] = log_density(
            latency_model, (self.law, self.structure, data), {}, self.split(x)
        )[0]
        return joint
