"""How a machine changed while it was timed, and what a timing is worth because of it."""

import numpy as np
import pandas as pd

MEDIAN_OVER_MEAN = 1.2533
"""Standard error of a median over that of a mean, for a normal distribution: sqrt(pi / 2)."""
Z90 = 1.645


def drift(table: pd.DataFrame) -> dict[str, float]:
    """How the machine changed while it was timed, from the control points.

    Returns
    -------
    dict
        ``controls`` (how many), ``ratio`` (slowest over fastest), ``spread`` (relative standard
        deviation of their medians) and ``trend`` (last third over first third).
    """
    controls = table[table["control"].astype(bool)].sort_values("measured_at")["seconds"]
    values = controls.dropna().to_numpy(dtype=np.float64)
    if len(values) < 2:
        nan = float("nan")
        return {"controls": float(len(values)), "ratio": nan, "spread": nan, "trend": nan}
    third = max(1, len(values) // 3)
    return {
        "controls": float(len(values)),
        "ratio": float(values.max() / values.min()),
        "spread": float(values.std(ddof=1) / values.mean()),
        "trend": float(np.median(values[-third:]) / np.median(values[:third])),
    }


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """Table with what its repeats and its control points say of each timing.

    Repeats of a point are made within seconds: they say nothing of what the machine does a minute
    later. The control points do, and so a timing's interval holds both.

    Returns
    -------
    DataFrame
        The rows with ``repeats_error`` (standard error of the median over it, from the repeats),
        ``drift_error`` (relative standard deviation of the control points' medians; NaN with fewer
        than two) and ``seconds_low``, ``seconds_high``: 90 % interval of the median of the same
        point timed at any other moment of the run, log-normal.
    """
    repeats = MEDIAN_OVER_MEAN * table["seconds_std"] / np.sqrt(table["repeats"]) / table["seconds"]
    moved = drift(table)["spread"]
    error = np.hypot(repeats, 0.0 if np.isnan(moved) else moved)
    return table.assign(
        repeats_error=repeats,
        drift_error=moved,
        seconds_low=table["seconds"] * np.exp(-Z90 * error),
        seconds_high=table["seconds"] * np.exp(Z90 * error),
    )
