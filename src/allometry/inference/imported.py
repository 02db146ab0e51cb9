r"""Imported priors as a density of the loss model: a robust mixture with the model's own prior.

With x some of the model's quantities, p their density under the default prior and q_j that of the
imported ones, the joint density is multiplied by

.. math:: w + (1 - w) \sum_j \pi_j\, q_j(x) / p(x)

so that x has the prior ``w p + (1 - w) sum pi_j q_j`` while everything else keeps its own, given x.
Data that contradict every q_j leave the default prior, at the price of the factor w.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from allometry.laws import Law

LawPart = Literal["full", "shape", "none"]
"""All quantities of the law; all but the level of loss, whose unit then does not matter; none."""

Target = Literal["population", "level", "groups"]

Sites = dict[str, Float[Array, "..."]]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["log_weights", "means", "factors", "log_norms", "df"],
    meta_fields=[],
)
@dataclass(frozen=True, kw_only=True, slots=True)
class MixtureArrays:
    """A mixture of Student-t distributions, ready to be evaluated.

    Everything that files differ in is data, so that one compiled program serves them all.

    Attributes
    ----------
    log_weights, log_norms : shape (m,)
        Logs of the components' weights and of their densities at their means.
    means : shape (m, d)
    factors : shape (m, d, d)
        Inverse Cholesky factors of the scale matrices.
    df : shape ()
        Degrees of freedom; very many for a normal.
    """

    log_weights: Float[Array, " m"]
    means: Float[Array, "m d"]
    factors: Float[Array, "m d d"]
    log_norms: Float[Array, " m"]
    df: Float[Array, ""]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "mixture",
        "shift",
        "offset",
        "level",
        "loc",
        "factors",
        "log_norms",
        "noise_loc",
        "noise_factor",
        "noise_log_norm",
    ],
    meta_fields=["target", "columns", "law_part", "noise"],
)
@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedSource:
    """One imported density, with the density of the same quantities under the default prior.

    Attributes
    ----------
    mixture : MixtureArrays
        Of the law's quantities group by group, then the noise of each group and `log_off_valley`.
    shift : shape (3,)
        log(reference of the file / reference of this study) of N0, D0 and L0, units included.
    offset : shape (k,)
        Taken from this study's coefficients before that: log of the slope of the file's count of
        params in this study's, for log_alpha.
    level : shape (k,)
        One for coefficients that move with the unit of loss.
    loc : shape (k,)
        Default prior: locations of the coefficients.
    factors : shape (k, node, g, g)
        Inverse Cholesky factors of their covariance over groups; a node is a value of the spreads.
    log_norms : shape (k, node)
        Logs of the nodes' weights and of the densities' peaks.
    noise_loc, noise_factor, noise_log_norm
        The same of the noise: shapes (g + 1,), (g + 1, g + 1) and ().
    target : {"population", "level", "groups"}
        Centre of all groups (or the only group); of those of one architecture; groups themselves.
    columns : tuple of int
        Index of that architecture, or of those groups.
    law_part : {"full", "shape", "none"}
    noise : bool
        Whether the noise belongs to it.
    """

    mixture: MixtureArrays
    shift: Float[Array, " 3"]
    offset: Float[Array, " k"]
    level: Float[Array, " k"]
    loc: Float[Array, " k"]
    factors: Float[Array, "k node g g"]
    log_norms: Float[Array, "k node"]
    noise_loc: Float[Array, " n"]
    noise_factor: Float[Array, "n n"]
    noise_log_norm: Float[Array, ""]
    target: Target
    columns: tuple[int, ...]
    law_part: LawPart
    noise: bool


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["sources", "log_weights"],
    meta_fields=[],
)
@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedBlock:
    """Imported densities of the same quantities, mixed with the default prior.

    Attributes
    ----------
    sources : tuple of ImportedSource
    log_weights : shape (1 + source,)
        Logs of the prior weights; the first is that of the default prior.
    """

    sources: tuple[ImportedSource, ...]
    log_weights: Float[Array, " w"]


def mixture_log_density(mixture: MixtureArrays, x: Float[Array, " d"]) -> Float[Array, ""]:
    """Log density of a mixture at one point."""
    z = jnp.einsum("mij,mj->mi", mixture.factors, x - mixture.means)
    distance = (z**2).sum(axis=-1)
    fall = -0.5 * (mixture.df + x.shape[0]) * jnp.log1p(distance / mixture.df)
    density: Float[Array, ""] = jax.nn.logsumexp(mixture.log_weights + mixture.log_norms + fall)
    return density


def law_columns(source: ImportedSource, sites: Sites) -> Float[Array, "k g"]:
    """Coefficients that a source is about, relative to this study's reference run."""
    if source.target == "groups":
        return sites["theta"][:, jnp.asarray(source.columns)]
    if source.target == "level":
        return sites["parent"][:, jnp.asarray(source.columns)]
    return sites["mean"][:, None] if "mean" in sites else sites["theta"][:, :1]


