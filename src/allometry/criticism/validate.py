"""`validate`: hide runs, fit the others, and score the predictions of what was hidden."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.criticism.baseline import NAME, HuberFit, huber_fit
from allometry.criticism.cutoffs import Split, splits
from allometry.criticism.scores import (
    covered,
    crps,
    honest_coverage,
    log_score,
    normal_log_score,
    relative_error,
    width,
)
from allometry.decisions.outlook import law_draws, new_run_noise
from allometry.decisions.prediction import predict_draws
from allometry.inference import Drift, LossPriors, Posterior, Sampler, fit
from allometry.inference.discrepancy import study_scale
from allometry.inference.evaluate import log_loss_at
from allometry.inference.groups import group_runs
from allometry.laws import Law
from allometry.observations import Runs, read_runs

Array = npt.NDArray[np.float64]
Stage = Callable[[str, int, int], None]

QUICK = Sampler(method="laplace", chains=2, warmup=200, draws=300, starts=2)
"""Weighted Laplace draws where their k-hat allows, else NUTS; few of them: an interval end to two
digits needs far fewer draws than a diagnosis. The method that answered is in the result."""

BOOTSTRAPS = 50
DISTANCES = ((0.0, 3.5), (3.5, 11.0), (11.0, np.inf))
"""Compute of a hidden run over the largest that was left in its group."""

COVERAGES = (50, 80, 90)


def validate(
    runs: Runs | pd.DataFrame | str | Path,
    *,
    holdout: str = "largest",
    laws: Sequence[str | Law] = ("pnorm",),
    by: Sequence[str] | None = None,
    priors: LossPriors | None = None,
    drift: Drift | None = None,
    sampler: Sampler = QUICK,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
    progress: Stage | None = None,
) -> pd.DataFrame:
    """Hide the largest runs, fit the others, and score the predictions beside the practice's.

    Parameters
    ----------
    runs : Runs, DataFrame, path or str
        Checked runs, or anything `read_runs` takes.
    holdout : str
        ``largest`` hides each group's largest budget; ``every`` cuts the whole table at up to five
        budgets; a condition such as ``flops>1e20`` hides the rows that fulfil it.
    laws : sequence of str or Law
        Each is fitted to each cutoff.
    by : sequence of str, optional
        Group columns; default as in `fit`.
    priors, drift, sampler
        As in `fit`. A Laplace sampler falls through to NUTS where it would be wrong.
    bootstraps : int
        Resamples of the baseline.
    seed : int
        Seed of everything random.
    progress : callable, optional
        Called with what is being done, steps done, and steps in all (0: unknown).

    Returns
    -------
    DataFrame
        `score_table` of the predictions of `predictions`: one row a law, cutoff and distance.
    """
    answers = predictions(
        runs,
        holdout=holdout,
        laws=laws,
        by=by,
        priors=priors,
        drift=drift,
        sampler=sampler,
        bootstraps=bootstraps,
        seed=seed,
        progress=progress,
    )
    return score_table(answers)


def predictions(
    runs: Runs | pd.DataFrame | str | Path,
    *,
    holdout: str = "largest",
    laws: Sequence[str | Law] = ("pnorm",),
    by: Sequence[str] | None = None,
    priors: LossPriors | None = None,
    drift: Drift | None = None,
    sampler: Sampler = QUICK,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
    progress: Stage | None = None,
) -> pd.DataFrame:
    """Scores of every hidden run; see `validate` for the parameters.

    Returns
    -------
    DataFrame
        One row a law, cutoff and hidden run: ``law, cutoff_flops, train_runs, group, params,
        tokens, flops, distance, loss``; ``predicted`` and the interval ends ``run_loss_q5,
        run_loss_q95``; ``error`` (relative), ``crps`` (of log loss), ``log_score``,
        ``covered_50, covered_80, covered_90``, ``width_50, width_80, width_90`` (of log loss); the
        same of the baseline with ``baseline_`` before (its log score from a normal);
        ``honest_90_low, honest_90_high``, between which nine in ten right forecasts of the cutoff's
        runs would cover them (`honest_coverage`);
        ``discrepancy_scale`` (the standard deviation of log loss around the law that the fitted
        runs tell), ``method, divergences, max_rhat`` of the fit.
    """
    checked = runs if isinstance(runs, Runs) else read_runs(runs)
    if by is not None:
        checked = replace(checked, by=tuple(by))
    parts = []
    found = splits(checked, holdout)
    for number, split in enumerate(found):
        _tell(progress, f"baseline, cutoff {number + 1} of {len(found)}", 0, 0)
        baselines = fit_baselines(split, checked.by, bootstraps=bootstraps, seed=seed)
        baseline = score_baseline(split, checked.by, baselines, seed=seed)
        for law in laws:
            posterior = fit(
                split.train,
                law=law,
                by=checked.by or None,
                priors=priors,
                drift=drift,
                library=False,  # it is made of public tables, maybe of the hidden runs
                sampler=sampler,
                seed=seed,
                progress=progress,
            )
            parts.append(score_split(split, posterior).join(baseline))
    return pd.concat(parts, ignore_index=True)


def _tell(progress: Stage | None, what: str, done: int, total: int) -> None:
    if progress is not None:
        progress(what, done, total)


def score_split(split: Split, posterior: Posterior) -> pd.DataFrame:
    """Scores of a split's hidden runs under a posterior of the others; see `predictions`."""
    test = split.test
    law, run = predict_draws(posterior, test)
    labels = group_runs(test, posterior.record.by)
    convergence = posterior.record.convergence
    rows = pd.DataFrame(
        {
            "law": posterior.record.law,
            "cutoff_flops": split.cutoff_flops,
            "train_runs": len(split.train.table),
            "group": np.asarray(labels.names)[labels.index],
            "params": test["params"],
            "tokens": test["tokens"],
            "flops": test["_flops"],
            "distance": test["_distance"],
            "loss": test["loss"],
        }
    )
    scores = _scores(np.log(np.median(law, axis=0)), np.log(run), np.log(test["loss"].to_numpy()))
    scale, honest = _noise(posterior, test), honest_coverage(run, 0.9)
    return rows.assign(
        **scores,
        log_score=log_score(np.log(law), scale, np.log(test["loss"].to_numpy())),
        honest_90_low=honest[0],
        honest_90_high=honest[1],
        discrepancy_scale=study_scale(posterior).scale,
        method=posterior.record.method,
        divergences=convergence.divergences,
        max_rhat=convergence.max_rhat,
    )


