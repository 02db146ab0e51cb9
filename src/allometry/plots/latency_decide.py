"""Latency decisions drawn: runtimes, frontiers, crossovers, and what a model's life costs."""

from typing import TYPE_CHECKING

import pandas as pd

from allometry.plots.latency import plot_frontier, plot_runtime
from allometry.plots.style import BANDS, MARKERS, OKABE_ITO, apart, bare, ticks_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {
    "batch_size": "batch (sequences)",
    "context_length": "context (tokens)",
    "served_tokens": "tokens served",
    "params": "params of the cheapest model",
    "device_hours": "device-hours, training and serving",
    "tokens_per_param": "training tokens per param",
}


def draw_runtime(table: pd.DataFrame, timed: pd.DataFrame) -> "Figure":
    """Seconds against prompt or context: `plot_runtime` of rows of `predict_latency`."""
    return plot_runtime(table, timed).figure  # type: ignore[return-value]  # of a new Figure


def draw_frontier(table: pd.DataFrame) -> "Figure":
    """Loss against latency: `plot_frontier` of rows of `serving_frontier`."""
    return plot_frontier(table).figure  # type: ignore[return-value]  # of a new Figure


def draw_crossover(table: pd.DataFrame) -> "Figure":
    """Crossover context against batch, or crossover batch against context.

    A row without a crossover in some draw has no point: its interval would be of the others alone.

    Parameters
    ----------
    table : DataFrame
        Rows of `crossover_context` or `break_even_context`, or of `crossover_batch`.
    """
    from matplotlib.figure import Figure

    ax: Axes = Figure(figsize=(6.4, 4.4), layout="constrained").subplots()
    y = "context_length" if "context_length_median" in table else "batch_size"
    x = "batch_size" if y == "context_length" else "context_length"
    crosses = next(name for name in table if str(name).startswith("probability_"))
    names = ["architecture"] if "architecture" in table else ["a", "b"]
    for i, (key, rows) in enumerate(table.groupby([*names, "params"], sort=False)):
        *who, size = key
        shown = rows[rows[crosses] > 0.95].sort_values(x)
        some = len(shown) < len(rows)
        label = f"{' against '.join(map(str, who))} {size:.3g}"
        label += f", P < 0.95 at {len(rows) - len(shown)} of {len(rows)}" if some else ""
        _line(ax, shown, x, y, i, label)
    ax.set(xscale="log", yscale="log", xlabel=LABELS[x], ylabel=f"crossover {LABELS[y]}")
    ax.legend(fontsize="small")
    bare(ax)
    return ax.figure  # type: ignore[return-value]  # of a new Figure


def draw_lifetime_cost(table: pd.DataFrame) -> "Figure":
    """Params, tokens a param and device-hours against the tokens that are served.

    Parameters
    ----------
    table : DataFrame
        Rows of `lifetime_cost`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 4.2), layout="constrained")
    panels = ("params", "tokens_per_param", "device_hours")
    demands = table.loc[table["served_tokens"] > 0, "served_tokens"]
    single = table["served_tokens"].nunique() == 1 and len(demands) > 0
    names = table["architecture"].nunique()
    for ax, y in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for i, (name, rows) in enumerate(table.groupby("architecture", sort=False)):
            rows = rows.sort_values("served_tokens")
            if single:  # beside each other, not upon each other
                aside = apart(demands, i, names)
                rows = rows.assign(served_tokens=rows["served_tokens"] * aside)
            _line(ax, rows, "served_tokens", y, i, str(name))
        if single:
            ax.set_xscale("log")
            ax.set_xlim(demands.iloc[0] / 2, demands.iloc[0] * 2)
        elif len(demands):
            ax.set_xscale("symlog", linthresh=float(demands.min()))  # nothing served: at the left
        ax.set(yscale="log", xlabel=LABELS["served_tokens"], ylabel=LABELS[y])
    figure.axes[0].legend(fontsize="small")
    for ax in figure.axes:
        bare(ax)
        if single:
            ticks_at(ax, [float(demands.iloc[0])])
    first = table.iloc[0]
    figure.suptitle(
        f"loss {first['target_loss']:g}, context {first['context_length']:g}, "
        f"batch {first['batch_size']:g}",
        fontsize="medium",
    )
    return figure


def _line(ax: "Axes", rows: pd.DataFrame, x: str, y: str, i: int, label: str) -> None:
    color, marker = OKABE_ITO[i % len(OKABE_ITO)], MARKERS[i % len(MARKERS)]
    for level, (opacity, low, high) in BANDS.items():
        ends = rows[f"{y}_{low}"], rows[f"{y}_{high}"]
        name = level if i == 0 else None
        ax.fill_between(rows[x], *ends, color=color, alpha=opacity, lw=0, label=name)
        if len(rows) == 1:  # a band of one point has no width
            ax.vlines(rows[x], *ends, color=color, alpha=2 * opacity, lw=6)
    ax.plot(rows[x], rows[f"{y}_median"], color=color, marker=marker, label=label)
