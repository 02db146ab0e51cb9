"""Beyond the data: the fan of predicted loss, and runs that the fit has not seen."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from allometry.plots.style import (
    GREY,
    draw_line,
    finish,
    group_columns,
    legend,
    legend_key,
    loss_label,
    new_axes,
    plain_log_ticks,
    require_columns,
    split_groups,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_fan(
    table: pd.DataFrame,
    *,
    runs: pd.DataFrame | None = None,
    held_out: pd.DataFrame | None = None,
    quantity: str = "run_loss",
    by: Sequence[str] | None = None,
    loss_unit: str = "nats per token",
    ax: "Axes | None" = None,
) -> "Axes":
    """Loss of a compute-optimal run against compute, with the fan beyond the data.

    Parameters
    ----------
    table : DataFrame
        As `allocate` gives it on many budgets.
    runs : DataFrame, optional
        Group columns, ``flops`` and ``loss`` of the fitted runs. They lie on the line where they
        are compute-optimal, above it elsewhere.
    held_out : DataFrame, optional
        The same of runs that the fit has not seen: larger, outlined in black.
    quantity : {"run_loss", "loss"}
        Bands of a new run or of the law.
    by : sequence of str, optional
        Group columns.
    loss_unit : str
        Unit in the label.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    require_columns(table, ["flops", "extrapolation_factor", f"{quantity}_median"], plot="plot_fan")
    ax = new_axes(ax)
    columns = group_columns(table, by)
    groups = split_groups(table, by)
    for style, part in groups:
        draw_line(ax, part, quantity, style)
        of_group = part[columns].drop_duplicates()
        looks: tuple[tuple[pd.DataFrame | None, dict[str, Any]], ...] = (
            (runs, {"markersize": 3, "alpha": 0.55, "markeredgewidth": 0}),
            (held_out, {"markersize": 7, "markeredgecolor": "k", "zorder": 4}),
        )
        for points, look in looks:
            if points is not None:
                own = points.merge(of_group) if columns else points
                x, y = own["flops"], own["loss"]
                ax.plot(x, y, linestyle="none", marker=style.marker, color=style.color, **look)
    more = []
    if held_out is not None:
        unseen: dict[str, Any] = {
            "marker": "o",
            "markersize": 7,
            "markeredgecolor": "k",
            "linestyle": "none",
        }
        more.append(legend_key(color=GREY, label="runs held out", **unseen))
    if runs is not None:
        fitted: dict[str, Any] = {"marker": "o", "markersize": 3, "linestyle": "none"}
        more.append(legend_key(color=GREY, label="runs fitted", **fitted))
    finish(ax, x="flops", y=loss_label(loss_unit), log_y=True)
    plain_log_ticks(ax)
    beyond = bool((table["extrapolation_factor"] > 1).any())
    legend(ax, [style for style, _ in groups], beyond=beyond, more=more)
    return ax


def plot_held_out(
    table: pd.DataFrame, *, by: Sequence[str] | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Held-out runs against their predictions: deviation in percent, with intervals.

    Parameters
    ----------
    table : DataFrame
        As `predict` gives it for the held-out runs: group columns, ``extrapolation_factor``,
        ``run_loss_*``, and their ``loss``.
    by : sequence of str, optional
        Group columns.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    require_columns(
        table,
        ["extrapolation_factor", "loss", "run_loss_median", "run_loss_q5", "run_loss_q95"],
        plot="plot_held_out",
    )
    ax = new_axes(ax)
    groups = split_groups(table, by)
    for style, part in groups:
        x, median = part["extrapolation_factor"], part["run_loss_median"]
        for low, high, width, alpha in (("q5", "q95", 1.2, 0.5), ("q25", "q75", 4.0, 0.35)):
            below, above = (100 * (part[f"run_loss_{q}"] / median - 1) for q in (low, high))
            ax.vlines(x, below, above, color=style.color, linewidth=width, alpha=alpha)
        ax.plot(
            x,
            100 * (part["loss"] / median - 1),
            linestyle="none",
            marker=style.marker,
            color=style.color,
            markersize=6,
            markeredgecolor="k",
            zorder=3,
        )
    ax.axhline(0.0, color=GREY, linewidth=0.8)
    finish(ax, x="compute over the largest fitted run", y="observed over predicted loss − 1 (%)")
    handles = [
        legend_key(color=GREY, linewidth=4, alpha=0.5, label="50 % interval of a new run"),
        legend_key(color=GREY, linewidth=1.2, alpha=0.7, label="90 % interval of a new run"),
    ]
    legend(ax, [style for style, _ in groups], bands=False, more=handles)
    return ax
