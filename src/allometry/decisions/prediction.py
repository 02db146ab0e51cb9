"""Loss of runs that have not been made."""

import numpy as np
import pandas as pd

from allometry.decisions.outlook import drifted, extrapolation_factor, law_draws, with_noise
from allometry.errors import InputError
from allometry.inference import Posterior, interval_columns
from allometry.inference.evaluate import log_loss_at


def predict(posterior: Posterior, points: pd.DataFrame, *, force: bool = False) -> pd.DataFrame:
    """Loss at given params and tokens.

    Parameters
    ----------
    posterior : Posterior
    points : DataFrame
        Columns ``params`` and ``tokens``, further columns that the law needs, and the group
        columns; a point without a group column is asked of every group that it leaves open.
    force : bool
        Answer although the fit did not converge.

    Returns
    -------
    DataFrame
        One row a point and group: group columns, ``params``, ``tokens``, ``flops``, ``loss_*`` (the
        law with its drift), ``run_loss_*`` (a new run, noise included), ``extrapolation_factor``.

    Raises
    ------
    InputError
        If a column is missing, a value not positive, or a group unknown.
    """
    posterior.require_converged(force=force)
    table, index = _place(posterior, points)
    params, tokens = (table[name].to_numpy(dtype=np.float64) for name in ("params", "tokens"))
    columns = {n: table[n].to_numpy(dtype=np.float64) for n in posterior.law.columns}
    log_loss, imbalance = log_loss_at(law_draws(posterior, index), params, tokens, columns)
    flops = np.asarray(posterior.record.cost.flops(index, params, tokens))
    log_loss = drifted(posterior, index, flops, log_loss)
    run = with_noise(posterior, index, log_loss, imbalance, stream=1)
    return table.assign(
        flops=flops,
        **interval_columns("loss", np.exp(log_loss)),
        **interval_columns("run_loss", np.exp(run)),
        extrapolation_factor=extrapolation_factor(posterior, index, flops),
    )


def predict_draws(posterior: Posterior, points: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Draws (draw, point) of the loss of the law and of a new run, for points with their groups."""
    table, index = _place(posterior, points)
    if len(table) != len(points):
        raise InputError("every point must name its group", where="points")
    params, tokens = (table[name].to_numpy(dtype=np.float64) for name in ("params", "tokens"))
    columns = {n: table[n].to_numpy(dtype=np.float64) for n in posterior.law.columns}
    log_loss, imbalance = log_loss_at(law_draws(posterior, index), params, tokens, columns)
    flops = np.asarray(posterior.record.cost.flops(index, params, tokens))
    log_loss = drifted(posterior, index, flops, log_loss)
    run = with_noise(posterior, index, log_loss, imbalance, stream=1)
    return np.exp(log_loss), np.exp(run)


def _place(posterior: Posterior, points: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Points with their group columns, one row a point and group, and the group indices."""
    needed = ["params", "tokens", *posterior.law.columns]
    if missing := [name for name in needed if name not in points]:
        what = f"no column {', '.join(missing)}; found {', '.join(map(str, points.columns))}"
        raise InputError(what, where="points")
    values = points[needed].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    bad = ~(np.isfinite(values) & (values > 0)).all(axis=1)
    if bad.any():
        rows = ", ".join(str(row) for row in np.flatnonzero(bad)[:5])
        raise InputError(f"{', '.join(needed)} must be positive (row {rows})", where="points")
    groups = posterior.groups.assign(_index=np.arange(len(posterior.groups)))
    labels = [name for name in groups.columns if name != "_index"]
    kept = points[needed].reset_index(drop=True).assign(_row=np.arange(len(points)))
    shared = [name for name in labels if name in points and points[name].notna().all()]
    for name in shared:
        kept[name] = points[name].to_numpy()
    keyed = {name: groups[name].astype(str) for name in shared}
    left = kept.assign(**{name: kept[name].astype(str) for name in shared})
    right = groups.assign(**keyed)
    how = {"on": shared, "how": "left"} if shared else {"how": "cross"}
    placed = left.merge(right, **how)
    if placed["_index"].isna().any():
        lost = placed[placed["_index"].isna()][shared].drop_duplicates()
        asked = "; ".join("/".join(map(str, row)) for row in lost.itertuples(index=False))
        known = "; ".join("/".join(map(str, row)) for row in groups[labels].itertuples(index=False))
        raise InputError(f"no group {asked}", where="points", hint=f"The posterior has {known}.")
    index = placed["_index"].to_numpy(dtype=np.int64)
    body = points.drop(columns=[n for n in labels if n in points]).reset_index(drop=True)
    table = pd.concat(
        [
            posterior.groups.iloc[index].reset_index(drop=True),
            body.iloc[placed["_row"].to_numpy()].reset_index(drop=True),
        ],
        axis=1,
    )
    return table, index