def _scores(centre: Array, draws: Array, observed: Array) -> dict[str, Any]:
    """Scores of log-loss draws (draw, point) around a point prediction."""
    low, high = np.exp(np.quantile(draws, [0.05, 0.95], axis=0))
    inside = {f"covered_{level}": covered(draws, observed, level / 100) for level in COVERAGES}
    widths = {f"width_{level}": width(draws, level / 100) for level in COVERAGES}
    return {
        "predicted": np.exp(centre),
        "run_loss_q5": low,
        "run_loss_q95": high,
        "error": relative_error(centre, observed),
        "crps": crps(draws, observed),
        **inside,
        **widths,
    }


def _noise(posterior: Posterior, test: pd.DataFrame) -> Array:
    """Scale of each hidden run's log loss around the law, (draw, point)."""
    index = _indices(posterior, test)
    params, tokens = (test[name].to_numpy(dtype=np.float64) for name in ("params", "tokens"))
    columns = {n: test[n].to_numpy(dtype=np.float64) for n in posterior.law.columns}
    _, imbalance = log_loss_at(law_draws(posterior, index), params, tokens, columns)
    return new_run_noise(posterior, index, imbalance)


def _indices(posterior: Posterior, test: pd.DataFrame) -> npt.NDArray[np.int64]:
    known = posterior.groups.astype(str).agg("/".join, axis=1)
    if not posterior.record.by:
        return np.zeros(len(test), dtype=np.int64)
    asked = test[list(posterior.record.by)].astype(str).agg("/".join, axis=1)
    return np.asarray(pd.Index(known).get_indexer(pd.Index(asked)), dtype=np.int64)


