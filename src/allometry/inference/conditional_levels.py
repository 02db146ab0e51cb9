"""Coordinates of the levels above many thin groups: `conditional` says what for.

Runs tell the level and the two slopes of the population's log loss at the reference run (and its
change with the context), and they tell them ever better the smaller noise and spreads are. Given
those and the other coordinates of the mean's geometry they are nearly Gaussian; so are levels of
the first group column given the mean. Both Gaussians are of the law expanded at a place, the
deviations of what is below integrated.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from allometry.inference.expanded import told_of_location
from allometry.inference.model import PriorArrays, RunArrays, Sites, Structure, group_location
from allometry.inference.small_matrices import cholesky, lower_solve, spd_solve
from allometry.laws import Law

FIRM = 3
"""Coordinates of a geometry that few runs tell, which come first: a level and two slopes."""

ROUNDS = 2
"""Times that the law is expanded, at first at the prior: slopes are nearly linear in log loss."""


class Normal(NamedTuple):
    """Means of some vectors, and lower factors of their precisions."""

    mean: Float[Array, "vector k"]
    factor: Float[Array, "vector k k"]

    def at(self, z: Float[Array, "vector k"]) -> Float[Array, "vector k"]:
        """Vectors at so many standard deviations."""
        return self.mean + lower_solve(self.factor, z, transposed=True)

    def distance(self, x: Float[Array, "vector k"]) -> Float[Array, "vector k"]:
        """The inverse of `at`."""
        return jnp.einsum("gji,gj->gi", self.factor, x - self.mean)

    @property
    def log_det(self) -> Float[Array, ""]:
        """Of the derivative of `at`."""
        return -jnp.log(jnp.diagonal(self.factor, axis1=1, axis2=2)).sum()


def levels(
    sites: Sites, law: Law, structure: Structure, runs: RunArrays, priors: PriorArrays
) -> Normal:
    """Distances of levels of the first group column from the mean, in spreads, given the mean."""
    around = _around(sites, structure)
    location, scale = group_location(around, structure, runs, priors)
    own = told_of_location(location, scale, around, law, structure, runs)
    spread = jnp.exp(sites["log_parent_spread"])
    both = jnp.concatenate([own.information * spread, own.push[:, :, None]], axis=2)
    both = _by_level(both * spread[:, None], structure, runs)
    factor = cholesky(both[:, :, :-1] + jnp.eye(structure.n_coefficients))
    step = lower_solve(factor, lower_solve(factor, both[:, :, -1]), transposed=True)
    return Normal(step, factor)


def population(
    loose: Float[Array, " free"],
    sites: Sites,
    law: Law,
    structure: Structure,
    runs: RunArrays,
    priors: PriorArrays,
) -> Normal:
    """The mean's first coordinates, and changes with the context, given its other ones."""
    assert law.geometry is not None
    geometry, k = law.geometry, structure.n_coefficients

    def mean_of(firm: Float[Array, " firm"]) -> Float[Array, " k"]:
        return geometry.forward(jnp.concatenate([firm, loose])[:, None])[:, 0]

    def improved(top: Array, _: None) -> tuple[Array, Array]:
        mean, slopes = mean_of(top[:FIRM]), jax.jacfwd(mean_of)(top[:FIRM])
        at = sites | {"mean": mean}
        moves = jnp.broadcast_to(slopes, (structure.n_groups, k, FIRM))
        if structure.covariate:
            at["per_doubling"] = top[FIRM:]
            by_context = runs.doublings[:, None, None] * jnp.eye(k)
            moves = jnp.concatenate([moves, by_context], axis=2)
        at = _around(at, structure)
        location, scale = group_location(at, structure, runs, priors)
        own = told_of_location(location, scale, at, law, structure, runs)
        pushes = own.information @ moves
        rows = jnp.concatenate([pushes, own.push[:, :, None]], axis=2)
        found = jnp.einsum("git,giu->tu", moves, rows)
        if structure.nested:
            spread = jnp.exp(sites["log_parent_spread"])
            both = jnp.concatenate([own.information * spread, rows], axis=2) * spread[:, None]
            both = _by_level(both, structure, runs)
            solved = spd_solve(both[:, :, :k] + jnp.eye(k), both[:, :, k:])
            found = found - jnp.einsum("pit,piu->tu", both[:, :, k:-1], solved)
        weighted = slopes / priors.scale[:, None] ** 2
        information = found[:, :-1].at[:FIRM, :FIRM].add(slopes.T @ weighted)
        push = found[:, -1].at[:FIRM].add(weighted.T @ (priors.loc - mean))
        if structure.covariate:
            places = FIRM + jnp.arange(k)
            information = information.at[places, places].add(priors.per_doubling**-2)
            push = push.at[FIRM:].add(-top[FIRM:] / priors.per_doubling**2)
        information = (information + information.T) / 2
        return top + spd_solve(information[None], push[None, :, None])[0, :, 0], information

    start = geometry.inverse(priors.loc[:, None])[:FIRM, 0]
    if structure.covariate:
        start = jnp.concatenate([start, jnp.zeros(k)])
    top, information = jax.lax.scan(improved, start, None, length=ROUNDS)
    return Normal(top[None], jnp.linalg.cholesky(information[-1])[None])


def _around(sites: Sites, structure: Structure) -> Sites:
    """The same with all levels of the first group column at the mean."""
    if not structure.nested:
        return sites
    shape = (structure.n_coefficients, structure.n_parents)
    return sites | {"parent": jnp.broadcast_to(sites["mean"][:, None], shape)}


def _by_level(
    matrices: Float[Array, "group k m"], structure: Structure, runs: RunArrays
) -> Float[Array, "parent k m"]:
    """Sums over the groups of each level of the first group column."""
    return jax.ops.segment_sum(matrices, runs.parent, num_segments=structure.n_parents)
