"""The hierarchical model of loss, as a NumPyro program.

Every site is real-valued (logs of positive quantities), so that a flat vector of sites is an
unconstrained one. Groups are written in the centred form; `allometry.inference.coordinates` samples
groups with few runs in the non-centred one.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from allometry.inference.imported import ImportedBlock, log_factor
from allometry.laws import Law, Point, with_naturals

SPREAD_LOG_SD = 0.45
"""Log sd of the log-normal prior on a spread: wider, or a half-normal, few groups make a funnel."""

Sites = dict[str, Float[Array, "..."]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Structure:
    """What changes the program and not only its numbers.

    Attributes
    ----------
    n_coefficients, n_groups, n_parents : int
        K, G and P: coefficients of the law, groups, levels of the first group column.
    pooled : bool
        More than one group: a population and spreads are sampled.
    nested : bool
        Levels of the first group column have effects of their own.
    covariate : bool
        Coefficients may change with each doubling of the context length.
    columns : tuple of str
        Further columns that the law reads.
    """

    n_coefficients: int
    n_groups: int
    n_parents: int
    pooled: bool
    nested: bool
    covariate: bool
    columns: tuple[str, ...] = ()


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "loc",
        "scale",
        "between",
        "per_doubling",
        "noise",
        "off_valley",
        "noise_between",
        "imported",
    ],
    meta_fields=[],
)
@dataclass(frozen=True, kw_only=True, slots=True)
class PriorArrays:
    """Numbers of the priors; see `allometry.inference.loss_priors.LossPriors` for their meaning."""

    loc: Float[Array, " k"]
    scale: Float[Array, " k"]
    between: Float[Array, " k"]
    per_doubling: Float[Array, " k"]
    noise: Float[Array, " 2"]
    off_valley: Float[Array, " 2"]
    noise_between: Float[Array, ""]
    imported: tuple[ImportedBlock, ...] = ()


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "group",
        "log_params",
        "log_tokens",
        "log_loss",
        "relative_stderr",
        "weight",
        "columns",
        "log_reference",
        "parent",
        "doublings",
    ],
    meta_fields=[],
)
@dataclass(frozen=True, kw_only=True, slots=True)
class RunArrays:
    """Runs as arrays relative to the reference run, padded with runs of weight zero.

    Attributes
    ----------
    group : shape (run,)
        Group of each run.
    log_params, log_tokens, log_loss : shape (run,)
        log(N / N0), log(D / D0), log(L / L0).
    relative_stderr : shape (run,)
        Known measurement error of the loss over the loss.
    weight : shape (run,)
        One for a run, zero for padding.
    columns : dict of arrays, shape (run,)
        Further columns that the law reads.
    log_reference : shape (2,)
        log N0 and log D0.
    parent, doublings : shape (group,)
        Level of the first group column; log2 of the context over the reference context.
    """

    group: Int[Array, " run"]
    log_params: Float[Array, " run"]
    log_tokens: Float[Array, " run"]
    log_loss: Float[Array, " run"]
    relative_stderr: Float[Array, " run"]
    weight: Float[Array, " run"]
    columns: dict[str, Float[Array, " run"]]
    log_reference: Float[Array, " 2"]
    parent: Int[Array, " group"]
    doublings: Float[Array, " group"]

    @property
    def point(self) -> Point:
        """Where the law is evaluated."""
        return Point(
            log_params=self.log_params,
            log_tokens=self.log_tokens,
            columns=self.columns,
            log_reference=(self.log_reference[0], self.log_reference[1]),  # type: ignore[arg-type]
        )

    def take(self, rows: Any) -> "RunArrays":
        """Some of the runs, by their place."""
        return replace(
            self,
            columns={name: values[rows] for name, values in self.columns.items()},
            **{name: getattr(self, name)[rows] for name in _PER_RUN},
        )


_PER_RUN = ("group", "log_params", "log_tokens", "log_loss", "relative_stderr", "weight")


STUDENT_DF = 4.0
"""Degrees of freedom of the noise: fixed. Learned, it stays near 4 and costs effective draws."""


def site_shapes(structure: Structure) -> dict[str, tuple[int, ...]]:
    """Shapes of the sampled sites, in the order of the flat vector."""
    k, g, p = structure.n_coefficients, structure.n_groups, structure.n_parents
    shapes: dict[str, tuple[int, ...]] = {"log_noise": (), "log_off_valley": ()}
    if structure.pooled:
        shapes |= {"mean": (k,), "log_spread": (k,)}
    if structure.covariate:
        shapes["per_doubling"] = (k,)
    if structure.nested:
        shapes |= {"log_parent_spread": (k,), "parent": (k, p)}
    if structure.pooled:
        shapes["noise_offset"] = (g,)
    return shapes | {"theta": (k, g)}


GROUP_SITES = ("noise_offset", "theta")
"""Sites with one column a group, which come last in the flat vector."""


def group_location(
    sites: Sites, structure: Structure, runs: RunArrays, priors: PriorArrays
) -> tuple[Float[Array, "k group"], Float[Array, "k group"]]:
    """Mean and standard deviation of each group's coefficients, given the levels above."""
    shape = (structure.n_coefficients, structure.n_groups)
    if not structure.pooled:
        sd = jnp.sqrt(priors.scale**2 + priors.between**2)
        return jnp.broadcast_to(priors.loc[:, None], shape), jnp.broadcast_to(sd[:, None], shape)
    above = sites["parent"][:, runs.parent] if structure.nested else sites["mean"][:, None]
    mean = jnp.broadcast_to(above, shape)
    if structure.covariate:
        mean = mean + sites["per_doubling"][:, None] * runs.doublings
    return mean, jnp.broadcast_to(jnp.exp(sites["log_spread"])[:, None], shape)


