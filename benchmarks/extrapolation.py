"""Fit the smaller budgets of public studies and predict their larger runs, beside the practice.

    python benchmarks/extrapolation.py [chinchilla xlstm farseer overtraining] [--out FOLDER]

Each table is cut as `validate` cuts it: each group's largest budget, and every run above each of up
to five budgets. A cutoff is fitted once; other drift scales are scored on the same draws. With
--out, scored runs are kept there as Parquet and a table that is there already is not fitted again.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from allometry.cli.runtime import prepare_jax
from allometry.criticism.cutoffs import splits
from allometry.criticism.validate import (
    COVERAGES,
    DISTANCES,
    QUICK,
    score_baseline,
    score_split,
    summary,
)
from allometry.inference import Drift, Posterior, default_drift, fit
from allometry.inference.drift import draw_drift
from allometry.observations import read_runs

TABLES = ("chinchilla", "xlstm", "farseer", "overtraining")
HOLDOUTS = ("largest", "every")


def with_drift(posterior: Posterior, scale: float) -> Posterior:
    """The same draws of the law with another prior of the drift."""
    n_groups = len(posterior.groups)
    drift = Drift(scale=scale, shared=posterior.record.drift.shared)
    draws = draw_drift(drift, draws=posterior.n_draws, n_groups=n_groups, seed=0)
    tree = posterior.idata.copy()
    shape = tree["posterior"]["drift"].shape
    changed = tree["posterior"].to_dataset()
    changed["drift"] = (changed["drift"].dims, draws.reshape(shape))
    tree["posterior"].dataset = changed
    return Posterior(idata=tree, record=replace(posterior.record, drift=drift))


def score(name: str, laws: tuple[str, ...]) -> pd.DataFrame:
    """Scored hidden runs of a table under each law, holdout and drift scale."""
    runs = read_runs(name)
    parts = []
    for holdout in HOLDOUTS:
        for split in splits(runs, holdout):
            baseline = score_baseline(split, runs.by)
            for law in laws:
                posterior = fit(split.train, law=law, by=runs.by or None, sampler=QUICK)
                default = default_drift(len(posterior.groups)).scale
                # The default, twice that, and none.
                for label, scale in (
                    ("default", default),
                    ("x2", 2 * default),
                    ("0", 0),
                ):
                    scored = score_split(split, with_drift(posterior, scale)).join(baseline)
                    parts.append(scored.assign(table=name, holdout=holdout, drift=label))
                seconds = posterior.record.convergence.seconds
                print(f"  {name} {holdout} {split.cutoff_flops:.2g} {law}: {seconds:.0f} s")
    return pd.concat(parts, ignore_index=True)


def report(answers: pd.DataFrame) -> pd.DataFrame:
    """Averages over all cutoffs of a table, by distance."""
    rows = []
    for keys, part in answers.groupby(["table", "holdout", "law", "drift"], sort=False):
        rows.append({**dict(zip(("table", "holdout", "law", "drift"), keys, strict=True)),
                     "distance": "all", **_row(part)})  # fmt: skip
        for low, high in DISTANCES:
            inside = part[(part["distance"] > low) & (part["distance"] <= high)]
            if 0 < len(inside) < len(part):
                label = f"<={high:g}x" if np.isfinite(high) else f">{low:g}x"
                rows.append({**dict(zip(("table", "holdout", "law", "drift"), keys, strict=True)),
                             "distance": label, **_row(inside)})  # fmt: skip
    return pd.DataFrame(rows)


def _row(part: pd.DataFrame) -> dict[str, object]:
    ours, theirs = summary(part), summary(part, "baseline_")
    return {
        "cuts": part["cutoff_flops"].nunique(),
        "runs": len(part),
        **{f"cov_{level}": part[f"covered_{level}"].mean() for level in COVERAGES},
        "rmse": ours["rmse"],
        "crps": ours["crps"],
        "log_score": part["log_score"].mean(),
        "practice_cov_90": part["baseline_covered_90"].mean(),
        "practice_rmse": theirs["rmse"],
        "practice_crps": theirs["crps"],
        "nuts": (part["method"] == "nuts").mean(),
        "max_rhat": part["max_rhat"].max(),
    }


def main() -> None:
    """Parse, score, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", default=TABLES)
    parser.add_argument("--law", action="append")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    prepare_jax()
    parts = []
    for name in options.tables:
        kept = options.out / f"{name}.parquet" if options.out else None
        began = time.perf_counter()
        if kept is not None and kept.exists():
            parts.append(pd.read_parquet(kept))
            continue
        parts.append(score(name, tuple(options.law or ("pnorm",))))
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            partial = kept.with_suffix(".part")
            parts[-1].to_parquet(partial)
            partial.replace(kept)
    table = report(pd.concat(parts, ignore_index=True))
    with pd.option_context("display.width", 250, "display.max_columns", None):
        print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
