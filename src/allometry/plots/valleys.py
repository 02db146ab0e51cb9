"""Loss over sizes: valleys at fixed compute, and the surface over params and tokens."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from allometry.plots.style import (
    GREY,
    MARKERS,
    draw_band,
    finish,
    flops_text,
    legend,
    legend_key,
    loss_label,
    new_axes,
    plain_log_ticks,
    require_columns,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_valleys(
    table: pd.DataFrame,
    *,
    runs: pd.DataFrame | None = None,
    quantity: str = "run_loss",
    loss_unit: str = "nats per token",
    ax: "Axes | None" = None,
) -> "Axes":
    """Loss against params, one valley a budget, of one group.

    Parameters
    ----------
    table : DataFrame
        ``budget``, ``params`` and ``{quantity}_median, _q5, _q25, _q75, _q95``, as `valley_table`
        gives it for one group.
    runs : DataFrame, optional
        ``budget``, ``params`` and ``loss`` of finished runs, drawn on top.
    quantity : str
        ``run_loss`` (bands for a new run) or ``loss`` (bands of the law).
    loss_unit : str
        Unit in the label.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    require_columns(
        table, ["budget", "params", f"{quantity}_median", f"{quantity}_q5"], plot="plot_valleys"
    )
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    ax = new_axes(ax)
    budgets = np.sort(table["budget"].unique())
    for i, budget in enumerate(budgets):
        color = to_hex(colormaps["viridis"](0.8 * i / max(len(budgets) - 1, 1)))
        marker = MARKERS[i % len(MARKERS)]
        part = table[table["budget"] == budget].sort_values("params")
        draw_band(ax, part["params"], part, quantity, color=color)
        ax.plot(part["params"], part[f"{quantity}_median"], color=color, linewidth=1.4)
        lowest = part.loc[part[f"{quantity}_median"].idxmin()]
        ax.plot(
            lowest["params"], lowest[f"{quantity}_median"], marker="|", markersize=11, color="k"
        )
        last = part.iloc[-1]
        ax.annotate(
            flops_text(budget),
            (last["params"], last[f"{quantity}_median"]),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
            color=color,
        )
        if runs is not None:
            points = runs[runs["budget"] == budget]
            ax.plot(
                points["params"],
                points["loss"],
                linestyle="none",
                marker=marker,
                markersize=4,
                markerfacecolor=color,
                markeredgecolor="white",
                markeredgewidth=0.4,
            )
    handles = [legend_key(color="k", marker="|", linestyle="none", label="compute-optimal")]
    if runs is not None:
        handles.append(legend_key(color=GREY, marker="o", linestyle="none", label="runs"))
    finish(ax, x="params", y=loss_label(loss_unit))
    ax.margins(x=0.12)  # room for the budgets at the lines
    # Below the axes: valleys leave no corner free for certain.
    looks: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.15), "ncols": 4}
    looks |= {"title_fontsize": "small", "columnspacing": 1.0}
    legend(ax, more=handles, title="at each line: FLOPs", **looks)
    return ax


def plot_surface(
    table: pd.DataFrame,
    *,
    runs: pd.DataFrame | None = None,
    frontier: pd.DataFrame | None = None,
    budgets: Sequence[float] = (),
    levels: int = 12,
    loss_unit: str = "nats per token",
    ax: "Axes | None" = None,
) -> "Axes":
    """Contours of loss over params and tokens, with lines of equal compute and the runs.

    Parameters
    ----------
    table : DataFrame
        ``params``, ``tokens``, ``flops`` and ``loss_median`` on a grid, as `surface_table` gives.
    runs : DataFrame, optional
        ``params``, ``tokens`` and ``loss`` of finished runs, coloured by their loss.
    frontier : DataFrame, optional
        ``params_median`` and ``tokens_median``, as `allocate` gives it: the compute-optimal line.
    budgets : sequence of float
        Compute of the iso-compute lines in FLOPs; by default one a decade.
    levels : int
        Number of contours.
    loss_unit : str
        Unit in the label.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    require_columns(table, ["params", "tokens", "flops", "loss_median"], plot="plot_surface")
    from matplotlib.colors import LogNorm

    ax = new_axes(ax)
    x, y, loss, flops = (
        table.pivot(index="tokens", columns="params", values=name)
        for name in ("params", "tokens", "loss_median", "flops")
    )
    least, most = float(loss.to_numpy().min()), float(loss.to_numpy().max())
    norm = LogNorm(least, most)
    edges = np.geomspace(least, most, levels + 1)
    filled = ax.contourf(x, y, loss, levels=edges, norm=norm, cmap="viridis", alpha=0.8)
    ax.contour(x, y, loss, levels=edges, colors="white", linewidths=0.5)
    low, high = np.log10(flops.to_numpy().min()), np.log10(flops.to_numpy().max())
    lines = np.asarray(budgets or 10.0 ** np.arange(np.ceil(low), np.floor(high) + 1))
    iso = ax.contour(x, y, flops, levels=lines, colors="k", linewidths=0.8, linestyles="dashed")
    ax.clabel(iso, fmt=flops_text, fontsize=7)
    handles = [legend_key(color="k", linestyle="dashed", linewidth=0.8, label="equal FLOPs")]
    if frontier is not None:
        ax.plot(frontier["params_median"], frontier["tokens_median"], color="#D55E00", linewidth=2)
        handles.append(legend_key(color="#D55E00", linewidth=2, label="compute-optimal"))
    ax.set_xlim(x.to_numpy().min(), x.to_numpy().max())
    ax.set_ylim(y.to_numpy().min(), y.to_numpy().max())
    if runs is not None:
        ax.scatter(
            runs["params"],
            runs["tokens"],
            c=runs["loss"],
            norm=norm,
            cmap="viridis",
            s=22,
            edgecolors="k",
            linewidths=0.6,
            zorder=3,
        )
        label = "runs, by their loss"
        handles.append(
            legend_key(color=GREY, markeredgecolor="k", marker="o", linestyle="", label=label)
        )
    bar = ax.figure.colorbar(filled, ax=ax)
    bar.set_label(loss_label(loss_unit))
    plain_log_ticks(bar.ax)
    finish(ax, x="params", y="tokens", log_y=True)
    ax.grid(False)
    ax.legend(handles=handles, fontsize="small", loc="upper left", framealpha=0.85)
    return ax
