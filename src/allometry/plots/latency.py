"""Latency drawn: runtime against context, the roofline, what bounds it, and the frontier."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.accounting import SIXTEEN, find_number_type
from allometry.errors import InputError
from allometry.plots.style import BANDS, GREY, MARKERS, OKABE_ITO, bare

if TYPE_CHECKING:
    from matplotlib.artist import Artist
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
        Rows of a latency table, of which those of the same architectures, params, batches and
        dtypes are drawn; a line is dashed beyond its longest timing, or the architecture's if it
        has none.
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
    if timed is not None and "dtype" in predicted and "dtype" in timed:
        kinds = [find_number_type(str(text)) or SIXTEEN for text in timed["dtype"]]
        timed, keys = timed.assign(dtype=[kind.name for kind in kinds]), [*keys, "dtype"]
    for i, (key, rows) in enumerate(predicted.groupby(keys, sort=False)):
        architecture, params, batch = key[:3]
        rows = rows.sort_values("prefill_length")
        color, marker = OKABE_ITO[i % len(OKABE_ITO)], MARKERS[i % len(MARKERS)]
        label = f"{architecture} {params:.3g}, batch {batch:g}"
        x = rows["prefill_length"]
        points = others = rows.iloc[:0]
        if timed is not None:
            others = timed[
                (timed["architecture"] == architecture) & (timed["quantity"] == quantity)
            ]
            points = others[(others[keys] == list(key)).all(axis=1)]
        longest = (points if len(points) else others)["prefill_length"].max()
        inside = x <= (longest if timed is not None else np.inf)
        dash = (0, (4, 2))  # beyond the longest timing
        ax.plot(x, rows["seconds_median"], color=color, linestyle=dash)
        ax.plot(
            x[inside],
            rows["seconds_median"][inside],
            color=color,
            label=label,
        )
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
        ax.plot(
            points["prefill_length"],
            points["seconds"] if len(points) else [],
            linestyle="none",
            marker=marker,
            color=color,
            markeredgecolor="white",
            zorder=3,
        )
    ax.set(xscale="log", yscale="log", ylabel=QUANTITY_LABELS[quantity])
    ax.set_xlabel("prompt (tokens)" if quantity == "ttft" else "context (tokens)")
    ax.legend(fontsize="small")
    bare(ax)
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
        Rows of `allometry.decisions.roofline.roofline_ceilings`.
    points : DataFrame, optional
        Rows of `allometry.decisions.roofline.timed_rates`.
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
    _legend_with_band(ax)
    bare(ax)
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
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    ax = _axes(ax)
    codes = table.assign(code=table["bottleneck"].map({n: i for i, n in enumerate(BOTTLENECKS)}))
    grid = codes.pivot_table(values="code", index="batch_size", columns="prefill_length")
    bound = table.pivot_table(
        values="probability_memory_bound", index="batch_size", columns="prefill_length"
    )
    colors = ListedColormap([OKABE_ITO[i] for i in (5, 0, 1, 3)])
    ax.pcolormesh(
        _log_edges(grid.columns),
        _log_edges(grid.index),
        grid.to_numpy(),
        cmap=colors,
        vmin=-0.5,
        vmax=len(BOTTLENECKS) - 0.5,
        alpha=0.75,
    )
    present = sorted(set(codes["code"]))
    handles: list[Artist] = [
        Patch(color=colors(i), alpha=0.75, label=BOTTLENECKS[i]) for i in present
    ]
    if min(bound.shape) > 1 and bound.to_numpy().min() < 0.5 < bound.to_numpy().max():
        lines = ax.contour(
            bound.columns, bound.index, bound.to_numpy(), [0.05, 0.5, 0.95], colors="black"
        )
        ax.clabel(lines, fmt=lambda level: f"{level:.2f}", fontsize=7)
        handles.append(Line2D([], [], color="black", label="P(memory-bound)"))
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
    _legend_with_band(ax)
    bare(ax)
    return ax


def _legend_with_band(ax: "Axes") -> None:
    """Legend of the lines, with a key for the bands around all of them."""
    from matplotlib.patches import Patch

    handles, _ = ax.get_legend_handles_labels()
    band = Patch(color=GREY, alpha=0.25, lw=0, label="90 % interval")
    ax.legend(handles=[*handles, band], fontsize="small")


def _axes(ax: "Axes | None") -> "Axes":
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(6.4, 4.4), layout="constrained").subplots()


def _log_edges(centers: pd.Index) -> npt.NDArray[np.float64]:
    """Edges of cells around ascending centers, half-way on a log axis; a lone one spans two."""
    logs = np.log(np.asarray(centers, dtype=np.float64))
    steps = np.diff(logs) if len(logs) > 1 else np.full(1, np.log(2.0))
    inner = logs[1:] - np.diff(logs) / 2
    edges = np.concatenate([logs[:1] - steps[0] / 2, inner, logs[-1:] + steps[-1] / 2])
    return np.asarray(np.exp(edges))
