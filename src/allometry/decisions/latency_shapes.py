"""Shapes of the models that a latency is asked of."""

import pandas as pd

from allometry.accounting import Shape
from allometry.inference.latency_posterior import LatencyPosterior
from allometry.inference.latency_work import WIDTHS, shapes_of

SETTINGS = ("vocab_size", "chunk_size")
"""Widths that are chosen beside the size: those of all timed models hold for others too."""


def point_shapes(posterior: LatencyPosterior, points: pd.DataFrame) -> list[Shape]:
    """Shape of every point.

    That of the point's widths where it has them; else that of the timed model of so many params;
    else the family's, with the vocabulary and the chunk size that all timings of the architecture
    have.
    """
    missing = [name for name in WIDTHS if name not in points]
    table = points.assign(**dict.fromkeys(missing, float("nan"))).reset_index(drop=True)
    bare = table[list(WIDTHS[:3])].isna().any(axis=1)
    timed = posterior.timed_models()
    for architecture, own in timed.groupby("architecture"):
        rows = bare & (table["architecture"] == architecture)
        for name in (name for name in WIDTHS if name in own):
            by_params = own.set_index(own["params"].round())[name]
            values = table.loc[rows, "params"].round().map(by_params)
            if name in SETTINGS and own[name].nunique() == 1:
                values = values.fillna(own[name].iloc[0])
            table.loc[rows, name] = table.loc[rows, name].fillna(values)
    return shapes_of(table)
