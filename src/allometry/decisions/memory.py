"""Whether points of a latency posterior fit a device's memory."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.decisions.latency_shapes import point_shapes, typed_points
from allometry.inference.latency_memory import needed_bytes
from allometry.inference.latency_posterior import LatencyPosterior

Draws = npt.NDArray[np.float64]


def fits_memory(latency: LatencyPosterior, points: pd.DataFrame, capacity: float) -> Draws:
    """Whether points fit the memory, one or zero, shape (draw, point); NaN where it is unknown.

    Parameters
    ----------
    latency : LatencyPosterior
    points : DataFrame
        Checked points (`allometry.decisions.latency.check_points`); quantities count alike.
    capacity : float
        Memory of the device in bytes; infinite where it is not known.
    """
    points = typed_points(latency, points)
    found = np.full((latency.n_draws, len(points)), np.nan)
    if not np.isfinite(capacity):
        return found
    factors, spreads = latency.draws("memory_factor"), latency.draws("memory_spread")
    for architecture in sorted(set(points["architecture"].astype(str))):
        a = latency.architecture_index(architecture)
        rng = np.random.default_rng([latency.record.seed, 17])
        slack = np.exp(spreads[:, a] * rng.normal(size=len(spreads)))
        own = np.flatnonzero((points["architecture"] == architecture).to_numpy())
        rows = points.iloc[own].reset_index(drop=True)
        needed = needed_bytes(point_shapes(latency, rows), rows, factors[:, a])
        found[:, own] = needed <= (capacity * slack)[:, None]
    return found
