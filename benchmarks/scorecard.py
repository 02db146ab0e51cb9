"""Score every registered table at every cutoff, beside the practice, and print the tables of docs.

    python benchmarks/scorecard.py [--folder FOLDER] [--write-reach]

The same as ``allometry validate --scorecard -o FOLDER``, printed as the Markdown tables that
docs/validation.md holds. With --write-reach, what the cases say of extrapolating how far is written
into the package (`allometry.inference.reach`), where predictions quote it.
"""

import argparse
from pathlib import Path

import pandas as pd

from allometry.cli.runtime import prepare_jax, stages
from allometry.criticism.reach import write_reach
from allometry.criticism.score_summary import regret_rows, score_rows
from allometry.criticism.scorecard import SIMULATED, scorecard

OURS = {
    "table": "table", "holdout": "holdout", "distance": "distance", "cuts": "cuts", "runs": "runs",
    "coverage_50": "50", "coverage_80": "80", "coverage_90": "90",
    "honest": "90 if right",
    "width_50": "width 50", "width_80": "80", "width_90": "90",
    "rmse": "RMSE", "crps": "CRPS", "log_score": "log score",
}  # fmt: skip
THEIRS = {k: v for k, v in OURS.items() if k in ("table", "holdout", "distance")} | {
    f"practice_{k}": v
    for k, v in OURS.items()
    if k not in ("table", "holdout", "distance", "cuts", "runs", "honest")
}
REGRETS = {
    "table": "table", "holdout": "holdout", "budgets": "budgets", "regret_posterior": "ours",
    "regret_approach_3": "approach 3", "compared_parabola": "budgets with a parabola",
    "regret_posterior_there": "ours there", "regret_parabola": "parabola",
}  # fmt: skip
OPTIMA = {
    "table": "table", "holdout": "holdout", "budgets": "budgets",
    **{f"optimum_{n}": str(n) for n in (50, 80, 90)},
    **{f"approach_3_optimum_{n}": f"approach 3, {n}" for n in (50, 80, 90)},
}  # fmt: skip


def markdown(table: pd.DataFrame, columns: dict[str, str]) -> str:
    """Some columns of a table, under other names, as Markdown."""
    lines = ["| " + " | ".join(columns.values()) + " |", "|" + "---|" * len(columns)]
    for _, row in table.iterrows():
        cells = (cell(row[name], name) for name in columns)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(value: object, column: str) -> str:
    """Shares as .90, regrets to three digits, all else to two."""
    if isinstance(value, str):
        return value
    number = float(value)  # type: ignore[arg-type]
    if pd.isna(number):
        return "–"
    if "coverage" in column or "optimum" in column:
        return f"{number:.2f}".removeprefix("0")
    if column.startswith("regret"):
        return f"{number:.3f}"
    if column in ("cuts", "runs", "budgets", "cubics", "compared_parabola"):
        return f"{number:.0f}"
    return f"{number:.2f}"


def scales(runs: pd.DataFrame) -> pd.DataFrame:
    """Scale of the discrepancy that the runs of each cut tell, in percent of loss, by table."""
    cuts = runs.groupby(["table", "holdout", "number"], sort=False)["discrepancy_scale"].first()
    largest = cuts.xs("largest", level="holdout").droplevel("number")
    every = cuts.xs("every", level="holdout").groupby("table", sort=False)
    found = {"largest": largest, "smallest cut": every.first(), "largest cut": every.last()}
    return (100 * pd.DataFrame(found).reindex(largest.index)).reset_index()


def valleys(decisions: pd.DataFrame) -> pd.DataFrame:
    """How far minima of parabolas lie off those of the hidden runs' valleys, in percent of N."""
    off = 100 * (decisions["parabola_params"] / decisions["best_params"] - 1)
    shown = decisions.assign(_off=off, _curved=off.abs() > 1e-6)
    grouped = shown.groupby("table", sort=False)
    rows = {
        "budgets": grouped.size(),
        "cubics": grouped["_curved"].sum(),
        "least %": grouped["_off"].min(),
        "median %": grouped["_off"].median(),
        "most %": grouped["_off"].max(),
    }
    return pd.DataFrame(rows).reset_index()


def ratios(runs: pd.DataFrame) -> pd.Series:
    """Of a table's hidden runs: coverage, and RMSE and CRPS beside the practice's."""
    ours, theirs = ((runs[n] ** 2).mean() ** 0.5 for n in ("error", "baseline_error"))
    return pd.Series(
        {
            "runs": len(runs),
            "covered_50": runs["covered_50"].mean(),
            "covered_90": runs["covered_90"].mean(),
            "rmse_ratio": ours / theirs,
            "crps": 100 * runs["crps"].mean(),
            "practice_crps": 100 * runs["baseline_crps"].mean(),
        }
    )


def main() -> None:
    """Parse, score, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*")
    parser.add_argument("--folder", type=Path, default=Path("scorecard"))
    parser.add_argument("--write-reach", action="store_true")
    options = parser.parse_args()
    prepare_jax()
    with stages() as bar:
        card = scorecard(options.folder, tables=options.tables or None, progress=bar)
    scores, regrets = score_rows(card.runs), regret_rows(card.decisions)
    scores["honest"] = [
        f"{cell(low, 'coverage')} to {cell(high, 'coverage')}" if pd.notna(low) else "–"
        for low, high in zip(scores["honest_90_low"], scores["honest_90_high"], strict=True)
    ]
    print(markdown(scores, OURS), markdown(scores, THEIRS), markdown(regrets, REGRETS), sep="\n\n")
    print("\n" + markdown(regrets, OPTIMA))
    learned = scales(card.runs)
    print("\n" + markdown(learned, {name: name for name in learned}))
    shapes = valleys(card.decisions)
    print("\n" + markdown(shapes, {name: name for name in shapes}))
    totals = card.runs[~card.runs["table"].isin(SIMULATED)].groupby("table").apply(ratios)
    print(f"\n{totals.round(2).to_string()}\n")
    print(f"{card.cpu_seconds:.0f} CPU seconds of fits and baselines")
    if options.write_reach:
        write_reach(card.runs)


if __name__ == "__main__":
    main()
