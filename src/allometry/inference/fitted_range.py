"""Where the runs lay that a law was fitted to: what an imported law has already taken up.

Places are c = log10(N D) and r = log10(D / N), as of a discrepancy.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CELL = 0.5
"""Decades of a cell, in c and in r."""

RUNS_IN_FULL = 16
"""Runs up to which an imported law is taken to be that of its own range: with more of them it is
the law of these runs, and it counts by this over their number."""

Cells = tuple[tuple[float, float, float], ...]
"""c, r and how many studies have runs there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedRange:
    """Range of an imported law.

    Attributes
    ----------
    weight : float
        How far it counts, 0 to 1: less than 1 where runs are many or speak against the import.
    cells : tuple of (float, float, float)
    """

    weight: float
    cells: Cells

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "FittedRange":
        """The range from its fields as JSON types."""
        cells = tuple((float(c), float(r), float(n)) for c, r, n in document["cells"])
        return FittedRange(weight=float(document["weight"]), cells=cells)


def place_of(params: Array, tokens: Array) -> Array:
    """C and r of runs, (run, 2)."""
    log_params, log_tokens = np.log10(params), np.log10(tokens)
    return np.stack([log_params + log_tokens, log_tokens - log_params], axis=1)


def count_cells(runs: Sequence[tuple[Array, Array]]) -> Cells:
    """Cells of studies, each with its runs' params and tokens, (run,)."""
    count: Counter[tuple[int, int]] = Counter()
    for params, tokens in runs:
        place = np.round(place_of(params, tokens) / CELL).astype(np.int64)
        count.update((int(i), int(j)) for i, j in np.unique(place, axis=0))
    return tuple((CELL * i, CELL * j, float(n)) for (i, j), n in sorted(count.items()))
