"""Where the climb to the mode of a latency posterior starts."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array

from allometry.inference.latency_arrays import LatencyGrouping, active_names, phase_names
from allometry.inference.latency_model import WORK_SPREAD, LatencyData
from allometry.inference.latency_posterior import LatencyPosterior
from allometry.inference.latency_program import LatencyProgram
from allometry.inference.model import Sites

Start = dict[str, npt.NDArray[np.float64]]


def start_vector(
    program: LatencyProgram,
    data: LatencyData,
    groups: LatencyGrouping,
    near: LatencyPosterior | None = None,
) -> npt.NDArray[np.float64]:
    """Coordinates of the start: prior means, no effects, noise of 5 %.

    With another posterior, its means where both have the same coefficient or cell.
    """
    structure = program.structure
    sites = {
        "log_work_spread": np.asarray(np.log(WORK_SPREAD)),
        "log_noise": np.full(structure.n_noises, np.log(0.05)),
        "log_kernel_spread": np.full(structure.n_noises, np.log(0.05)),
        "theta": np.asarray(data.loc),
        "launch_effect": np.zeros(structure.n_cells),
        "work_effect": np.zeros(structure.n_cells),
    }
    if near is not None:
        sites = _moved(sites, program, groups, near)
    arrays = {name: jnp.asarray(value, dtype=float) for name, value in sites.items()}
    return np.asarray(_vector(arrays, program, data))


@partial(jax.jit, static_argnums=1)
def _vector(sites: Sites, program: LatencyProgram, data: LatencyData) -> Array:
    return program.vector(sites, data)


def _moved(
    sites: Start, program: LatencyProgram, groups: LatencyGrouping, near: LatencyPosterior
) -> Start:
    phases, cells = phase_names(groups.architectures), groups.cells
    labels = {
        "log_noise": phases,
        "log_kernel_spread": phases,
        "theta": active_names(program.law.names, groups.architectures, program.structure.active),
        "launch_effect": cells,
        "work_effect": cells,
    }
    means = near.idata["posterior"].mean(("chain", "draw"))
    moved = {}
    for name, value in sites.items():
        if name in labels:
            known = means[name].to_series().to_dict()
            there = np.asarray([known.get(label, np.nan) for label in labels[name]])
        else:
            there = means[name].to_numpy()
        moved[name] = np.where(np.isnan(there), value, there)
    return moved
