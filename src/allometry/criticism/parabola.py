"""The parabola (IsoFLOP) method: the practice for compute-optimal sizes.

For each budget a least-squares parabola of loss in log10 N; its minimum is the optimal N; a
straight line through log N* against log C is the growth law (Hoffmann et al. 2022,
arXiv:2203.15556, approach 2).
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.errors import InputError
from allometry.inference.groups import group_runs
from allometry.inference.holdout import SAME_BUDGET, run_flops

MIN_RUNS = 4
"""Runs of a budget from which on a parabola leaves something over."""


def isoflop_optima(table: pd.DataFrame, *, by: tuple[str, ...] | None = None) -> pd.DataFrame:
    """Compute-optimal params and tokens of each budget, from its parabola.

    Parameters
    ----------
    table : DataFrame
        Validated runs of isoflop designs. Runs whose FLOPs lie within 0.2 decades of each other in
        a chain belong to one budget.
    by : tuple of str, optional
        Group columns; default as in `fit`.

    Returns
    -------
    DataFrame
        One row a group and budget: group columns, ``flops`` (geometric mean), ``runs``,
        ``params``, ``tokens``, ``loss`` at the minimum, and ``inside``: whether it lies between the
        smallest and the largest run. Budgets with fewer than four runs, or a parabola that opens
        downwards, are left out.
    """
    groups = group_runs(table, by)
    decades = np.log10(run_flops(table).to_numpy(dtype=np.float64))
    rows = []
    for g in range(groups.n_groups):
        mine = np.flatnonzero(groups.index == g)
        for budget in _budgets(decades[mine]):
            runs = table.iloc[mine[budget]]
            if len(runs) < MIN_RUNS or runs["params"].nunique() < 3:
                continue
            found = _minimum(runs, float(decades[mine[budget]].mean()))
            if found is not None:
                rows.append(dict(groups.labels.iloc[g]) | found)
    columns = [*groups.labels.columns, "flops", "runs", "params", "tokens", "loss", "inside"]
    return pd.DataFrame(rows, columns=columns)


def parabola_growth_law(table: pd.DataFrame, *, by: tuple[str, ...] | None = None) -> pd.DataFrame:
    """N* and D* as powers of compute, through the minima that lie inside their budget's runs.

    Returns
    -------
    DataFrame
        One row a group with two such budgets or more: group columns, ``params_exponent,
        params_prefactor, tokens_exponent, tokens_prefactor``, ``budgets, flops_low, flops_high``;
        N* = params_prefactor * C ** params_exponent.

    Raises
    ------
    InputError
        If no group has two budgets with a minimum.
    """
    optima = isoflop_optima(table, by=by)
    optima = optima[optima["inside"].astype(bool)]
    labels = list(optima.columns[: -len(("flops", "runs", "params", "tokens", "loss", "inside"))])
    rows = []
    for key, part in optima.groupby(labels, sort=True):
        if len(part) < 2:
            continue
        row = dict(zip(labels, key, strict=True))
        log_flops = np.log(part["flops"].to_numpy(dtype=np.float64))
        for name in ("params", "tokens"):
            slope, level = np.polyfit(log_flops, np.log(part[name].to_numpy(dtype=np.float64)), 1)
            row |= {f"{name}_exponent": float(slope), f"{name}_prefactor": float(np.exp(level))}
        ends = {"flops_low": part["flops"].min(), "flops_high": part["flops"].max()}
        rows.append(row | {"budgets": len(part)} | ends)
    if not rows:
        hint = "Give isoflop runs: several sizes at each of two budgets or more."
        raise InputError("no group has two budgets with a minimum", where="parabola", hint=hint)
    return pd.DataFrame(rows)


def _budgets(decades: npt.NDArray[np.float64]) -> list[npt.NDArray[np.int64]]:
    """Indices of the runs of each budget: chains of runs closer than half of `SAME_BUDGET`."""
    order = np.argsort(decades, kind="stable")
    breaks = np.flatnonzero(np.diff(decades[order]) > SAME_BUDGET / 2) + 1
    return np.split(order, breaks)


def _minimum(runs: pd.DataFrame, log10_flops: float) -> dict[str, object] | None:
    log_params = np.log10(runs["params"].to_numpy(dtype=np.float64))
    log_tokens = np.log10(runs["tokens"].to_numpy(dtype=np.float64))
    loss = runs["loss"].to_numpy(dtype=np.float64)
    best, lowest, inside = _vertex(log_params, loss)
    tokens, _, inside_tokens = _vertex(log_tokens, loss)
    if not (np.isfinite(best) and np.isfinite(tokens)):
        return None
    return {
        "flops": 10.0**log10_flops,
        "runs": len(runs),
        "params": float(10.0**best),
        "tokens": float(10.0**tokens),
        "loss": lowest,
        "inside": bool(inside and inside_tokens),
    }


def _vertex(x: npt.NDArray[np.float64], loss: npt.NDArray[np.float64]) -> tuple[float, float, bool]:
    """Place and height of a parabola's minimum, and whether it lies among the runs."""
    a, b, c = np.polyfit(x - x.mean(), loss, 2)
    if a <= 0:
        return float("nan"), float("nan"), False
    offset = -b / (2 * a)
    place = float(x.mean() + offset)
    return place, float(c - b**2 / (4 * a)), bool(x.min() <= place <= x.max())
