"""The IsoFLOP model: every budget a valley, whose minima follow one growth law per group."""

from dataclasses import dataclass
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float, Int
from numpyro.infer.util import log_density

from allometry.inference.model import STUDENT_DF, Sites
from allometry.laws.valley import valley_log_loss

# Normal priors (location, scale) of the sites, all on the sampler's scale.
EXPONENT_MEAN = (0.5, 0.12)
"""Growth exponent of the population: published ones lie between 0.4 and 0.7."""
LOG_EXPONENT_SPREAD = (-3.2, 0.5)
"""log of its spread between groups: about 0.04, as between the study's contexts."""
LOG_SCATTER = (-3.5, 0.7)
"""log of the scatter of log N* around the growth law: about 3 %."""
LOG_CURVATURE_MEAN = (-3.9, 0.8)
"""log of the curvature of log loss: about 0.02, so 2 % above the minimum at a factor of four."""
LOG_CURVATURE_SPREAD = (-1.6, 0.5)
"""log of its spread between valleys: a budget's own runs hardly determine it, so they share."""
SKEW_SCALE = 0.4
LOG_NOISE = (-5.8, 1.0)
CENTRE_SCALE = 1.0
MINIMUM_SCALE = 0.1


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["valley", "log_size", "log_loss", "weight", "group", "log_flops", "least"],
    meta_fields=[],
)
@dataclass(frozen=True, kw_only=True, slots=True)
class ValleyArrays:
    """IsoFLOP runs as arrays.

    Attributes
    ----------
    valley : shape (run,)
        Valley of each run: a group at a budget.
    log_size, log_loss : shape (run,)
        Log of params (or tokens) and of loss, each centred on the mean over all runs.
    weight : shape (run,)
        One for a run, zero for padding.
    group : shape (valley,)
        Group of each valley.
    log_flops : shape (valley,)
        Log of the valley's mean compute, centred within its group.
    least : shape (valley,)
        Smallest log loss of the valley's runs.
    """

    valley: Int[Array, " run"]
    log_size: Float[Array, " run"]
    log_loss: Float[Array, " run"]
    weight: Float[Array, " run"]
    group: Int[Array, " valley"]
    log_flops: Float[Array, " valley"]
    least: Float[Array, " valley"]


def valley_model(n_groups: int, runs: ValleyArrays) -> None:
    """Sample growth laws and valleys, conditioned on the runs' losses."""
    exponent_mean = numpyro.sample("exponent_mean", dist.Normal(*EXPONENT_MEAN))
    log_exponent_spread = numpyro.sample("log_exponent_spread", dist.Normal(*LOG_EXPONENT_SPREAD))
    log_scatter = numpyro.sample("log_scatter", dist.Normal(*LOG_SCATTER))
    curvature_mean = numpyro.sample("log_curvature_mean", dist.Normal(*LOG_CURVATURE_MEAN))
    curvature_spread = numpyro.sample("log_curvature_spread", dist.Normal(*LOG_CURVATURE_SPREAD))
    log_noise = numpyro.sample("log_noise", dist.Normal(*LOG_NOISE))
    with numpyro.plate("group", n_groups):
        # Few groups, and budgets that may be two: non-centred.
        exponent_z = numpyro.sample("exponent_z", dist.Normal(0.0, 1.0))
        centre = numpyro.sample("centre", dist.Normal(0.0, CENTRE_SCALE))
        skew = numpyro.sample("skew", dist.Normal(0.0, SKEW_SCALE))
    exponent = exponent_mean + jnp.exp(log_exponent_spread) * exponent_z
    with numpyro.plate("valley", runs.group.shape[0]):
        scatter_z = numpyro.sample("scatter_z", dist.Normal(0.0, 1.0))
        curvature_z = numpyro.sample("curvature_z", dist.Normal(0.0, 1.0))
        minimum = numpyro.sample("minimum", dist.Normal(runs.least, MINIMUM_SCALE))
    log_optimum = optimum(centre, exponent, log_scatter, scatter_z, runs)
    log_curvature = curvature_mean + jnp.exp(curvature_spread) * curvature_z
    v = runs.valley
    mean = valley_log_loss(
        runs.log_size - log_optimum[v], minimum[v], log_curvature[v], skew[runs.group][v]
    )
    with numpyro.plate("run", v.shape[0]), numpyro.handlers.mask(mask=runs.weight > 0):
        noisy = dist.StudentT(STUDENT_DF, mean, jnp.exp(log_noise))
        numpyro.sample("log_loss", noisy, obs=runs.log_loss)


def optimum(
    centre: Float[Array, " group"],
    exponent: Float[Array, " group"],
    log_scatter: Float[Array, ""],
    scatter_z: Float[Array, " valley"],
    runs: ValleyArrays,
) -> Float[Array, " valley"]:
    """Log size of each valley's minimum: on the growth law, give or take the scatter."""
    law = centre[runs.group] + exponent[runs.group] * runs.log_flops
    return law + jnp.exp(log_scatter) * scatter_z


@dataclass(frozen=True, kw_only=True, slots=True)
class ValleyProgram:
    """The valley model as a density of one flat vector."""

    n_groups: int
    n_valleys: int

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the sites, in the order of the flat vector."""
        g, v = (self.n_groups,), (self.n_valleys,)
        return {
            "exponent_mean": (),
            "log_exponent_spread": (),
            "log_scatter": (),
            "log_curvature_mean": (),
            "log_curvature_spread": (),
            "log_noise": (),
            "exponent_z": g,
            "centre": g,
            "skew": g,
            "scatter_z": v,
            "curvature_z": v,
            "minimum": v,
        }

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(prod(shape) for shape in self.shapes.values())

    def split(self, x: Float[Array, " d"]) -> Sites:
        """Cut the flat vector into sites."""
        sites, start = {}, 0
        for name, shape in self.shapes.items():
            stop = start + prod(shape)
            sites[name] = x[start:stop].reshape(shape)
            start = stop
        return sites

    def log_density(self, x: Float[Array, " d"], data: ValleyArrays) -> Float[Array, ""]:
        """Log joint density, up to a constant."""
        joint: Float[Array, ""] = log_density(
            valley_model, (self.n_groups, data), {}, self.split(x)
        )[0]
        return joint
