"""Decisions over a demand, a supply or a range: break-even, lifetime, repeated data."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from allometry.plots.style import (
    AXIS_LABELS,
    GREY,
    OKABE_ITO,
    apart,
    draw_band,
    draw_ranges,
    finish,
    flops_text,
    group_columns,
    group_label,
    legend,
    legend_key,
    new_axes,
    range_keys,
    require_columns,
    split_groups,
    ticks_at,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OUTCOMES = ("a_throughout", "a_takes_over", "b_takes_over", "b_throughout")
OUTCOME_COLORS = (OKABE_ITO[0], OKABE_ITO[4], OKABE_ITO[5], OKABE_ITO[1])
CUT: dict[str, Any] = {
    "marker": [(-1, -1), (1, 1)],
    "markersize": 9,
    "color": "k",
    "linestyle": "none",
}
"""A stroke across an axis that is cut."""

MOST_BANDS = 4
"""Groups up to which bands are drawn: more of them hide each other."""

LABELS = AXIS_LABELS | {
    "served_tokens": "tokens served over the model's life",
    "overtraining": "tokens per param over the compute optimum's",
    "epochs": "epochs",
}


def draw_break_even(table: pd.DataFrame) -> "Figure":
    """Where two architectures are equal, and how likely they are so nowhere in range.

    Parameters
    ----------
    table : DataFrame
        As `break_even_budget` or `break_even_context` gives it.
    """
    from matplotlib.figure import Figure

    name = "flops" if "break_even_flops_median" in table else "context"
    require_columns(table, ["a", "b", f"break_even_{name}_q5"], plot="draw_break_even")
    columns = group_columns(table, None)
    if columns:
        rows = [group_label(columns, row) for row in table[columns].itertuples(index=False)]
    elif "flops" in table:
        rows = [f"{flops_text(f)} FLOPs" for f in table["flops"]]
    else:
        rows = ["all runs"]
    figure = Figure(figsize=(10.4, 1.9 + 0.5 * len(table)), layout="constrained")
    places, shares = figure.subplots(1, 2, width_ratios=[1.2, 1.0], sharey=True)
    _break_even_places(places, table, name)
    _outcome_bars(shares, table)
    places.set_yticks(range(len(rows)), rows)
    places.set_ylim(len(rows) - 0.5, -0.5)
    return figure


def _break_even_places(ax: "Axes", table: pd.DataFrame, name: str) -> None:
    key = f"break_even_{name}"
    for i, (_, row) in enumerate(table.iterrows()):
        ax.hlines(i, row[f"{key}_q5"], row[f"{key}_q95"], color=GREY, lw=1.4)
        ax.hlines(i, row[f"{key}_q25"], row[f"{key}_q75"], color=GREY, lw=5)
        hollow: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": GREY, "zorder": 3}
        ax.plot(row[f"{key}_median"], i, marker="o", markersize=7, **hollow)
    ends = table[
        ["flops_low", "flops_high"] if name == "flops" else ["context_low", "context_high"]
    ]
    label = "break-even budget (FLOPs)" if name == "flops" else "break-even context (tokens)"
    finish(ax, x=f"{label}, of draws that have one", y="")
    from matplotlib.ticker import NullLocator

    low, high = float(ends.iloc[:, 0].min()), float(ends.iloc[:, 1].max())
    ax.set_xlim(low, high)
    if name == "context":
        doublings = range(math.ceil(np.log2(low)), math.floor(np.log2(high)) + 1)
        ax.set_xticks([2.0**d for d in doublings], [f"{2**d}" for d in doublings])
        ax.xaxis.set_minor_locator(NullLocator())
    ax.grid(False, axis="y")
    handles = [
        legend_key(color=GREY, linewidth=5, label="50 % interval"),
        legend_key(color=GREY, linewidth=1.4, label="90 % interval"),
    ]
    ax.figure.legend(
        handles=handles, fontsize="small", frameon=False, ncols=2, loc="outside upper left"
    )


def _outcome_bars(ax: "Axes", table: pd.DataFrame) -> None:
    a, b = table["a"].iloc[0], table["b"].iloc[0]
    ways = ("better throughout", "takes over")
    words = (*(f"{a} {way}" for way in ways), *(f"{b} {way}" for way in reversed(ways)))
    left = np.zeros(len(table))
    for outcome, color, word in zip(OUTCOMES, OUTCOME_COLORS, words, strict=True):
        share = table[f"probability_{outcome}"].to_numpy(dtype=float)
        ax.barh(range(len(table)), share, left=left, color=color, height=0.5, label=word)
        for i, (value, start) in enumerate(zip(share, left, strict=True)):
            if value > 0.08:
                text = f"{value:.2f}".lstrip("0")
                ax.text(start + value / 2, i, text, ha="center", va="center", fontsize=8)
        left += share
    finish(ax, x="probability", y="", log_x=False)
    ax.set_xlim(0, 1)
    ax.grid(False)
    ax.figure.legend(fontsize="small", frameon=False, ncols=2, loc="outside upper right")


def draw_lifetime(table: pd.DataFrame) -> "Figure":
    """Params and over-training against the tokens that will be served.

    Parameters
    ----------
    table : DataFrame
        As `lifetime` gives it. Without served tokens the compute optimum, at the left edge.
    """
    return _panels(table, "served_tokens", ("params", "overtraining"))


def draw_repeated(table: pd.DataFrame) -> "Figure":
    """Params and epochs against the budget, a line a group and supply of unique tokens.

    Parameters
    ----------
    table : DataFrame
        As `repeated` gives it.
    """
    several = table["unique_tokens"].nunique() > 1
    columns = group_columns(table, None)
    names = [*columns, "unique_tokens"] if several else columns
    labelled = table.assign(
        unique_tokens=[f"{flops_text(u)} unique tokens" for u in table["unique_tokens"]]
    )
    return _panels(labelled, "flops", ("params", "epochs"), by=names)


def _panels(
    table: pd.DataFrame, x: str, quantities: Sequence[str], *, by: Sequence[str] | None = None
) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.8, 4.4), layout="constrained")
    axes = figure.subplots(1, len(quantities))
    for ax, quantity in zip(axes, quantities, strict=True):
        plot_decision(table, x=x, quantity=quantity, by=by, ax=ax)
    # Below both, where it lies on no line.
    handles = list(axes[0].get_legend().legend_handles)
    for ax in axes:
        ax.get_legend().remove()
    looks: dict[str, Any] = {"fontsize": "small", "frameon": False}
    figure.legend(handles=handles, loc="outside lower center", ncols=4, **looks)
    return figure


def plot_decision(
    table: pd.DataFrame,
    *,
    x: str,
    quantity: str,
    by: Sequence[str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Median and intervals of a decision's quantity against what was asked.

    Parameters
    ----------
    table : DataFrame
        Group columns, `x`, ``{quantity}_*``.
    x, quantity : str
        Columns; zeros of `x` are drawn at the left edge, a tenth of the smallest other one.
    by : sequence of str, optional
        Columns that make a line; by default the group columns.
    ax : Axes, optional
    """
    require_columns(table, [x, f"{quantity}_median", f"{quantity}_q5"], plot="plot_decision")
    ax = new_axes(ax)
    positive = table[x][table[x] > 0]
    edge = float(positive.min()) / 10 if len(positive) else 1.0
    groups = split_groups(table, by)
    asked = table[x].clip(lower=edge)
    banded = asked.nunique() > 1 and len(groups) <= MOST_BANDS
    for i, (style, part) in enumerate(groups):
        rows = part.sort_values(x)
        place = rows[x].clip(lower=edge)
        if banded:
            draw_band(ax, place, rows, quantity, color=style.color)
        else:  # bands of many groups hide each other
            place = place * apart(asked, i, len(groups))
            draw_ranges(ax, place, rows, quantity, color=style.color)
        edge_color = style.color if banded else "white"  # upon a line of its own colour
        looks: dict[str, Any] = {"marker": style.marker, "ms": 5, "markeredgecolor": edge_color}
        ax.plot(place, rows[f"{quantity}_median"], color=style.color, **looks)
    finish(ax, x=x, y=quantity, log_y=True)
    ax.set_xlabel(LABELS.get(x, x))
    ax.set_ylabel(LABELS.get(quantity, quantity))
    if (table[x] == 0).any():
        # Between none and some a log axis has no distance: the axis is cut there.
        ax.plot(edge * 3, 0, transform=ax.get_xaxis_transform(), clip_on=False, **CUT)
        places = sorted(positive.unique())
        ticks_at(ax, [edge, *places], names={edge: "none"})
    elif asked.nunique() == 1:
        ax.set_xlim(asked.iloc[0] / 2, asked.iloc[0] * 2)
        ticks_at(ax, [float(asked.iloc[0])])
    legend(ax, [s for s, _ in groups], bands=banded, more=() if banded else range_keys())
    return ax
