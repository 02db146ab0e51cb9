"""Tables of ``prior_worth.py``: widths beside coverage, and how many runs a prior is worth."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from small_studies import ASKED, LEVELS

FEW, MANY = 8, 16
"""Runs with a prior, and runs without one that its width is compared with."""

ORDER = (
    "practice",
    "vague",
    "default",
    "whole",
    "typical",
    "placed",
    "same-study",
    "lab-noise",
    "own-noise",
    "alike",
)
WITHOUT = ORDER[:3]
"""Fits that import nothing."""
NAMES = {"run": "new run", "loss": "best loss", "exponent": "exponent of N*", "optimum": "N*"}
WIDTHS = [f"{asked}_width_90" for asked in ASKED]
CRPS = [f"{asked}_crps" for asked in ASKED]
COVERED = [f"{asked}_covered_{level}" for asked in ASKED for level in LEVELS]


def report(scores: pd.DataFrame) -> None:
    """Print everything."""
    numbers = [*WIDTHS, *CRPS, *COVERED, "rmse"]
    by_group = scores.groupby(["group", "arm", "runs"], sort=False)[numbers].mean()
    arms = [name for name in ORDER if name in by_group.index.unique("arm")]
    print_averages(by_group, arms)
    without = [name for name in WITHOUT if name in arms]
    for arm in [name for name in arms if name not in WITHOUT[:2]]:
        print_ratios(by_group, arm, without)
    print(f"\nRuns that equal {FEW}, by numbers that every group has runs for")
    head = [f"{NAMES[asked]}: {what}" for asked in ASKED for what in ("width", "CRPS")]
    print_head(f"{FEW} runs", "equal runs of", *head)
    for arm in arms:
        print_worth(by_group, arm, without[: 2 if arm == "default" else 0 if arm in without else 3])
    if {"typical", "default"} <= set(arms):
        print_crps(by_group)


def print_row(*cells: str) -> None:
    """A row of a Markdown table."""
    print("| " + " | ".join(cells) + " |")


def print_head(*cells: str) -> None:
    """The head of a Markdown table."""
    print_row(*cells)
    print("|---" * len(cells) + "|")


def print_averages(by_group: pd.DataFrame, arms: Iterable[str]) -> None:
    """A row a fit: widths and CRPS as geometric means over groups, coverage as means."""
    print("\nOver groups: 90 % widths (losses: %; N*: e-folds), 50, 80, 90 % coverage, CRPS")
    head = [f"{NAMES[asked]}: {what}" for asked in ASKED for what in ("width", "covered", "CRPS")]
    print_head("fit", *head)
    for arm in arms:
        part = by_group.xs(arm, level="arm")
        for runs in sorted(part.index.unique("runs")):
            these = part.xs(runs, level="runs")
            cells: list[str] = []
            for asked in ASKED:
                covered = (these[f"{asked}_covered_{level}"].mean() for level in LEVELS)
                cells.append(f"{_geometric(these[f'{asked}_width_90']):.2f}")
                cells.append(" ".join(f"{share:.2f}" for share in covered))
                cells.append(f"{_geometric(these[f'{asked}_crps']):.3f}")
            few = "" if len(these) == by_group.index.unique("group").size else f" ({len(these)})"
            print_row(f"{runs} runs, {arm}{few}", *cells)


def print_ratios(by_group: pd.DataFrame, arm: str, others: Iterable[str]) -> None:
    """Widths of few runs with a prior over those of many without, by group."""
    print(f"\n{FEW} runs, {arm}: 90 % widths over those of {MANY} runs")
    few = by_group.xs((arm, FEW), level=("arm", "runs"))[WIDTHS]
    parts: dict[str, pd.Series[float]] = {}
    for other in others:
        ratio = (few / by_group.xs((other, MANY), level=("arm", "runs"))[WIDTHS]).dropna()
        parts |= {f"{other}: {NAMES[a]}": ratio[f"{a}_width_90"] for a in ASKED}
    table = pd.DataFrame(parts)
    print_head("left out", *table.columns)
    for name, row in table.iterrows():
        print_row(str(name), *(f"{value:.2f}" for value in row))
    print_row("median", *(f"{value:.2f}" for value in table.median()))
    logs = table.apply(np.log)
    print_row("geometric mean", *(f"{np.exp(value):.2f}" for value in logs.mean()))
    print_row("its standard error", *(f"{100 * value:.0f} %" for value in logs.sem()))


def print_worth(by_group: pd.DataFrame, arm: str, others: Iterable[str]) -> None:
    """Runs that other fits need to be as narrow, or to score as well, as few of an arm."""
    few = by_group.xs((arm, FEW), level=("arm", "runs"))
    for other in others:
        sizes = by_group.xs(other, level="arm")
        told = []
        for score in [f"{asked}_{what}" for asked in ASKED for what in ("width_90", "crps")]:
            by_size = (
                sizes[score].unstack("runs").reindex(few.index).dropna(axis=1).sort_index(axis=1)
            )
            curve = np.exp(np.log(by_size).mean())
            told.append(equal_runs(curve, _geometric(few.loc[by_size.index, score])))
        print_row(arm, other, *told)


def equal_runs(curve: "pd.Series[float]", wanted: float) -> str:
    """Runs at which a falling score of each number of runs reaches a value, by its logs.

    Examples
    --------
    >>> equal_runs(pd.Series({8: 4.0, 16: 2.0, 32: 1.0}), 2.0)
    '16'
    >>> equal_runs(pd.Series({8: 4.0, 16: 2.0}), 1.0)
    'more than 16'
    """
    runs, values = curve.index.to_numpy(dtype=float), curve.to_numpy(dtype=float)
    reached = np.flatnonzero(values <= wanted)
    if not len(reached):
        return f"more than {runs[-1]:.0f}"
    first = int(reached[0])
    if first == 0:
        return f"at most {runs[0]:.0f}"
    ends = slice(first - 1, first + 1)
    steps = np.log(values[ends])[::-1], np.log(runs[ends])[::-1]
    return f"{np.exp(np.interp(np.log(wanted), *steps)):.0f}"


def print_crps(by_group: pd.DataFrame) -> None:
    """CRPS of new runs with the typical law over that without, by the number of runs."""
    ratio = by_group["run_crps"].unstack("arm")
    ratio = (ratio["typical"] / ratio["default"]).unstack("runs").dropna(axis=1).sort_index(axis=1)
    print("\nCRPS of new runs with the typical law over that without, by runs")
    print_head("left out", *map(str, ratio.columns))
    for name, row in ratio.iterrows():
        print_row(str(name), *(f"{value:.2f}" for value in row))
    print_row("geometric mean", *(f"{_geometric(ratio[n]):.2f}" for n in ratio.columns))


def _geometric(values: "pd.Series[float]") -> float:
    return float(np.exp(np.log(values).mean()))
