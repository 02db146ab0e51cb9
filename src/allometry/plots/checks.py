"""Is the model to be believed: predictive densities, PIT, residuals, and what the prior says."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from allometry.plots.style import (
    AXIS_LABELS,
    GREY,
    OKABE_ITO,
    draw_band,
    finish,
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


def plot_ppc_density(
    table: pd.DataFrame, *, loss_unit: str = "nats per token", ax: "Axes | None" = None
) -> "Axes":
    """Density of the observed losses over those that the posterior replicates.

    Parameters
    ----------
    table : DataFrame
        ``loss``, ``observed`` and ``density_*``, as `density_table` gives it.
    loss_unit : str
        Unit in the label.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    require_columns(table, ["loss", "observed", "density_median"], plot="plot_ppc_density")
    ax = new_axes(ax)
    draw_band(ax, table["loss"], table, "density", color=OKABE_ITO[0])
    ax.plot(table["loss"], table["density_median"], color=OKABE_ITO[0], linewidth=1)
    ax.plot(table["loss"], table["observed"], color="k", linewidth=1.6, linestyle="dashed")
    finish(ax, x=loss_label(loss_unit), y="density of runs", log_x=False)
    ax.set_ylim(bottom=0)
    lines = [
        legend_key(color="k", linestyle="dashed", label="observed"),
        legend_key(color=OKABE_ITO[0], label="replicated, median"),
    ]
    legend(ax, more=lines)
    return ax


def plot_pit(table: pd.DataFrame, *, bins: int = 20, ax: "Axes | None" = None) -> "Axes":
    """Histogram of the runs' leave-one-out probability integral transforms.

    Flat if the model holds; a hump in the middle says that intervals are too wide, horns at the
    ends that they are too narrow, a slope that predictions are biased.

    Parameters
    ----------
    table : DataFrame
        ``pit`` of each run, as `allometry.criticism.residuals` gives it.
    bins : int
        Bars.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    require_columns(table, ["pit"], plot="plot_pit")
    from scipy.stats import binom

    ax = new_axes(ax)
    n = len(table)
    edges = np.linspace(0, 1, bins + 1)
    for level, alpha in ((0.9, 0.25), (0.5, 0.4)):
        low, high = binom.interval(level, n, 1 / bins)
        ax.axhspan(low, high, color=GREY, alpha=alpha, linewidth=0, label=f"{level:.0%} if uniform")
    ax.hist(table["pit"], bins=edges.tolist(), histtype="step", color=OKABE_ITO[0], linewidth=1.8)
    ax.axhline(n / bins, color=GREY, linewidth=0.8)
    finish(ax, x="probability of a smaller loss, run left out", y="runs", log_x=False)
    ax.set_xlim(0, 1)
    ax.set_ylim(bottom=0)
    handles, labels = ax.get_legend_handles_labels()
    names = [label.replace("%", " %") for label in labels[::-1]]
    ax.legend(handles[::-1], names, fontsize="small", frameon=False)
    return ax


def plot_residuals(
    table: pd.DataFrame,
    *,
    x: str = "flops",
    y: str = "standardised",
    ax: "Axes | None" = None,
) -> "Axes":
    """Residuals of the runs against compute, params, tokens or tokens per param.

    Parameters
    ----------
    table : DataFrame
        As `allometry.criticism.residuals` gives it: ``group``, `x` and `y`.
    x : str
        ``flops``, ``params``, ``tokens`` or ``tokens_per_param``.
    y : str
        ``standardised`` (normal quantiles) or ``log_residual``.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    if x == "tokens_per_param" and x not in table and {"tokens", "params"} <= set(table):
        table = table.assign(tokens_per_param=table["tokens"] / table["params"])
    require_columns(table, [x, y], plot="plot_residuals")
    ax = new_axes(ax)
    groups = split_groups(table, ["group"] if "group" in table else [])
    if y == "standardised":
        for half, alpha in ((1.645, 0.10), (0.674, 0.16)):
            ax.axhspan(-half, half, color=GREY, alpha=alpha, linewidth=0)
    for style, part in groups:
        ax.plot(
            part[x],
            part[y],
            linestyle="none",
            marker=style.marker,
            color=style.color,
            markersize=4,
            alpha=0.75,
            markeredgewidth=0,
        )
    ax.axhline(0.0, color=GREY, linewidth=0.8)
    names = {
        "standardised": "residual (standard deviations of a run)",
        "log_residual": "log of observed over expected loss",
    }
    finish(ax, x=AXIS_LABELS.get(x, x), y=names.get(y, y))
    columns = 2 if len(groups) > 3 else 1
    legend(ax, [style for style, _ in groups], bands=y == "standardised", ncols=columns)
    return ax


def plot_prior_predictive(
    table: pd.DataFrame,
    *,
    runs: pd.DataFrame | None = None,
    loss_unit: str = "nats per token",
    ax: "Axes | None" = None,
) -> "Axes":
    """Loss against compute before any run is seen, with the runs on top.

    Parameters
    ----------
    table : DataFrame
        ``flops`` and ``loss_*``, as `prior_table` gives it.
    runs : DataFrame, optional
        ``flops`` and ``loss`` of finished runs.
    loss_unit : str
        Unit in the label.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    require_columns(table, ["flops", "loss_median", "loss_q5"], plot="plot_prior_predictive")
    ax = new_axes(ax)
    draw_band(ax, table["flops"], table, "loss", color=OKABE_ITO[4])
    ax.plot(table["flops"], table["loss_median"], color=OKABE_ITO[0], linewidth=1.6)
    more = [legend_key(color=OKABE_ITO[0], label="prior median")]
    if runs is not None:
        look: dict[str, Any] = {"linestyle": "none", "marker": ".", "color": "k", "markersize": 4}
        ax.plot(runs["flops"], runs["loss"], **look)
        more.append(legend_key(label="runs (not seen by the prior)", **look))
    finish(ax, x="flops", y=loss_label(loss_unit), log_y=True)
    plain_log_ticks(ax)
    legend(ax, more=more)
    return ax
