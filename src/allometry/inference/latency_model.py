"""The latency model as a NumPyro program: one law, partially pooled architectures, shape effects.

Every site is real-valued. A *cell* is one model shape of one architecture in one phase: compilers
choose other kernels for other shapes, so launches and work of a cell deviate from the law by a
log-normal effect each, which keeps that out of the coefficients. What the law misses about the
kernels of one batch of a cell is in `allometry.inference.latency_settings`; what predictions make
of both is in `allometry.inference.latency_field`.

Coefficients of two architectures share a mean, which is integrated out: ``theta`` is normal with
the covariance that the common mean gives it.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float

from allometry.inference.latency_settings import settings_log_density
from allometry.inference.model import Sites
from allometry.laws.latency import LatencyLaw, LatencyValues, log_seconds, natural_values
from allometry.laws.latency_parts import LatencyParts, Work

NOISE = (-4.0, 0.7)
"""Normal prior of the log of a timing's own noise: 2 %, within a factor of four."""
KERNEL_SPREAD = (-3.5, 0.5)
"""Normal prior of the log of the error that timings of one shape and batch share: 3 %."""
LAUNCH_SPREAD = 0.08
"""Spread of the effects on launches: fixed. Learned, it lets launches shrink with size and stand
for work: the same timings, and no prediction for a size that was not timed."""
WORK_SPREAD = 0.03
WORK_SPREAD_LOG_SD = 0.3
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
    """Timings by setting, padded with slots and settings of weight zero.

    What all timings of every setting have in common has one slot: logarithms and exponentials of it
    are taken once a setting.

    Attributes
    ----------
    work : Work
        What each of them had to do, shape (setting, slot) or (setting, 1).
    architecture : Array, shape (architecture, setting)
        One where the setting is of that architecture; zero elsewhere. A product with it is ten
        times as fast as indexing: its gradient scatters nothing.
    cell, noise : Array, shape (cell, setting), (architecture x phase, setting)
        The same of cells and of architectures' phases.
    log_seconds : Array, shape (setting, slot)
        What was measured.
    relative_sd : Array, shape (setting, slot) or (setting, 1)
        Its known standard error over it.
    weight : Array, shape (setting, slot)
        One for a timing, zero for padding.
    """

    work: Work
    architecture: Float[Array, "architecture setting"]
    cell: Float[Array, "cell setting"]
    noise: Float[Array, "noise setting"]
    log_seconds: Float[Array, "setting slot"]
    relative_sd: Float[Array, "setting slot"]
    weight: Float[Array, "setting slot"]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["timings", "loc", "factor", "told", "resolved"],
    meta_fields=[],
)
@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyData:
    """Everything numeric that the density is conditioned on.

    Attributes
    ----------
    timings : TimingArrays
    loc, factor : Array, shape (active,) and (active, active)
        Prior mean of ``theta`` and the Cholesky factor of its covariance.
    told : Array, shape (effect, setting, slot)
        By how much the log seconds of a timing move what is expected of its cell's effects on
        launches and on work, at given coefficients.
    resolved : Array, shape (active,)
        Least multiple of its prior's median at which timings tell the term of a coefficient from
        none. Of coordinates alone, as `told`: no density depends on them.
    """

    timings: TimingArrays
    loc: Float[Array, " active"]
    factor: Float[Array, "active active"]
    told: Float[Array, "effect setting slot"]
    resolved: Float[Array, " active"]