def noise_values(source: ImportedSource, sites: Sites) -> Float[Array, " n"]:
    """log_noise of each group (or the common one), then log_off_valley."""
    log_noise = sites["log_noise"][None]
    if source.target == "groups":
        log_noise = jnp.broadcast_to(log_noise, (len(source.columns),))
        if "noise_offset" in sites:
            log_noise = log_noise + sites["noise_offset"][jnp.asarray(source.columns)]
    return jnp.concatenate([log_noise, sites["log_off_valley"][None]])


def to_file(
    law: Law, theta: Float[Array, "k g"], shift: Float[Array, " 3"]
) -> tuple[Float[Array, "k g"], Float[Array, ""]]:
    """Quantities of a prior file, and log |det d coefficients / d quantities|."""
    moved = theta if law.rereference is None else law.rereference(theta, shift)
    if law.geometry is None:
        return moved, jnp.zeros(())
    y = law.geometry.inverse(moved)
    return y, law.geometry.log_det(y).sum()


def from_file(source: ImportedSource, law: Law, y: Float[Array, "k g"]) -> Float[Array, "k g"]:
    """Coefficients relative to this study's reference run, of a file's quantities."""
    theta = y if law.geometry is None else law.geometry.forward(y)
    if law.rereference is not None:
        theta = law.rereference(theta, -source.shift)
    return theta + source.offset[:, None]


def law_of(source: ImportedSource, law: Law, x: Float[Array, " d"]) -> Float[Array, "k g"]:
    """Coefficients of a point of a source's mixture; at the best level where it has none."""
    k, g = len(law.names), max(len(source.columns), 1)
    if source.law_part == "full":
        return from_file(source, law, x[: k * g].reshape(g, k).T)
    y = jnp.concatenate([jnp.zeros(1), x[: k - 1]])[:, None]
    theta = from_file(source, law, y)[:, 0]
    return (theta + source.level * best_level(source, theta)[0])[:, None]


def toward_imported(
    blocks: tuple[ImportedBlock, ...], law: Law, theta: Float[Array, "k group"]
) -> Float[Array, "k group"]:
    """The groups' coefficients, those that priors were imported for at the first one's mean."""
    for block in blocks:
        source = block.sources[0]
        if source.law_part == "none" or source.target == "level":
            continue
        centre = jnp.exp(source.mixture.log_weights) @ source.mixture.means
        found = law_of(source, law, centre)
        if source.target == "groups":
            theta = theta.at[:, jnp.asarray(source.columns)].set(found)
        else:
            theta = jnp.broadcast_to(found, theta.shape)
    return theta


def log_ratio(source: ImportedSource, law: Law, sites: Sites) -> Float[Array, ""]:
    """Log of imported over default density of a source's quantities."""
    parts: list[Array] = []
    default = jnp.zeros(())
    if source.law_part != "none":
        theta = law_columns(source, sites)
        y, log_det = to_file(law, theta - source.offset[:, None], source.shift)
        if source.law_part == "shape":
            parts.append(y[1:, 0])
            default = default + _shape_log_density(source, theta[:, 0]) + log_det
        else:
            parts.append(y.T.ravel())
            default = default + _law_log_density(source, theta) + log_det
    if source.noise:
        noise = noise_values(source, sites)
        parts.append(noise)
        z = source.noise_factor @ (noise - source.noise_loc)
        default = default + source.noise_log_norm - 0.5 * (z**2).sum()
    return mixture_log_density(source.mixture, jnp.concatenate(parts)) - default


def _law_log_density(source: ImportedSource, theta: Float[Array, "k g"]) -> Float[Array, ""]:
    z = jnp.einsum("knij,kj->kni", source.factors, theta - source.loc[:, None])
    density: Float[Array, ""] = jax.nn.logsumexp(
        source.log_norms - 0.5 * (z**2).sum(axis=-1), axis=1
    ).sum()
    return density


def best_level(source: ImportedSource, theta: Float[Array, " k"]) -> tuple[Array, Array]:
    """Mean and sd of the level given the shape, under the default prior: what to add to theta."""
    precision = source.level * source.factors[:, 0, 0, 0] ** 2
    total = precision.sum()
    return (precision * (source.loc - theta)).sum() / total, 1 / jnp.sqrt(total)


def _shape_log_density(source: ImportedSource, theta: Float[Array, " k"]) -> Float[Array, ""]:
    """Default density of a law whose level is integrated out: Gaussian in closed form."""
    mean, sd = best_level(source, theta)
    at_best = (theta + source.level * mean)[:, None]
    return _law_log_density(source, at_best) + jnp.log(sd) + 0.5 * jnp.log(2 * jnp.pi)


def block_log_densities(block: ImportedBlock, law: Law, sites: Sites) -> Float[Array, " w"]:
    """Log of each part of the robust mixture over the default density; the vague part first."""
    ratios = [log_ratio(source, law, sites) for source in block.sources]
    return block.log_weights + jnp.stack([jnp.zeros(()), *ratios])


def log_factor(blocks: tuple[ImportedBlock, ...], law: Law, sites: Sites) -> Float[Array, ""]:
    """Log of what imported priors multiply the joint density with."""
    total = jnp.zeros(())
    for block in blocks:
        total = total + jax.nn.logsumexp(block_log_densities(block, law, sites))
    return total
