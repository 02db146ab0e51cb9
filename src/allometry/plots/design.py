"""Runs to do next: what each is expected to tell over what it costs, and where it lies."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from allometry.plots.style import (
    GREY,
    GroupStyle,
    finish,
    flops_text,
    legend,
    legend_key,
    new_axes,
    require_columns,
    split_groups,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CROWDED = 0.06
"""Of an axis's length: labels of runs closer than this are written as one."""


def draw_design(table: pd.DataFrame, runs: pd.DataFrame) -> "Figure":
    """Both pictures of a design side by side.

    Parameters
    ----------
    table : DataFrame
        As `design_runs` gives it.
    runs : DataFrame
        As `fitted_table` gives it.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.6, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    plot_gain(table, ax=left)
    plot_design(table, runs, ax=right)
    if words := table.attrs.get("quantity"):
        figure.suptitle(words, fontsize="medium")
    return figure


def plot_gain(table: pd.DataFrame, *, ax: "Axes | None" = None) -> "Axes":
    """Share of the variance that the runs are expected to take, over their FLOPs so far.

    Parameters
    ----------
    table : DataFrame
        As `design_runs` gives it: ``rank``, ``flops``, ``gain``, ``cumulative_flops``.
    ax : Axes, optional
    """
    require_columns(table, ["rank", "flops", "gain", "cumulative_flops"], plot="plot_gain")
    ax = new_axes(ax)
    styles = _styles(table)
    total = table["gain"].cumsum().to_numpy(dtype=float)
    place = table["cumulative_flops"].to_numpy(dtype=float)
    start = float(table["flops"].iloc[0]) / 3  # a log axis has no zero
    ax.plot([start, *place], [0.0, *total], color=GREY, linewidth=1.2, drawstyle="steps-post")
    for style, part in split_groups(table.assign(_total=total)):
        look = styles[style.label]
        ax.plot(
            part["cumulative_flops"],
            part["_total"],
            color=look.color,
            marker=look.marker,
            linestyle="none",
            markersize=7,
        )
    for rank, x, y in zip(table["rank"], place, total, strict=True):
        ax.annotate(
            str(rank), (x, y), xytext=(-5, 5), textcoords="offset points", fontsize=8, ha="right"
        )
    finish(ax, x="flops", y="share of the variance taken, expected")
    ax.set_xlabel("training compute of the new runs so far (FLOPs)")
    ax.set_xlim(start, place[-1] * 1.5)
    ax.set_ylim(0.0, min(1.0, 1.2 * total[-1]))
    if {"sd_before", "sd_after"} <= set(table):
        now, then = table["sd_before"].iloc[0], table["sd_after"].iloc[-1]
        ax.set_title(f"sd {now:.3g} now, {then:.3g} after all", fontsize="medium")
    return ax


def plot_design(table: pd.DataFrame, runs: pd.DataFrame, *, ax: "Axes | None" = None) -> "Axes":
    """Where the runs to do lie among the fitted ones, in params and tokens.

    Parameters
    ----------
    table : DataFrame
        As `design_runs` gives it: group columns, ``rank``, ``params``, ``tokens``.
    runs : DataFrame
        As `fitted_table` gives it: drawn small, those of groups without a new run in grey.
    ax : Axes, optional
    """
    require_columns(table, ["rank", "params", "tokens"], plot="plot_design")
    require_columns(runs, ["params", "tokens"], plot="plot_design")
    ax = new_axes(ax)
    styles = _styles(table)
    for style, part in split_groups(runs):
        look = styles.get(style.label)
        ax.plot(
            part["params"],
            part["tokens"],
            linestyle="none",
            marker=look.marker if look else ".",
            markersize=3,
            color=look.color if look else "#bbbbbb",
            alpha=0.45,
            zorder=1,
        )
    for style, part in split_groups(table):
        look = styles[style.label]
        ax.plot(
            part["params"],
            part["tokens"],
            linestyle="none",
            marker=look.marker,
            markersize=9,
            color=look.color,
            markeredgecolor="black",
            zorder=3,
        )
    finish(ax, x="params", y="tokens", log_y=True)
    for words, params, tokens in _labels(table):
        ax.annotate(
            words, (params, tokens), xytext=(7, 5), textcoords="offset points", fontsize=8, zorder=4
        )
    more: list[Any] = [
        legend_key(color=GREY, marker="o", ms=8, mec="black", ls="none", label="to do, by rank"),
        legend_key(
            color=GREY,
            marker="o",
            ms=3,
            alpha=0.45,
            ls="none",
            label="fitted (grey: no new run there)",
        ),
    ]
    legend(ax, list(styles.values()), bands=False, more=more, loc="best")
    largest = flops_text(float(table["flops"].max()))
    ax.set_title(f"runs of up to {largest} FLOPs", fontsize="medium")
    return ax


def _styles(table: pd.DataFrame) -> dict[str, GroupStyle]:
    """Looks of the groups that have a new run, by their label, in order of rank."""
    return {style.label: style for style, _ in split_groups(table)}


def _labels(table: pd.DataFrame) -> list[tuple[str, float, float]]:
    """Ranks, params and tokens of each label; runs that lie close together share one."""
    places = np.log(table[["params", "tokens"]].to_numpy(dtype=float))
    size = np.maximum(np.ptp(places, axis=0), 1.0) * CROWDED
    left, found = list(range(len(table))), []
    while left:
        near = [i for i in left if (np.abs(places[i] - places[left[0]]) < size).all()]
        ranks = ", ".join(str(table["rank"].iloc[i]) for i in near)
        first = table.iloc[near[0]]
        found.append((ranks, float(first["params"]), float(first["tokens"])))
        left = [i for i in left if i not in near]
    return found
