"""What the law misses in predictions: that of timed shapes, given their timings; new for others."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.inference.latency_arrays import cell_name
from allometry.inference.latency_field import Places
from allometry.inference.latency_posterior import LatencyPosterior

Draws = npt.NDArray[np.float64]


def field_effects(
    posterior: LatencyPosterior,
    table: pd.DataFrame,
    places: Places,
    rng: np.random.Generator,
    *,
    common: bool,
) -> Draws:
    """What the law misses of log seconds at each point, (draw, point).

    With `common`, shapes that were not timed share one field an architecture and phase.
    """
    found = np.empty((posterior.n_draws, len(table)))
    for phase, cell, rows in _groups(posterior, table, common=common):
        timed, at = posterior.residuals(cell), places[rows]
        for field, own in posterior.fields(*phase):
            if timed is None:
                drawn = field.draw(at, len(own), rng)
            else:
                known, residual, variance = timed
                drawn = field.draw_given(at, known, residual[own], variance, rng)
            found[np.ix_(own, rows)] = drawn
    return found


def _groups(
    posterior: LatencyPosterior, table: pd.DataFrame, *, common: bool
) -> Iterator[tuple[tuple[str, str], str, npt.NDArray[np.int64]]]:
    """Phase, cell and rows of points that share what is drawn."""
    known = {str(name) for name in posterior.idata["posterior"]["cell"].to_numpy()}
    names = [cell_name(row) for _, row in table.iterrows()]
    phases = list(
        zip(table["architecture"].astype(str), table["quantity"].astype(str), strict=True)
    )
    if common:
        pairs = zip(names, phases, strict=True)
        names = [name if name in known else "/".join(phase) for name, phase in pairs]
    cells = pd.Series(names)
    for cell, rows in cells.groupby(cells, sort=True).groups.items():
        index = np.asarray(rows, dtype=np.int64)
        yield phases[index[0]], str(cell), index
