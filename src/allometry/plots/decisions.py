"""Decisions: regret over sizes, and what one architecture's compute is worth in another's."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from allometry.plots.style import (
    GREY,
    apart,
    draw_band,
    draw_ranges,
    few_log_ticks,
    finish,
    flops_text,
    group_columns,
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

MOST_PANELS = 9
MOST_BANDS = 3
"""Groups up to which intervals are drawn: more of them hide each other."""


def plot_regret(table: pd.DataFrame, *, ax: "Axes | None" = None) -> "Axes":
    """Expected regret of one budget against the size chosen, a line a group.

    Parameters
    ----------
    table : DataFrame
        As `regret_curve` gives it, for one budget: group columns, ``params``, ``expected_regret``,
        ``regret_*``.
    ax : Axes, optional

    Returns
    -------
    Axes
        The dot is the size of least expected regret.
    """
    require_columns(table, ["params", "expected_regret", "regret_q5"], plot="plot_regret")
    ax = new_axes(ax)
    groups = split_groups(table)
    for style, part in groups:
        rows = part.sort_values("params")
        if len(groups) <= MOST_BANDS:
            draw_band(ax, rows["params"], rows, "regret", color=style.color)
        ax.plot(rows["params"], rows["expected_regret"], color=style.color, linewidth=1.6)
        best = rows.iloc[int(rows["expected_regret"].to_numpy().argmin())]
        ax.plot(
            best["params"],
            best["expected_regret"],
            marker=style.marker,
            color=style.color,
            markersize=7,
            markeredgecolor="white",
        )
    finish(ax, x="params", y="loss above the best of this budget")
    legend(ax, [style for style, _ in groups], bands=len(groups) <= MOST_BANDS)
    return ax


def draw_regret(table: pd.DataFrame, within: str = "", *, loss_unit: str = "") -> "Figure":
    """The regret of each budget in a panel, cut where the expected regret is far above the band.

    Parameters
    ----------
    table : DataFrame
        As `regret_curve` gives it.
    within : str
        The level of the flat band, as it was asked for; sizes that are expected to stay within it
        are marked by a line at the bottom.
    loss_unit : str
        Unit in the label.
    """
    from matplotlib.figure import Figure

    budgets = sorted(table["flops"].unique())[:MOST_PANELS]
    columns = min(len(budgets), 3)
    rows = -(-len(budgets) // columns)
    figure = Figure(figsize=(max(5.0 * columns, 6.4), 0.8 + 4.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in axes[len(budgets) :]:
        spare.set_visible(False)
    safe = False
    for ax, budget in zip(axes, budgets, strict=False):
        part = table[table["flops"] == budget]
        plot_regret(part, ax=ax)
        top = _top(part, within)
        ax.set_ylim(-0.04 * top, top)
        near = part[part["expected_regret"] < top]
        ax.set_xlim(near["params"].min(), near["params"].max())
        few_log_ticks(ax)
        unit = f" ({loss_unit})" if loss_unit else ""
        ax.set_ylabel(f"expected loss above the best{unit}")
        if within:
            safe |= _mark_safe(ax, part, within)
        ax.set_title(f"{flops_text(budget)} FLOPs", fontsize="medium")
    _one_legend(figure, list(axes[: len(budgets)]), within, safe=safe)
    return figure


def _one_legend(figure: "Figure", axes: Sequence["Axes"], within: str, *, safe: bool) -> None:
    """One legend below the panels instead of one in each, where it would lie on the lines."""
    shown = [key for ax in axes if (key := ax.get_legend()) is not None]
    handles: list[Any] = list(shown[0].legend_handles)
    for key in shown:
        key.remove()
    if safe:
        handles.append(legend_key(color="#666666", lw=2.5, label=f"expected within {within}"))
    elif within:
        handles.append(legend_key(ls="none", label=f"no size is expected within {within}"))
    looks: dict[str, Any] = {"fontsize": "small", "frameon": False}
    figure.legend(handles=handles, loc="outside lower center", ncols=3, **looks)


def _top(part: pd.DataFrame, within: str) -> float:
    """Top of a panel: eight times the level, or more where the best of a group is above that."""
    columns = group_columns(part, None)
    rows = part.groupby(columns) if columns else part.assign(all=0).groupby("all")
    lowest = 2 * float(rows["expected_regret"].min().max())  # far beyond the runs
    if within.endswith("%"):
        share = part["expected_regret"] / part["expected_regret_percent"].clip(lower=1e-12)
        return max(lowest, float(8 * float(within[:-1]) * share.median()))
    if within:
        return max(lowest, 8 * float(within))
    return max(lowest, float(part["expected_regret"].quantile(0.5)))


def _mark_safe(ax: "Axes", part: pd.DataFrame, within: str) -> bool:
    """Mark the sizes that are expected to stay within the level; whether there are any."""
    column = "expected_regret_percent" if within.endswith("%") else "expected_regret"
    level = float(within.removesuffix("%"))
    low, high = ax.get_ylim()
    found = False
    for i, (style, rows) in enumerate(split_groups(part)):
        safe = rows[rows[column] <= level]
        if len(safe):
            y = low * (0.2 + 0.12 * i)
            ax.hlines(y, safe["params"].min(), safe["params"].max(), color=style.color, lw=2.5)
            found = True
    ax.set_ylim(low, high)
    return found


def plot_speedup(table: pd.DataFrame, *, ax: "Axes | None" = None) -> "Axes":
    """Compute multiplier of a over b against a's budget, a line a context.

    Parameters
    ----------
    table : DataFrame
        As `effective_speedup` gives it: ``a, b, flops, speedup_*`` and ``context_length`` if there
        are several. Draws in which b never gets there are cut off at the top.
    ax : Axes, optional
    """
    require_columns(table, ["a", "b", "flops", "speedup_median", "speedup_q5"], plot="plot_speedup")
    ax = new_axes(ax)
    a, b = table["a"].iloc[0], table["b"].iloc[0]
    ends = [str(name) for name in table if str(name).startswith("speedup_")]
    finite = table[ends].to_numpy(dtype=float)
    top = 3 * np.nanmax(finite[np.isfinite(finite)], initial=1.0)
    groups = split_groups(table.assign(**{name: table[name].clip(upper=top) for name in ends}))
    single = table["flops"].nunique() == 1
    for i, (style, part) in enumerate(groups):
        rows = part.sort_values("flops")
        x = rows["flops"]
        if single:
            x = x * apart(table["flops"], i, len(groups))
            draw_ranges(ax, x, rows, "speedup", color=style.color)
        else:
            draw_band(ax, x, rows, "speedup", color=style.color)
        edge = "white" if single else style.color  # upon a line of its own colour
        looks: dict[str, Any] = {"marker": style.marker, "markeredgecolor": edge}
        ax.plot(x, rows["speedup_median"], color=style.color, **looks)
    ax.axhline(1.0, color=GREY, linewidth=0.9, linestyle=":")
    finish(ax, x="flops", y=f"compute of {b} at equal loss, over that of {a}", log_y=True)
    _label_factors(ax)
    if single:
        budget = float(table["flops"].iloc[0])
        ax.set_xlim(budget / 2, budget * 2)
        ticks_at(ax, [budget])
    legend(ax, [s for s, _ in groups], bands=not single, more=range_keys() if single else ())
    return ax


def _label_factors(ax: "Axes") -> None:
    """Plain numbers beside a log axis of factors near one, not powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = ax.get_ylim()
    if 5 * low <= high < 100 * low:
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_major_formatter(plain)
    ax.yaxis.set_minor_formatter(plain if high < 5 * low else NullFormatter())


def draw_speedup(table: pd.DataFrame) -> "Figure":
    """`plot_speedup` as a figure of its own."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.8, 4.6), layout="constrained")
    plot_speedup(table, ax=figure.subplots())
    return figure
