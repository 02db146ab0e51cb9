"""Where the climb to the mode of a latency posterior starts."""

import numpy as np
import numpy.typing as npt

from allometry.inference.latency_arrays import LatencyGrouping, active_names, phase_names
from allometry.inference.latency_model import (
    WORK_SPREAD,
    LatencyData,
    LatencyProgram,
    latency_site_shapes,
)
from allometry.inference.latency_posterior import LatencyPosterior


def start_vector(program: LatencyProgram, data: LatencyData) -> npt.NDArray[np.float64]:
    """Prior means, no effects, noise of 5 %."""
    structure = program.structure
    return np.concatenate(
        [
            [np.log(WORK_SPREAD)],
            np.full(2 * structure.n_noises, np.log(0.05)),
            np.asarray(data.loc),
            np.zeros(2 * structure.n_cells),
        ]
    )


def moved_start(
    start: npt.NDArray[np.float64],
    program: LatencyProgram,
    groups: LatencyGrouping,
    near: LatencyPosterior,
) -> npt.NDArray[np.float64]:
    """A start with the means of another posterior, where both have the same coefficient or cell."""
    phases, cells = phase_names(groups.architectures), groups.cells
    labels = {
        "log_noise": phases,
        "log_kernel_spread": phases,
        "theta": active_names(program.law.names, groups.architectures, program.structure.active),
        "launch_effect": cells,
        "work_effect": cells,
    }
    means, moved = near.idata["posterior"].mean(("chain", "draw")), []
    for name in latency_site_shapes(program.structure):
        if name in labels:
            known = means[name].to_series().to_dict()
            moved += [known.get(label, np.nan) for label in labels[name]]
        else:
            moved.append(float(means[name]))
    return np.where(np.isnan(moved), start, moved)
