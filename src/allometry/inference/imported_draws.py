"""Draws of the prior where some of it is imported: what `imported.log_factor` is the density of."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from allometry.inference.imported import (
    ImportedBlock,
    ImportedSource,
    MixtureArrays,
    Sites,
    best_level,
    law_of,
)
from allometry.laws import Law


def draw_imported(key: Array, blocks: tuple[ImportedBlock, ...], law: Law, sites: Sites) -> Sites:
    """Sites that replace those of a draw from the default prior.

    Each block is that draw's own with its vague weight, else a draw of one of its sources. What is
    below a replaced site is to be drawn again, given it. Groups of a pooled study that a prior is
    imported for keep a population that was drawn without them.
    """
    changed: Sites = {}
    for i, block in enumerate(blocks):
        which_key, *keys = jax.random.split(jax.random.fold_in(key, i), 1 + len(block.sources))
        which = jax.random.categorical(which_key, block.log_weights)
        for j, (source, own) in enumerate(zip(block.sources, keys, strict=True)):
            known = sites | changed
            drawn = _draw_source(own, source, law, known)
            changed |= {
                name: jnp.where(which == j + 1, value, known[name]) for name, value in drawn.items()
            }
    return changed


def _draw_source(key: Array, source: ImportedSource, law: Law, sites: Sites) -> Sites:
    x_key, level_key = jax.random.split(key)
    x = _draw_mixture(x_key, source.mixture)
    drawn: Sites = {}
    if source.law_part != "none":
        theta = law_of(source, law, x)
        if source.law_part == "shape":
            sd = best_level(source, theta[:, 0])[1]
            theta = theta + (source.level * sd * jax.random.normal(level_key))[:, None]
        columns = jnp.asarray(source.columns, dtype=jnp.int32)
        if source.target == "groups":
            drawn["theta"] = sites["theta"].at[:, columns].set(theta)
        elif source.target == "level":
            drawn["parent"] = sites["parent"].at[:, columns].set(theta)
        elif "mean" in sites:
            drawn["mean"] = theta[:, 0]
        else:
            drawn["theta"] = theta
    if source.noise:
        count = max(len(source.columns), 1) if source.target == "groups" else 1
        noise, drawn["log_off_valley"] = x[-1 - count : -1], x[-1]
        drawn["log_noise"] = noise.mean()
        if "noise_offset" in sites and source.target == "groups":
            columns = jnp.asarray(source.columns, dtype=jnp.int32)
            drawn["noise_offset"] = sites["noise_offset"].at[columns].set(noise - noise.mean())
    return drawn


def _draw_mixture(key: Array, mixture: MixtureArrays) -> Float[Array, " d"]:
    component_key, normal_key, tail_key = jax.random.split(key, 3)
    component = jax.random.categorical(component_key, mixture.log_weights)
    mean, factor = mixture.means[component], mixture.factors[component]
    z = jax.random.normal(normal_key, mean.shape)
    tail = jax.random.chisquare(tail_key, mixture.df) / mixture.df
    inside = jax.scipy.linalg.solve_triangular(factor, z / jnp.sqrt(tail), lower=True)
    return mean + inside