def latency_site_shapes(structure: LatencyStructure) -> dict[str, tuple[int, ...]]:
    """Shapes of the sampled sites, in the order of the flat vector."""
    return {
        "log_work_spread": (),
        "log_noise": (structure.n_noises,),
        "log_kernel_spread": (structure.n_noises,),
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


def setting_values(
    law: LatencyLaw,
    table: Float[Array, "k architecture *draws"],
    architecture: Float[Array, "architecture setting"],
) -> LatencyValues:
    """Coefficients of each setting: arrays (*draws, setting, 1), to broadcast over its slots."""
    chosen = jnp.einsum("ka...,as->k...s", table, architecture)[..., None]
    return dict(zip(law.names, chosen, strict=True))


@partial(jax.tree_util.register_dataclass, data_fields=["center", "own", "shared"], meta_fields=[])
@dataclass(frozen=True, kw_only=True, slots=True)
class TimingLaw:
    """What a draw says of the timings, with leading axes for draws.

    Attributes
    ----------
    center : Array, shape (*draws, setting, slot)
        Log seconds with the cell's effects.
    own : Array, shape (*draws, setting, slot) or (*draws, setting, 1)
        Variance of each log timing's own noise, standard error of the measurement included.
    shared : Array, shape (*draws, setting)
        Variance of the error that the timings of a setting share.
    """

    center: Float[Array, "*draws setting slot"]
    own: Float[Array, "*draws setting slot"]
    shared: Float[Array, "*draws setting"]


def timing_parts(
    law: LatencyLaw,
    structure: LatencyStructure,
    timings: TimingArrays,
    theta: Float[Array, "*draws active"],
) -> LatencyParts:
    """Seconds of all timings by what they are spent on, (*draws, setting, slot); no effects."""
    entries = by_architecture(jnp.moveaxis(theta, -1, 0), structure)
    table = natural_values(law, entries, bounded=structure.bounded)
    return law.parts(setting_values(law, table, timings.architecture), timings.work)


def timing_law(
    law: LatencyLaw,
    structure: LatencyStructure,
    timings: TimingArrays,
    sites: Sites,
    parts: LatencyParts | None = None,
) -> TimingLaw:
    """Center and variances of all timings; sites have draws, if any, first.

    With `parts`, those of these sites are known already.
    """
    if parts is None:
        parts = timing_parts(law, structure, timings, sites["theta"])
    launch, work = (sites[n] @ timings.cell for n in ("launch_effect", "work_effect"))
    own = jnp.exp(2 * sites["log_noise"]) @ timings.noise
    return TimingLaw(
        center=log_seconds(parts, launch[..., None], work[..., None]),
        own=own[..., None] + timings.relative_sd**2,
        shared=jnp.exp(2 * sites["log_kernel_spread"]) @ timings.noise,
    )


def latency_model(
    law: LatencyLaw,
    structure: LatencyStructure,
    data: LatencyData,
    parts: LatencyParts | None = None,
) -> None:
    """Sample the latency law, conditioned on what was measured.

    `parts` of the sites that are substituted spare their second evaluation, and its gradient's.
    """
    timings = data.timings
    spread = dist.Normal(jnp.log(WORK_SPREAD), WORK_SPREAD_LOG_SD)
    sites: dict[str, Array] = {"log_work_spread": numpyro.sample("log_work_spread", spread)}
    with numpyro.plate("architecture_phase", structure.n_noises):
        sites["log_noise"] = numpyro.sample("log_noise", dist.Normal(*NOISE))
        sites["log_kernel_spread"] = numpyro.sample(
            "log_kernel_spread", dist.Normal(*KERNEL_SPREAD)
        )
    prior = dist.MultivariateNormal(data.loc, scale_tril=data.factor)
    sites["theta"] = numpyro.sample("theta", prior)
    with numpyro.plate("cell", structure.n_cells):
        sites["launch_effect"] = numpyro.sample("launch_effect", dist.Normal(0.0, LAUNCH_SPREAD))
        sites["work_effect"] = numpyro.sample(
            "work_effect", dist.Normal(0.0, jnp.exp(sites["log_work_spread"]))
        )
    found = timing_law(law, structure, timings, sites, parts)
    residual = jnp.where(timings.weight > 0, timings.log_seconds - found.center, 0.0)
    density = settings_log_density(residual, found.own, timings.weight, found.shared)
    numpyro.factor("log_seconds", density.sum())