def fit_baselines(
    split: Split, by: Sequence[str], *, bootstraps: int = BOOTSTRAPS, seed: int = 0
) -> dict[str, HuberFit]:
    """The practice fitted to each group that the split predicts, by the group's name."""
    own = group_keys(split.train.table, by)
    return {
        key: huber_fit(split.train.table[own == key], bootstraps=bootstraps, seed=seed)
        for key in sorted(set(group_keys(split.test, by)))
    }


def score_baseline(
    split: Split, by: Sequence[str], baselines: Mapping[str, HuberFit], *, seed: int = 0
) -> pd.DataFrame:
    """Scores of the practice on the same hidden runs, each from its group's fit."""
    parts = []
    for number, (key, hidden) in enumerate(split.test.groupby(group_keys(split.test, by))):
        rng = np.random.default_rng([seed, 12, number])
        params, tokens = (hidden[n].to_numpy(dtype=np.float64) for n in ("params", "tokens"))
        centre, draws = baselines[str(key)].predict_draws(params, tokens, rng)
        observed = np.log(hidden["loss"].to_numpy())
        scores = _scores(centre, draws, observed)
        scores["log_score"] = normal_log_score(draws, observed)
        parts.append(pd.DataFrame(scores, index=hidden.index))
    return pd.concat(parts).sort_index().add_prefix("baseline_")


def group_keys(table: pd.DataFrame, by: Sequence[str]) -> "pd.Series[str]":
    """Name of each run's group, such as ``xlstm/8192``; ``all`` without group columns."""
    if not by:
        return pd.Series("all", index=table.index)
    return table[list(by)].astype(str).agg("/".join, axis=1)


def score_table(answers: pd.DataFrame) -> pd.DataFrame:
    """Scores of hidden runs as averages: one row a law, cutoff and distance, and one over all.

    Returns
    -------
    DataFrame
        ``law, cutoff_flops, distance, train_runs, test_runs``; ``coverage_50, coverage_80,
        coverage_90`` of new-run intervals; ``honest_90_low, honest_90_high``, between which
        ``coverage_90`` over all distances is in nine of ten cases if the forecast is right;
        ``rmse`` and ``crps`` in percent of loss (the CRPS is that of log loss, times 100);
        ``log_score``, mean log density of log loss;
        ``baseline_name, baseline_rmse, baseline_coverage_90, baseline_crps``; ``method,
        divergences, max_rhat`` of the fit.
    """
    rows = []
    for keys, part in answers.groupby(["law", "cutoff_flops"], sort=False):
        rows.append(_average(keys, "all", part))
        for low, high in DISTANCES:
            inside = part[(part["distance"] > low) & (part["distance"] <= high)]
            if 0 < len(inside) < len(part):
                rows.append(_average(keys, _bucket(low, high), inside))
    return pd.DataFrame(rows)


def _bucket(low: float, high: float) -> str:
    return f"<={high:g}x" if np.isfinite(high) else f">{low:g}x"


def _average(keys: Any, distance: str, part: pd.DataFrame) -> dict[str, Any]:
    law, cutoff = keys
    return {
        "law": law,
        "cutoff_flops": cutoff,
        "distance": distance,
        "train_runs": int(part["train_runs"].iloc[0]),
        "test_runs": len(part),
        **{f"coverage_{level}": part[f"covered_{level}"].mean() for level in COVERAGES},
        "honest_90_low": part["honest_90_low"].iloc[0] if distance == "all" else np.nan,
        "honest_90_high": part["honest_90_high"].iloc[0] if distance == "all" else np.nan,
        **summary(part),
        "log_score": part["log_score"].mean(),
        "baseline_name": NAME,
        "baseline_coverage_90": part["baseline_covered_90"].mean(),
        **{f"baseline_{name}": value for name, value in summary(part, "baseline_").items()},
        "method": part["method"].iloc[0],
        "divergences": int(part["divergences"].iloc[0]),
        "max_rhat": float(part["max_rhat"].iloc[0]),
    }


def summary(part: pd.DataFrame, prefix: str = "") -> dict[str, float]:
    """RMSE and mean CRPS of scored runs, both in percent of loss."""
    return {
        "rmse": 100 * float(np.sqrt((part[f"{prefix}error"] ** 2).mean())),
        "crps": 100 * float(part[f"{prefix}crps"].mean()),
    }
