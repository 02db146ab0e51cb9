"""What the law misses in predictions, given the timings of the shape and of its neighbours."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.inference.latency_arrays import cell_name
from allometry.inference.latency_field import places
from allometry.inference.latency_posterior import LatencyPosterior

Draws = npt.NDArray[np.float64]


def field_effects(
    posterior: LatencyPosterior,
    table: pd.DataFrame,
    share: Draws,
    rng: np.random.Generator,
    *,
    common: bool,
) -> Draws:
    """What the law misses of log seconds at each point, (draw, point).

    `share` is that of launches, products and mixing in the seconds of each point. With `common`,
    shapes that were not timed share one field an architecture and phase.
    """
    found = np.empty((posterior.n_draws, len(table)))
    shape = _shapes(posterior, table, common=common)
    where = places(table, share, shape)
    phases = table["architecture"].astype(str) + "/" + table["quantity"].astype(str)
    for phase in sorted(set(phases)):
        architecture, quantity = phase.split("/")
        rows = np.flatnonzero(phases == phase)
        timed, residual, variance = posterior.residuals(architecture, quantity, shape[rows])
        for field, own in posterior.fields(architecture, quantity):
            drawn = field.draw_given(where[rows], timed, residual[own], variance, rng)
            found[np.ix_(own, rows)] = drawn
    return found


def _shapes(
    posterior: LatencyPosterior, table: pd.DataFrame, *, common: bool
) -> npt.NDArray[np.int64]:
    """Index of the timed cell of each point; of other shapes, numbers that no cell has."""
    known = [str(name) for name in posterior.idata["posterior"]["cell"].to_numpy()]
    names = pd.Series([cell_name(row) for _, row in table.iterrows()])
    timed = pd.Index(known).get_indexer(pd.Index(names))
    new = np.zeros(len(names)) if common else pd.factorize(names)[0]
    return np.where(timed >= 0, timed, len(known) + new).astype(np.int64)
