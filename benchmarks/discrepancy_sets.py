"""Score lengths and median scales of the discrepancy on the kept fits of a scorecard.

    python benchmarks/discrepancy_sets.py [TABLES] --folder FOLDER [--sets 3 .035 4 .06 5 .08]

The discrepancy is conditioned on residuals after the fit, so that no set needs a fit of its own:
FOLDER holds those of ``scorecard.py``. Prints, over all public runs, the rows of docs/validation.md
("What was tuned on what").
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from allometry.cli.runtime import prepare_jax, stages
from allometry.criticism.score_summary import regret_rows, score_rows
from allometry.criticism.scorecard import scorecard
from allometry.inference import Drift, discrepancy
from allometry.inference.discrepancy import Array, Indices, Residuals
from allometry.inference.discrepancy_kernel import Kernel
from allometry.inference.residuals import RunResiduals

SETS = (3.0, 0.035, 4.0, 0.06, 5.0, 0.08, 5.0, 0.1, 6.5, 0.15)
"""Decades and median scale, in turns."""


condition = discrepancy.condition


def with_set(length: float, scale: float) -> Callable[..., Residuals]:
    """The discrepancy given residuals, of another length and scale; fits here import nothing."""

    def set_(
        place: Array, group: Indices, found: RunResiduals, drift: Drift, _: Kernel | None = None
    ) -> Residuals:
        return condition(place, group, found, replace(drift, length=length, scale=scale))

    return set_


def main() -> None:
    """Score each set, print a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", type=float, default=SETS)
    options = parser.parse_args()
    prepare_jax()
    print("| decades, median scale | log score | 50 | 90 | regret |\n|---|---|---|---|---|")
    for length, scale in zip(options.sets[::2], options.sets[1::2], strict=True):
        discrepancy.condition = with_set(length, scale)
        with stages() as bar:
            card = scorecard(options.folder, tables=options.tables or None, progress=bar)
        rows = score_rows(card.runs)
        pooled = rows["table"].str.startswith("all ") & (rows["holdout"] == "both")
        row = rows[pooled & (rows["distance"] == "all")].iloc[0]
        regret = regret_rows(card.decisions).iloc[-1]["regret_posterior"]
        told = f"{row['log_score']:.2f} | {row['coverage_50']:.2f} | {row['coverage_90']:.2f}"
        print(f"| {length:g}, {scale:g} | {told} | {regret:.3f} |", flush=True)


if __name__ == "__main__":
    main()
