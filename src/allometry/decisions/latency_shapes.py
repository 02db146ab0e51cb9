"""Shapes, and types of numbers, of the models that a latency is asked of."""

import pandas as pd

from allometry.accounting import Shape, number_type
from allometry.errors import InputError
from allometry.inference.latency_posterior import LatencyPosterior
from allometry.inference.latency_work import WIDTHS, shapes_of

SETTINGS = ("vocab_size", "chunk_size")
"""Widths that are chosen beside the size: those of all timed models hold for others too."""

NEAR = 0.005
"""Relative distance of params within which a model is the timed one: sizes are asked in rounded
figures, and no two models of a family are so alike."""


def with_timed_params(posterior: LatencyPosterior, points: pd.DataFrame) -> pd.DataFrame:
    """Points with the params of the timed model that is meant: the only one within `NEAR`.

    Points with widths of their own keep their params.
    """
    params = points["params"].astype("float64").copy()
    given = [name for name in WIDTHS if name in points and name not in SETTINGS]
    bare = points[given].isna().all(axis=1)
    for architecture, own in posterior.timed_models().groupby("architecture"):
        sizes = own["params"].to_numpy(dtype="float64")
        for row in points.index[bare & (points["architecture"] == architecture)]:
            near = sizes[abs(sizes / params[row] - 1) <= NEAR]
            if len(near) == 1:
                params[row] = near[0]
    return points.assign(params=params)


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


def typed_points(posterior: LatencyPosterior, points: pd.DataFrame) -> pd.DataFrame:
    """Points with a column ``dtype``, by short names: as asked, else as all timings have it.

    Raises
    ------
    InputError
        If a dtype is not known, or not given where an architecture was timed in several.
    """
    asked = points["dtype"] if "dtype" in points else pd.Series(None, points.index, dtype=object)
    found = asked.astype(object).where(asked.notna(), None)
    if found.isna().any():
        timed = posterior.timings().groupby("architecture")["dtype"].unique()
        for architecture in sorted(set(points.loc[found.isna(), "architecture"].astype(str))):
            posterior.architecture_index(architecture)
            if len(types := timed[architecture]) > 1:
                what = f"{architecture} was timed in {', '.join(sorted(types))}: which one?"
                raise InputError(what, where="points", hint="Give dtype= (--dtype).")
            found[found.isna() & (points["architecture"] == architecture)] = types[0]
    return points.assign(dtype=[number_type(str(text)).name for text in found])
