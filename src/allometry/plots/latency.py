"""Latency drawn: runtime against context, the roofline, what bounds it, and the frontier."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from allometry.errors import InputError
from allometry.plots.style import BANDS, GREY, MARKERS, OKABE_ITO

if TYPE_CHECKING:
    from matplotlib.axes import Axes

QUANTITY_LABELS = {
    "ttft": "time to first token of the batch (s)",
    "step_time": "time of one decode step of the batch (s)",
}
BOTTLENECKS = ("launch", "compute", "memory", "walk")


def plot_runtime(
    predicted: pd.DataFrame, timed: pd.DataFrame | None = None, *, ax: "Axes | None" = None
) -> "Axes":
    """Seconds against prompt or context length, with bands and timings.

    Parameters
    ----------
    predicted : DataFrame
        Rows of `allometry.decisions.latency.predict_latency` of one quantity.
    timed : DataFrame, optional
        Rows of a latency table of the same architectures, params and batches.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Raises
    ------
    InputError
        If the rows mix quantities.
    """
    ax = _axes(ax)
    if predicted["quantity"].nunique() != 1:
        raise InputError("the rows mix ttft and step_time", where="plot_runtime")
    quantity = str(predicted["quantity"].iloc[0])
    keys = ["architecture", "params", "batch_size"]
    for i, (key, rows) in enumerate(predicted.groupby(keys, sort=False)):
        architecture, params, batch = key
        rows = rows.sort_values("prefill_length")
        color, label = (
            OKABE_ITO[i % len(OKABE_ITO)],
            f"{architecture} {params:.3g}, batch {batch:g}",
        )
        x = rows["prefill_length"]
        ax.plot(x, rows["seconds_median"], color=color, label=label)
        for level, (opacity, low, high) in BANDS.items():
            ax.fill_between(
                x,
                rows[f"run_seconds_{low}"],
                rows[f"run_seconds_{high}"],
                color=color,
                alpha=opacity,
                lw=0,
                label=level if i == 0 else None,
            )
        if timed is not None:
            same = (timed[keys] == list(key)).all(axis=1) & (timed["quantity"] == quantity)
            marker = MARKERS[i % len(MARKERS)]
            points = timed[same]
            ax.plot(
                points["prefill_length"],
                points["seconds"],
                linestyle="none",
                marker=marker,
                color=color,
                markeredgecolor="white",
                zorder=3,
            )
    ax.set(xscale="log", yscale="log", ylabel=QUANTITY_LABELS[quantity])
    ax.set_xlabel("prompt (tokens)" if quantity == "ttft" else "context (tokens)")
    ax.legend(fontsize="small")
    return ax


def plot_roofline(
    ceilings: pd.DataFrame,
    points: pd.DataFrame | None = None,
    *,
    peak_flops: float,
    peak_bandwidth: float,
    ax: "Axes | None" = None,
) -> "Axes":
    """Rate against intensity under the data sheet and under the posterior's ceilings.

    Parameters
    ----------
    ceilings : DataFrame
        One row a ceiling: ``label, rate_median, rate_q5, rate_q95`` (FLOP/s) and
        ``bandwidth_median, bandwidth_q5, bandwidth_q95`` (bytes/s).
    points : DataFrame, optional
        Timings: ``label, intensity`` (FLOPs a byte) and ``rate`` (FLOP/s).
    peak_flops, peak_bandwidth : float
        The data sheet.
    """
    ax = _axes(ax)
    x = np.geomspace(0.3, 3e4, 200)
    ax.plot(
        x,
        np.minimum(peak_flops, x * peak_bandwidth),
        color=GREY,
        linestyle="--",
        label="data sheet",
    )
    for i, row in enumerate(ceilings.itertuples()):
        color = OKABE_ITO[i % len(OKABE_ITO)]
        roofs = {
            end: np.minimum(
                float(getattr(row, f"rate_{end}")), x * float(getattr(row, f"bandwidth_{end}"))
            )
            for end in ("median", "q5", "q95")
        }
        ax.plot(x, roofs["median"], color=color, label=str(row.label))
        ax.fill_between(
            x,
            roofs["q5"],
            roofs["q95"],
            color=color,
            alpha=0.25,
            lw=0,
            label="90 %" if i == 0 else None,
        )
        if points is not None:
            own = points[points["label"] == row.label]
            ax.plot(
                own["intensity"],
                own["rate"],
                linestyle="none",
                marker=MARKERS[i % len(MARKERS)],
                markersize=3,
                alpha=0.5,
                color=color,
            )
    ax.set(xscale="log", yscale="log")
    ax.set(xlabel="intensity (FLOPs a byte)", ylabel="rate (FLOP/s)")
    ax.legend(fontsize="small")
    return ax


def plot_bottleneck(table: pd.DataFrame, *, ax: "Axes | None" = None) -> "Axes":
    """What bounds a prefill or step, over batch and context of one architecture and size.

    Parameters
    ----------
    table : DataFrame
        Rows of `allometry.decisions.latency.predict_latency` over a grid of batch and prompt.
    ax : Axes, optional
        Where to draw; a new figure by default.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    ax = _axes(ax)
    codes = table.assign(code=table["bottleneck"].map({n: i for i, n in enumerate(BOTTLENECKS)}))
    grid = codes.pivot_table(values="code", index="batch_size", columns="prefill_length")
    bound = table.pivot_table(
        values="probability_memory_bound", index="batch_size", columns="prefill_length"
    )
    colors = ListedColormap([OKABE_ITO[i] for i in (5, 0, 1, 3)])
    ax.pcolormesh(
        grid.columns, grid.index, grid.to_numpy(), cmap=colors, vmin=-0.5, vmax=3.5, alpha=0.75
    )
    if min(bound.shape) > 1 and bound.to_numpy().min() < 0.5 < bound.to_numpy().max():
        lines = ax.contour(
            bound.columns, bound.index, bound.to_numpy(), [0.05, 0.5, 0.95], colors="black"
        )
        ax.clabel(lines, fmt=lambda level: f"P(memory) {level:.2f}", fontsize=7)
    present = sorted(set(codes["code"]))
    handles = [Patch(color=colors(i), alpha=0.75, label=BOTTLENECKS[i]) for i in present]
    ax.legend(handles=handles, fontsize="small", title="longest part")
    first = table.iloc[0]
    ax.set(xscale="log", yscale="log", xlabel="context (tokens)", ylabel="batch (sequences)")
    ax.set_title(f"{first['architecture']} {first['params']:.3g}, {first['quantity']}")
    return ax


