"""Loss of runs that have not been made."""

from typing import Any, Unpack

import numpy as np
import pandas as pd

from allometry.decisions.asking import (
    Which,
    allow_names,
    group_columns,
    wanted_labels,
    with_unseen,
)
from allometry.decisions.outlook import drifted_at, law_draws, reach_columns, with_noise
from allometry.decisions.questions import MOST
from allometry.errors import InputError
from allometry.inference import Posterior, interval_columns
from allometry.inference.evaluate import log_loss_at
from allometry.observations.points import check_points
from allometry.observations.schema import name_rows


def predict(posterior: Posterior, points: pd.DataFrame, **which: Unpack[Which]) -> pd.DataFrame:
    """Loss at given params and tokens.

    Parameters
    ----------
    posterior : Posterior
    points : DataFrame
        Columns ``params`` and ``tokens``, further columns that the law needs, and the group
        columns; a point without a group column is asked of every group that it leaves open.
    which : Which
        Groups of points that do not name them, or one that was never run: ``architecture,
        context_length, group, unseen, force``.

    Returns
    -------
    DataFrame
        One row a point and group: group columns, ``unseen``, ``params``, ``tokens``, ``flops``,
        ``loss_*`` (the law with its discrepancy), ``run_loss_*`` (a new run, noise included),
        ``extrapolation_factor``, ``distance_outside``, ``reach``; see `reach_columns`.

    Raises
    ------
    InputError
        If a column is missing, a value not positive, or a group unknown.
    """
    posterior.require_converged(force=which.get("force", False))
    points = points.assign(**wanted_labels(posterior, which))
    posterior = _with_unseen(posterior, points, unseen=which.get("unseen", False))
    table, index = place_points(posterior, points)
    params, tokens = (table[name].to_numpy(dtype=np.float64) for name in ("params", "tokens"))
    columns = {n: table[n].to_numpy(dtype=np.float64) for n in posterior.law.columns}
    log_loss, imbalance = log_loss_at(law_draws(posterior, index), params, tokens, columns)
    flops = np.asarray(posterior.record.cost.flops(index, params, tokens))
    log_loss = drifted_at(posterior, index, params, tokens, log_loss, columns)
    run = with_noise(posterior, index, log_loss, imbalance, stream=1)
    return table.assign(
        flops=flops,
        **interval_columns("loss", np.exp(log_loss)),
        **interval_columns("run_loss", np.exp(run)),
        **reach_columns(posterior, index, flops, params, tokens),
    )


def predict_draws(posterior: Posterior, points: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Draws (draw, point) of the loss of the law and of a new run, for points with their groups."""
    table, index = place_points(posterior, points)
    if len(table) != len(points):
        raise InputError("every point must name its group", where="points")
    params, tokens = (table[name].to_numpy(dtype=np.float64) for name in ("params", "tokens"))
    columns = {n: table[n].to_numpy(dtype=np.float64) for n in posterior.law.columns}
    log_loss, imbalance = log_loss_at(law_draws(posterior, index), params, tokens, columns)
    log_loss = drifted_at(posterior, index, params, tokens, log_loss, columns)
    run = with_noise(posterior, index, log_loss, imbalance, stream=1)
    return np.exp(log_loss), np.exp(run)


def place_points(posterior: Posterior, points: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Points with their group columns, one row a point and group, and the group indices."""
    needed = ["params", "tokens", *posterior.law.columns]
    if missing := [name for name in needed if name not in points]:
        what = f"no column {', '.join(missing)}; found {', '.join(map(str, points.columns))}"
        raise InputError(what, where="points")
    points = _as_numbers(points.reset_index(drop=True), needed)
    groups = posterior.groups.assign(_index=np.arange(len(posterior.groups)))
    labels = list(posterior.groups.columns)
    kept = points[needed].reset_index(drop=True).assign(_row=np.arange(len(points)))
    shared = _named(posterior, points)
    left = kept.assign(**{name: _key(points[name]).to_numpy() for name in shared})
    right = groups.assign(**{name: _key(groups[name]) for name in shared})
    how = {"on": shared, "how": "left"} if shared else {"how": "cross"}
    placed = left.merge(right, **how)
    if placed["_index"].isna().any():
        lost = placed[placed["_index"].isna()][shared].drop_duplicates()
        asked = "; ".join("/".join(map(str, row)) for row in lost.itertuples(index=False))
        known = "; ".join("/".join(map(str, row)) for row in groups[labels].itertuples(index=False))
        raise InputError(f"no group {asked}", where="points", hint=f"The posterior has {known}.")
    index = placed["_index"].to_numpy(dtype=np.int64)
    body = points.drop(columns=[n for n in labels if n in points]).reset_index(drop=True)
    body = body.iloc[placed["_row"].to_numpy()].reset_index(drop=True)
    return pd.concat([group_columns(posterior, index), body], axis=1), index


def _as_numbers(points: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Points with these columns as float64; one error for all that no run can have."""
    numbers = {n: pd.to_numeric(points[n], errors="coerce").astype(np.float64) for n in names}
    unreadable: dict[str, list[tuple[int, object]]] = {}
    for name, values in numbers.items():
        lost = points[name][values.isna() & points[name].notna()]
        if len(lost):
            unreadable[name] = list(lost.items())  # type: ignore[arg-type]
    points = points.assign(**numbers)
    check_points(points, unreadable=unreadable)
    for name in names:
        if len(bad := np.flatnonzero(~((points[name] > 0) & (points[name] <= MOST)))):
            what = f"{name} must be positive and at most {MOST:g} ({name_rows(bad)})"
            raise InputError(what, where="points")
    return points


def _with_unseen(posterior: Posterior, points: pd.DataFrame, *, unseen: bool) -> Posterior:
    """The posterior with the groups of points that were never run."""
    shared = _named(posterior, points)
    if not shared or not posterior.record.by:
        return posterior
    groups = posterior.groups
    asked = points[shared].drop_duplicates()
    keys = asked.apply(_key).agg("/".join, axis=1)
    known = groups[shared].apply(_key).agg("/".join, axis=1)
    lost = asked[~keys.isin(known)]
    if lost.empty:
        return posterior
    for _, row in lost.iterrows():
        allow_names(posterior, {str(k): v for k, v in row.items()}, unseen=unseen)
    others = [name for name in groups.columns if name not in shared]
    labels = lost.merge(groups[others].drop_duplicates(), how="cross") if others else lost
    return with_unseen(posterior, labels)


def _named(posterior: Posterior, points: pd.DataFrame) -> list[str]:
    """Group columns that every point names."""
    columns = posterior.groups.columns
    return [name for name in columns if name in points and points[name].notna().all()]


def _key(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Labels as text; a context that a table holds as 8192.0 is 8192."""
    if column.dtype.kind == "f" and (column == np.round(column)).all():
        column = column.astype(np.int64)
    return column.astype(str)
