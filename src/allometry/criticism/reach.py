"""What the scorecard says of extrapolating, as the small table that predictions quote."""

import itertools
import json
from dataclasses import asdict
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd

from allometry.criticism.scorecard import SIMULATED
from allometry.files import writing
from allometry.inference.reach import FILE, Reach

EDGES = (1.0, 2.0, 4.0, 10.0, 30.0, 100.0, 1000.0, np.inf)
"""Ends of the ranges of compute over the largest fitted run of the group."""


def reach_rows(runs: pd.DataFrame) -> list[Reach]:
    """Errors and coverage by distance, over the public tables of a scorecard's runs."""
    public = runs[~runs["table"].isin(SIMULATED)]
    rows = []
    for low, high in itertools.pairwise(EDGES):
        part = public[(public["distance"] > low) & (public["distance"] <= high)]
        if part.empty:
            continue
        error = 100 * part["error"].abs()
        rows.append(
            Reach(
                low=low,
                high=high,
                runs=len(part),
                studies=part["table"].nunique(),
                median_error=round(float(error.median()), 2),
                high_error=round(float(error.quantile(0.9)), 2),
                coverage_50=round(float(part["covered_50"].mean()), 3),
                coverage_90=round(float(part["covered_90"].mean()), 3),
            )
        )
    return rows


def write_reach(runs: pd.DataFrame, path: Path | None = None) -> Path:
    """Write the table of a scorecard's runs where predictions read it; whole or not at all."""
    target = path or Path(str(resources.files("allometry.inference"))) / FILE
    rows = [
        asdict(row) | {"high": row.high if np.isfinite(row.high) else None}
        for row in reach_rows(runs)
    ]
    public = runs[~runs["table"].isin(SIMULATED)]
    document = {
        "made_by": "benchmarks/scorecard.py --write-reach",
        "farthest": float(f"{public['distance'].max():.3g}"),
        "rows": rows,
    }
    with writing(target) as partial:
        partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return target