def expected_log_loss(
    law: Law, theta: Float[Array, "k group"], runs: RunArrays
) -> tuple[Float[Array, " run"], Float[Array, " run"]]:
    """log(L / L0) of each run under its group's law, and its distance t from the valley."""
    by_group = with_naturals(dict(zip(law.names, theta, strict=True)))
    gathered = jnp.stack(list(by_group.values()))[:, runs.group]
    coefficients = dict(zip(by_group, gathered, strict=True))
    return law.log_loss(coefficients, runs.point), law.imbalance(coefficients, runs.point)


def noise_variance(
    sites: Sites, imbalance: Float[Array, " run"], runs: RunArrays
) -> Float[Array, " run"]:
    """Squared scale of log loss around the law: grows with the distance from the valley.

    Each group of several has a level of its own, a factor around the common one.
    """
    near = jnp.exp(2 * sites["log_noise"])
    if "noise_offset" in sites:
        # By group, and only then by run: an exponential a run is a tenth of a gradient.
        near = jnp.exp(2 * (sites["log_noise"] + sites["noise_offset"]))[runs.group]
    return near + jnp.exp(2 * sites["log_off_valley"]) * imbalance**4 + runs.relative_stderr**2


def loss_model(
    law: Law, structure: Structure, runs: RunArrays, priors: PriorArrays, *, observed: bool = True
) -> None:
    """Sample the partially pooled law; with `observed`, condition on the runs' losses."""
    # A third of a second; fits evaluate the model as `allometry.inference.joint` writes it out.
    import numpyro
    import numpyro.distributions as dist

    k, g, p = structure.n_coefficients, structure.n_groups, structure.n_parents
    sites: Sites = {
        "log_noise": numpyro.sample("log_noise", dist.Normal(*priors.noise)),
        "log_off_valley": numpyro.sample("log_off_valley", dist.Normal(*priors.off_valley)),
    }
    log_between = jnp.log(priors.between)
    if structure.pooled:
        with numpyro.plate("coefficient", k):
            sites["mean"] = numpyro.sample("mean", dist.Normal(priors.loc, priors.scale))
            spread = dist.Normal(log_between, SPREAD_LOG_SD)
            sites["log_spread"] = numpyro.sample("log_spread", spread)
            if structure.covariate:
                slope = dist.Normal(0.0, priors.per_doubling)
                sites["per_doubling"] = numpyro.sample("per_doubling", slope)
            if structure.nested:
                sites["log_parent_spread"] = numpyro.sample("log_parent_spread", spread)
    if structure.nested:
        parent_spread = jnp.exp(sites["log_parent_spread"])[:, None]
        parent = dist.Normal(sites["mean"][:, None], parent_spread).expand((k, p)).to_event(2)
        sites["parent"] = numpyro.sample("parent", parent)
    if structure.pooled:
        offset = dist.Normal(0.0, priors.noise_between).expand((g,)).to_event(1)
        sites["noise_offset"] = numpyro.sample("noise_offset", offset)
    location, scale = group_location(sites, structure, runs, priors)
    theta = numpyro.sample("theta", dist.Normal(location, scale).to_event(2))
    if priors.imported and observed:  # a density, which a draw from the program cannot follow
        numpyro.factor("imported", log_factor(priors.imported, law, sites | {"theta": theta}))
    mean, imbalance = expected_log_loss(law, theta, runs)
    sd = jnp.sqrt(noise_variance(sites, imbalance, runs))
    with numpyro.plate("run", runs.log_loss.shape[0]), numpyro.handlers.mask(mask=runs.weight > 0):
        noisy = dist.StudentT(STUDENT_DF, mean, sd)
        numpyro.sample("log_loss", noisy, obs=runs.log_loss if observed else None)
