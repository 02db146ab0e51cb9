"""Groups of few runs that scatter so little that the runs fix them all the same."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from allometry.inference.coordinates import Data, Program, split
from allometry.inference.mode import DENSE_LIMIT, find_mode
from allometry.inference.start import starts

LEAST_RUNS = 3
"""As many as the coordinates of a geometry that runs fix first: a level and two slopes."""

PRECISE = 0.01
"""Relative noise at the mode below which few runs say more of their group than the others do.

Two groups of 3 to 6 runs: at 0.3 % noise chains around the population take 800 leapfrogs a draw and
those around the runs 30 to 250; at 3 % the former mix twice as well.
"""


def centred_where_precise(
    program: Program, data: Data, runs_per_group: npt.NDArray[np.int64], *, seed: int
) -> Data:
    """The data with groups of few but precise runs sampled around their own runs as well."""
    geometry, centred = program.law.geometry, np.asarray(data.centred)
    if geometry is None or not program.structure.pooled:
        return data
    if program.size > DENSE_LIMIT or program.thin:
        return data
    few = (runs_per_group >= LEAST_RUNS) & ~centred[: geometry.unmoved].all(axis=0)
    if not few.any():
        return data
    moved = np.arange(len(centred))[:, None] < geometry.unmoved
    around_runs = replace(data, centred=jnp.asarray(centred | (moved & few)))
    (start,) = starts(program, data, count=1, seed=seed)
    mode = find_mode(start, program, data)
    noise = np.exp(float(split(mode.x, program.structure)["log_noise"]))
    return around_runs if noise <= PRECISE else data
