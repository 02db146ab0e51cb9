"""The scorecard as a table that a person reads: averages by data set, holdout and distance."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from allometry.criticism.decision_score import LEVELS
from allometry.criticism.scorecard import SIMULATED
from allometry.criticism.validate import COVERAGES
from allometry.observations import TABLES

POOLED = "all public"
POOLED_WITH_OWN = "all tables"
"""Name of the rows over all tables: public ones, or some that are nobody's but the user's."""

DISTANCES = ((0.0, 1.0), (1.0, 3.5), (3.5, 11.0), (11.0, 100.0), (100.0, np.inf))
"""Compute of a hidden run over the largest left in its group."""


def score_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """Averages over hidden runs: each table and holdout, and all public tables by distance.

    Returns
    -------
    DataFrame
        ``table, holdout, distance, cuts, runs``; ``honest_90_low, honest_90_high`` of a table's
        only cut (see `validate`); for our prediction and, with ``practice_`` before,
        for the practice's: ``coverage_50, coverage_80, coverage_90`` and the mean ``width_50,
        width_80, width_90`` of new-run intervals, ``crps``, ``rmse`` (widths, CRPS and RMSE in
        percent of loss), ``log_score``.
    """
    return pd.DataFrame([labels | _averages(part) for labels, part in _parts(runs)])


def _parts(runs: pd.DataFrame) -> Iterator[tuple[dict[str, object], pd.DataFrame]]:
    for (table, holdout), part in runs.groupby(["table", "holdout"], sort=False):
        yield {"table": table, "holdout": holdout, "distance": "all"}, part
    public = runs[~runs["table"].isin(SIMULATED)]
    if public.empty:
        return
    pooled = _pooled(public)
    for holdout, part in public.groupby("holdout", sort=False):
        yield {"table": pooled, "holdout": holdout, "distance": "all"}, part
    yield {"table": pooled, "holdout": "both", "distance": "all"}, public
    for low, high in DISTANCES:
        inside = public[(public["distance"] > low) & (public["distance"] <= high)]
        if len(inside):
            yield {"table": pooled, "holdout": "both", "distance": _label(low, high)}, inside


def _pooled(rows: pd.DataFrame) -> str:
    return POOLED if rows["table"].isin(TABLES).all() else POOLED_WITH_OWN


def _label(low: float, high: float) -> str:
    if not np.isfinite(high):
        return f">{low:g}x"
    return f"{low:g}-{high:g}x" if low else f"<={high:g}x"


def _averages(part: pd.DataFrame) -> dict[str, object]:
    cuts = part[["table", "holdout", "number"]].drop_duplicates()
    ours, theirs = _scores(part, ""), _scores(part, "baseline_")
    return {
        "cuts": len(cuts),
        "runs": len(part),
        **_honest(part if len(cuts) == 1 else part.iloc[:0]),
        **ours,
        **{f"practice_{name}": value for name, value in theirs.items()},
    }


def _honest(part: pd.DataFrame) -> dict[str, float]:
    """Range of the coverage of right forecasts, of one cut."""
    ends = ("honest_90_low", "honest_90_high")
    return {name: float(part[name].iloc[0]) if len(part) else np.nan for name in ends}


def _scores(part: pd.DataFrame, prefix: str) -> dict[str, float]:
    def mean(name: str) -> float:
        return float(part[f"{prefix}{name}"].mean())

    return {
        **{f"coverage_{level}": mean(f"covered_{level}") for level in COVERAGES},
        **{f"width_{level}": 100 * mean(f"width_{level}") for level in COVERAGES},
        "rmse": 100 * float(np.sqrt((part[f"{prefix}error"] ** 2).mean())),
        "crps": 100 * mean("crps"),
        "log_score": mean("log_score"),
    }


def regret_rows(decisions: pd.DataFrame) -> pd.DataFrame:
    """Mean regret of the posterior's size beside each other method's, where both have an answer.

    Returns
    -------
    DataFrame
        ``table, holdout, budgets`` (held out, with a minimum among their runs); for the parabola:
        ``compared_parabola`` (budgets that it answers), ``regret_posterior_there`` and
        ``regret_parabola`` over these; ``regret_posterior`` and ``regret_approach_3`` over all.
        Regrets are means in percent of loss. ``optimum_50, optimum_80, optimum_90``: share of
        budgets whose best size lies in the posterior's interval of N*, and the same of approach 3's
        bootstrap with ``approach_3_`` before. The last row is over all public tables.
    """
    if decisions.empty:
        return pd.DataFrame()
    rows = [
        _regrets(str(table), str(holdout), part)
        for (table, holdout), part in decisions.groupby(["table", "holdout"], sort=False)
    ]
    public = decisions[~decisions["table"].isin(SIMULATED)]
    if len(public):
        rows.append(_regrets(_pooled(public), "both", public))
    return pd.DataFrame(rows)


def _regrets(table: str, holdout: str, part: pd.DataFrame) -> dict[str, object]:
    there = part.dropna(subset=["regret_parabola"])
    return {
        "table": table,
        "holdout": holdout,
        "budgets": len(part),
        "regret_posterior": 100 * float(part["regret_posterior"].mean()),
        "regret_approach_3": 100 * float(part["regret_approach_3"].mean()),
        "compared_parabola": len(there),
        "regret_posterior_there": 100 * float(there["regret_posterior"].mean()),
        "regret_parabola": 100 * float(there["regret_parabola"].mean()),
        **{f"optimum_{n}": float(part[f"covered_{n}_posterior"].mean()) for n in LEVELS},
        **{
            f"approach_3_optimum_{n}": float(part[f"covered_{n}_approach_3"].mean()) for n in LEVELS
        },
    }
