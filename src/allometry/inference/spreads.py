"""Spreads between many groups, where the posterior is and not where its mode would be.

Each group adds one to the slope of the joint density towards a spread of zero, and the prior yields
0.2 in log spread for each: with many groups that the data leave loose, the joint mode lies far from
the posterior. A climb therefore holds the spreads, and they are learned between climbs as the mode
of their *marginal* posterior, by EM: the groups' squared deviations are averaged over the Gaussian
approximation at the held spreads.
"""

from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from allometry.inference.coordinates import Data, Density, Program, from_sites, to_sites
from allometry.inference.model import SPREAD_LOG_SD, group_location, site_shapes
from allometry.inference.noise_level import CLIMBED_LEVELS, NOISE, learned_noise
from allometry.inference.whitening import Whitening

DRAWS = 64
"""Of the Gaussian approximation: with more than eight groups, errors of 3 % in a spread at most."""

Values = npt.NDArray[np.float64]


def held_levels(program: Density) -> npt.NDArray[np.bool_]:
    """Coordinates that the climb leaves where they are: spreads between many groups.

    Where these groups are thin, the noise instead.
    """
    if not isinstance(program, Program) or program.structure.n_groups <= CLIMBED_LEVELS:
        return np.zeros(program.size, dtype=bool)
    names = NOISE if program.thin else ("log_spread", "log_parent_spread")
    shapes = site_shapes(program.structure)
    return np.concatenate([np.full(prod(shape), name in names) for name, shape in shapes.items()])


def learned_levels(x: Values, whitening: Whitening, program: Program, data: Data) -> Values:
    """One EM step: x with its held sites moved, the others where they are in the model's sites.

    `x` is the mode at what is held, and `whitening` (which does not move them) the Gaussian
    approximation there.
    """
    z = np.random.default_rng(7).normal(size=(DRAWS, program.size))
    points = whitening.apply(z)
    held = held_levels(program)
    points[:, held] = x[held]
    if program.thin:
        found = learned_noise(points, program, data)
        moved_noise = {name: jnp.asarray(value) for name, value in found.items()}
        return np.asarray(_moved(jnp.asarray(x), moved_noise, program, data))
    found = _learned_spreads(points, program, data)
    sites, _ = to_sites(jnp.asarray(x), program, data)
    moved = sites | {name: jnp.asarray(value) for name, value in found.items()}
    return np.asarray(from_sites(moved, program, data))


@partial(jax.jit, static_argnums=2)
def _moved(x: Array, found: dict[str, Array], program: Program, data: Data) -> Array:
    sites, _ = to_sites(x, program, data)  # a long program, which is compiled once
    return from_sites(sites | found, program, data)


def _learned_spreads(points: Values, program: Program, data: Data) -> dict[str, Values]:
    """Modes of log spreads given draws of everything else, shape (draw, d)."""
    squares = jax.tree.map(np.asarray, _squares(points, program, data))
    centre = np.log(np.asarray(data.priors.between))
    return {
        name: np.array([_mode(row, prior) for row, prior in zip(by_row, centre, strict=True)])
        for name, by_row in squares.items()
    }


@partial(jax.jit, static_argnums=1)
def _squares(points: Float[Array, "draw d"], program: Program, data: Data) -> dict[str, Array]:
    """Squared deviations from the level above by coefficient, averaged over draws."""

    def one(x: Float[Array, " d"]) -> dict[str, Array]:
        sites, _ = to_sites(x, program, data)
        location, _ = group_location(sites, program.structure, data.runs, data.priors)
        squares = {"log_spread": (sites["theta"] - location) ** 2}
        if program.structure.nested:
            squares["log_parent_spread"] = (sites["parent"] - sites["mean"][:, None]) ** 2
        return squares

    return {name: part.mean(axis=0) for name, part in jax.vmap(one)(points).items()}


def _mode(squares: Values, centre: float) -> float:
    """Mode of a log spread given its members' expected squared deviations and its prior."""
    import scipy.optimize  # a sixth of a second, which studies of few groups need not wait

    n, total = len(squares), float(squares.sum())

    def slope(t: float) -> float:
        return float(-n + total * np.exp(-2 * t) - (t - centre) / SPREAD_LOG_SD**2)

    reach = 1 + n * SPREAD_LOG_SD**2 + abs(np.log(total / n) / 2 - centre)
    return float(scipy.optimize.brentq(slope, centre - reach, centre + reach, xtol=1e-4))
