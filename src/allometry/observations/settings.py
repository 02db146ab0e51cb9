"""Runs of one size and length under several settings, of which a law wants the best."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from allometry.observations.record import Exclusion

SAME_RUN = ("params", "tokens", "unique_tokens")
"""What runs share that differ in their settings (or seed) alone."""

MANY = 1 / 3
SPREAD = 0.01
"""Share of such runs, and median relative range of their losses, above which a sweep over settings
is likelier than repeated seeds: these differ by some tenths of a percent."""


def beaten_exclusions(table: pd.DataFrame, *, by: Sequence[str] = ()) -> list[Exclusion]:
    """Find runs that another of the same group, params and tokens beats.

    Parameters
    ----------
    table : DataFrame
        Validated runs.
    by : sequence of str
        Columns whose cells are groups.

    Returns
    -------
    list of Exclusion
        Rows as in the table's index: all but the one of lowest loss (the first of several).
    """
    found = []
    for cell in _cells(table, by):
        losses = cell["loss"].to_numpy(float)
        best = int(np.argmin(losses))
        names = cell["run_id"].tolist() if "run_id" in cell else [None] * len(cell)
        for place, (row, loss, name) in enumerate(zip(cell.index, losses, names, strict=True)):
            if place == best:
                continue
            reason = (
                f"beaten: loss {loss:.4g} where another run of the same params and tokens has "
                f"{losses[best]:.4g}"
            )
            run_id = str(name) if pd.notna(name) else None
            found.append(Exclusion(row=int(row), run_id=run_id, reason=reason))
    return found


def settings_suspicion(table: pd.DataFrame, by: Sequence[str]) -> list[str]:
    """One sentence if the table looks like a sweep over learning rates or batches."""
    cells = [cell["loss"] for cell in _cells(table, by)]
    alike = sum(map(len, cells))
    if not cells or alike < MANY * len(table):
        return []
    ranges = pd.Series([loss.max() / loss.min() - 1.0 for loss in cells])
    if ranges.median() < SPREAD:
        return []
    return [
        f"{alike} of {len(table)} runs share params and tokens with others, whose losses differ "
        f"by {ranges.median():.1%} in the median and up to {ranges.max():.1%}: runs of several "
        f"learning rates or batch sizes? The law of a size is that of its best settings; "
        f"--exclude beaten keeps the lowest loss of each"
    ]


def _cells(table: pd.DataFrame, by: Sequence[str]) -> list[pd.DataFrame]:
    """Runs of the same group, params and tokens, where there are several."""
    keys = [*by, *(name for name in SAME_RUN if name in table)]
    shared = table[table.duplicated(keys, keep=False)]
    return [cell for _, cell in shared.groupby(keys, sort=False, dropna=False)]