def plot_frontier(table: pd.DataFrame, *, ax: "Axes | None" = None) -> "Axes":
    """Loss against latency, one line an architecture.

    Parameters
    ----------
    table : DataFrame
        Rows of `allometry.decisions.serving.serving_frontier`.
    ax : Axes, optional
        Where to draw; a new figure by default.
    """
    ax = _axes(ax)
    for i, (name, rows) in enumerate(table.groupby("architecture", sort=False)):
        color, marker = OKABE_ITO[i % len(OKABE_ITO)], MARKERS[i % len(MARKERS)]
        low, high = rows["seconds_q5"], rows["seconds_q95"]
        ax.fill_betweenx(
            rows["loss_median"],
            low,
            high,
            color=color,
            alpha=0.15,
            lw=0,
            label="90 %" if i == 0 else None,
        )
        ax.fill_between(
            rows["seconds_median"], rows["loss_q5"], rows["loss_q95"], color=color, alpha=0.25, lw=0
        )
        ax.plot(
            rows["seconds_median"],
            rows["loss_median"],
            color=color,
            marker=marker,
            markersize=4,
            label=str(name),
        )
    first = table.iloc[0]
    ax.set(xscale="log", xlabel=QUANTITY_LABELS[str(first["quantity"])], ylabel="loss")
    ax.set_title(f"context {first['context_length']:g}, batch {first['batch_size']:g}")
    ax.legend(fontsize="small")
    return ax


def _axes(ax: "Axes | None") -> "Axes":
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(6.4, 4.4), layout="constrained").subplots()
