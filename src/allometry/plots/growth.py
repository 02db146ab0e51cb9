"""Compute-optimal sizes against compute, and exponents group by group."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from allometry.observations.units import power_text
from allometry.plots.style import (
    AXIS_LABELS,
    GREY,
    draw_line,
    finish,
    group_columns,
    legend,
    legend_key,
    new_axes,
    range_keys,
    require_columns,
    split_groups,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_growth(
    table: pd.DataFrame,
    *,
    minima: pd.DataFrame | None = None,
    quantity: str = "params",
    by: Sequence[str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Compute-optimal params (or tokens, or tokens per param) against compute.

    Parameters
    ----------
    table : DataFrame
        As `allocate` gives it: group columns, ``flops``, ``{quantity}_*``,
        ``extrapolation_factor``. Solid to one, dashed and fainter beyond.
    minima : DataFrame, optional
        Group columns, ``flops`` and `quantity` of optima seen in the data (of isoflop budgets).
    quantity : {"params", "tokens", "tokens_per_param", "loss", "run_loss"}
        What is drawn.
    by : sequence of str, optional
        Group columns; by default architecture and context_length.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    require_columns(
        table,
        ["flops", "extrapolation_factor", f"{quantity}_median", f"{quantity}_q5"],
        plot="plot_growth",
    )
    ax = new_axes(ax)
    columns = group_columns(table, by)
    groups = split_groups(table, by)
    for style, part in groups:
        draw_line(ax, part, quantity, style)
        if minima is not None:
            own = minima.merge(part[columns].drop_duplicates()) if columns else minima
            ax.plot(
                own["flops"],
                own[quantity],
                linestyle="none",
                marker=style.marker,
                markersize=8,
                markerfacecolor="none",
                markeredgecolor=style.color,
                markeredgewidth=1.4,
            )
    more = []
    if minima is not None:
        hollow: dict[str, Any] = {
            "marker": "o",
            "markerfacecolor": "none",
            "markersize": 8,
            "linestyle": "none",
        }
        more = [legend_key(color=GREY, label="optimum of a budget's runs", **hollow)]
    finish(ax, x="flops", y=_optimal(quantity), log_y=True)
    beyond = bool((table["extrapolation_factor"] > 1).any())
    legend(ax, [style for style, _ in groups], beyond=beyond, more=more)
    return ax


def plot_allocations(
    table: pd.DataFrame,
    *,
    quantity: str = "params",
    by: Sequence[str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Compute-optimal params, tokens or loss at asked budgets, as intervals beside each other.

    Parameters
    ----------
    table : DataFrame
        As `allocate` gives it, for a few budgets.
    quantity, by, ax
        As in `plot_growth`.

    Returns
    -------
    Axes
    """
    require_columns(
        table, ["flops", f"{quantity}_median", f"{quantity}_q5"], plot="plot_allocations"
    )
    ax = new_axes(ax)
    groups = split_groups(table, by)
    budgets = sorted(table["flops"].unique())
    place = {budget: i for i, budget in enumerate(budgets)}
    for k, (style, part) in enumerate(groups):
        shift = 0.7 * ((k + 0.5) / len(groups) - 0.5)
        x = part["flops"].map(place).to_numpy() + shift
        filled = [
            style.color if factor <= 1 else "white"
            for factor in part.get("extrapolation_factor", pd.Series(1.0, index=part.index))
        ]
        ax.vlines(x, part[f"{quantity}_q5"], part[f"{quantity}_q95"], color=style.color, lw=1.2)
        ax.vlines(x, part[f"{quantity}_q25"], part[f"{quantity}_q75"], color=style.color, lw=4)
        ax.scatter(
            x,
            part[f"{quantity}_median"],
            marker=style.marker,
            s=34,
            c=filled,
            edgecolors=style.color,
            zorder=3,
        )
    finish(ax, x="flops", y=_optimal(quantity), log_x=False, log_y="loss" not in quantity)
    ax.set_xticks(range(len(budgets)), [power_text(b) for b in budgets])
    _interval_legend(ax, groups)
    return ax


def plot_exponents(
    table: pd.DataFrame,
    *,
    quantity: str = "params_exponent",
    reference: pd.DataFrame | None = None,
    by: Sequence[str] | None = None,
    label: str | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Forest: one line a group, median with 50 and 90 % intervals.

    Parameters
    ----------
    table : DataFrame
        Group columns and ``{quantity}_median ...`` as `growth_law` gives it; or ``median, q5, ...``
        as a posterior's summary does, cut to one parameter.
    quantity : str
        Which one.
    reference : DataFrame, optional
        Group columns and ``value`` (and ``stderr``): published ones, drawn as crosses.
    by : sequence of str, optional
        Group columns.
    label : str, optional
        Of the axis; by default after `quantity`.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    prefix = f"{quantity}_" if f"{quantity}_median" in table else ""
    require_columns(table, [f"{prefix}{s}" for s in ("median", "q5", "q95")], plot="plot_exponents")
    groups = split_groups(table, by)
    columns = group_columns(table, by)
    ax = new_axes(ax, height=1.2 + 0.42 * len(groups))
    for i, (style, part) in enumerate(groups):
        row = part.iloc[0]
        ax.hlines(i, row[f"{prefix}q5"], row[f"{prefix}q95"], color=style.color, lw=1.4)
        ax.hlines(i, row[f"{prefix}q25"], row[f"{prefix}q75"], color=style.color, lw=5)
        face: dict[str, Any] = {
            "markerfacecolor": "white",
            "markeredgecolor": style.color,
            "zorder": 3,
        }
        ax.plot(row[f"{prefix}median"], i, marker=style.marker, markersize=7, **face)
        if reference is not None:
            own = reference.merge(part[columns].drop_duplicates())
            for _, published in own.iterrows():
                error = published.get("stderr", float("nan"))
                ax.errorbar(
                    published["value"],
                    i + 0.24,
                    xerr=None if pd.isna(error) else error,
                    fmt="x",
                    color="k",
                    markersize=5,
                    elinewidth=0.9,
                )
    finish(ax, x=label or AXIS_LABELS.get(quantity, quantity), y="", log_x=False)
    ax.set_yticks(range(len(groups)), [style.label for style, _ in groups])
    ax.set_ylim(len(groups) - 0.4, -0.6)
    ax.grid(False, axis="y")
    _interval_legend(ax, [], published=reference is not None)
    return ax


def _optimal(quantity: str) -> str:
    plain = AXIS_LABELS.get(quantity, quantity)
    return plain if "loss" in quantity else f"compute-optimal {plain}"


def _interval_legend(ax: "Axes", groups: Sequence, *, published: bool = False) -> None:  # type: ignore[type-arg]
    handles = [
        legend_key(color=s.color, marker=s.marker, linestyle="none", label=s.label)
        for s, _ in groups
    ]
    handles += range_keys()
    if groups:
        hollow: dict[str, Any] = {"marker": "o", "markerfacecolor": "white", "linestyle": "none"}
        handles.append(legend_key(color=GREY, label="beyond the largest run", **hollow))
    if published:
        handles.append(legend_key(color="k", marker="x", linestyle="none", label="published"))
    if groups:
        ax.legend(handles=handles, fontsize="small", frameon=False, loc="best")
    else:  # rows of a forest fill the axes
        above = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "ncols": len(handles)}
        ax.legend(handles=handles, fontsize="small", frameon=False, **above)
