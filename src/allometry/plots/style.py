"""How plots look: colours and markers of groups, bands, axes. No global style is touched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.errors import InputError
from allometry.observations.units import power_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.lines import Line2D
    from matplotlib.ticker import Formatter

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Seven colours that colour-blind readers tell apart (Okabe and Ito 2008, without the yellow)."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
"""Nine markers: with seven colours, 63 groups before a pair repeats."""

GREY = "#666666"
BANDS = {"90 %": (0.18, "q5", "q95"), "50 %": (0.38, "q25", "q75")}
"""Opacity and interval ends of each band, the wider one first."""

APART = 0.08
"""Distance on a log axis, in e-folds, of groups whose points would lie upon each other."""

FEW_DECADES = 3e3
"""Range of a log axis below which ticks are 1, 2 and 5 times powers of ten."""

AXIS_LABELS = {
    "flops": "training compute (FLOPs)",
    "params": "params",
    "tokens": "training tokens",
    "tokens_per_param": "tokens per param",
    "loss": "loss",
    "run_loss": "loss",
    "params_exponent": "exponent of N* in compute",
    "tokens_exponent": "exponent of D* in compute",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupStyle:
    """Colour, marker and name of one group."""

    color: str
    marker: str
    label: str


def group_columns(table: pd.DataFrame, by: Sequence[str] | None) -> list[str]:
    """Group columns of a table: those named, else architecture and context_length, else group."""
    if by is not None:
        return [name for name in by if name in table]
    known = [name for name in ("architecture", "context_length") if name in table]
    return known or [name for name in ("group",) if name in table]


def group_label(columns: Sequence[str], values: Sequence[Any]) -> str:
    """What the legend says: ``xlstm, context 8192``."""
    words = {"context_length": "context "}
    pairs = zip(columns, values, strict=True)
    return ", ".join(f"{words.get(name, '')}{value}" for name, value in pairs) or "all runs"


def split_groups(
    table: pd.DataFrame, by: Sequence[str] | None = None
) -> list[tuple[GroupStyle, pd.DataFrame]]:
    """The rows of each group with the group's style, in the order of their appearance."""
    columns = group_columns(table, by)
    if not columns:
        parts: list[tuple[tuple[Any, ...], pd.DataFrame]] = [((), table)]
    else:
        parts = [
            (key if isinstance(key, tuple) else (key,), part)
            for key, part in table.groupby(columns, sort=False)
        ]
    return [
        (
            GroupStyle(
                color=OKABE_ITO[i % len(OKABE_ITO)],
                marker=MARKERS[i % len(MARKERS)],
                label=group_label(columns, key),
            ),
            part,
        )
        for i, (key, part) in enumerate(parts)
    ]


def require_columns(table: pd.DataFrame, names: Sequence[str], *, plot: str) -> None:
    """Raise unless the table has the columns that a plot draws."""
    if missing := [name for name in names if name not in table]:
        found = ", ".join(map(str, table.columns))
        what = f"no column {', '.join(missing)}; found {found}"
        raise InputError(what, where=plot, hint="Pass the table that its docstring names.")
    if table.empty:
        raise InputError("the table has no rows", where=plot)


def new_axes(ax: "Axes | None", *, width: float = 6.4, height: float = 4.4) -> "Axes":
    """The caller's axes, or those of a new figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def draw_band(
    ax: "Axes", x: pd.Series, table: pd.DataFrame, quantity: str, *, color: str, faint: bool = False
) -> None:
    """Bands of 90 and 50 % of ``quantity_q5 ... quantity_q95``; `faint` beyond the data."""
    for level, (alpha, low, high) in BANDS.items():
        ax.fill_between(
            x.to_numpy(dtype=float),
            table[f"{quantity}_{low}"].to_numpy(dtype=float),
            table[f"{quantity}_{high}"].to_numpy(dtype=float),
            color=color,
            alpha=alpha * (0.5 if faint else 1.0),
            linewidth=0,
            label=f"_{level}",
        )


def draw_ranges(
    ax: "Axes", x: npt.ArrayLike, table: pd.DataFrame, quantity: str, *, color: str
) -> None:
    """Intervals of single points: thin lines of 90 %, thick ones of 50 %."""
    for width, low, high in ((1.2, "q5", "q95"), (4.0, "q25", "q75")):
        ax.vlines(x, table[f"{quantity}_{low}"], table[f"{quantity}_{high}"], color=color, lw=width)


def apart(x: pd.Series, group: int, groups: int) -> float:
    """Factor by which a group's points move aside on a log axis, so that groups do not overlap."""
    logs = np.log(np.unique(x.to_numpy(dtype=float)))
    room = np.diff(logs).min() / (2 * groups) if len(logs) > 1 else np.inf
    return float(np.exp(min(room, APART) * (group - (groups - 1) / 2)))


def ticks_at(
    ax: "Axes", places: Sequence[float], *, names: Mapping[float, str] | None = None
) -> None:
    """Ticks on the x axis at what was asked, and nowhere else."""
    from matplotlib.ticker import NullLocator

    ax.set_xticks(list(places), [(names or {}).get(p) or flops_text(p) for p in places])
    ax.xaxis.set_minor_locator(NullLocator())


def few_log_ticks(ax: "Axes") -> None:
    """Numbers such as 2e9 on a log x axis of less than two decades, which has few powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = ax.get_xlim()
    if high > 100 * low:
        return
    subs = (1.0, 2.0, 5.0) if high > 6 * low else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
    ax.xaxis.set_major_locator(LogLocator(subs=subs))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: flops_text(value)))
    ax.xaxis.set_minor_formatter(NullFormatter())


def draw_line(
    ax: "Axes", table: pd.DataFrame, quantity: str, style: GroupStyle, *, x: str = "flops"
) -> None:
    """Median and bands against x; solid inside the data, dashed and fainter beyond.

    ``extrapolation_factor`` says where: one is the largest run of the group.
    """
    rows = table.sort_values(x)
    factor = rows["extrapolation_factor"].to_numpy(dtype=float)
    inside = int(np.searchsorted(factor, 1.0 + 1e-9, side="right"))
    for part, beyond in ((rows.iloc[:inside], False), (rows.iloc[max(inside - 1, 0) :], True)):
        if len(part) < 2:
            continue
        draw_band(ax, part[x], part, quantity, color=style.color, faint=beyond)
        ax.plot(
            part[x],
            part[f"{quantity}_median"],
            color=style.color,
            linestyle=(0, (4, 2)) if beyond else "solid",
            linewidth=1.6,
            marker=style.marker,
            markersize=4.5,
            markevery=max(len(part) // 4, 1),
            label=f"_{style.label}",
        )


def legend_key(**look: Any) -> "Line2D":
    """An entry of a legend: a line or marker that is drawn nowhere else."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **look)


def range_keys() -> "list[Line2D]":
    """Entries of a legend for what `draw_ranges` draws."""
    return [
        legend_key(color=GREY, linewidth=4, label="50 % interval"),
        legend_key(color=GREY, linewidth=1.2, label="90 % interval"),
    ]


def legend(
    ax: "Axes",
    styles: Sequence[GroupStyle] = (),
    *,
    bands: bool = True,
    beyond: bool = False,
    more: Sequence[Any] = (),
    **where: Any,
) -> None:
    """One legend: groups, what the bands are, and how extrapolation is drawn."""
    from matplotlib.patches import Patch

    handles: list[Any] = [
        legend_key(color=s.color, marker=s.marker, markersize=4.5, label=s.label) for s in styles
    ]
    if bands:
        handles += [
            Patch(color=GREY, alpha=a, linewidth=0, label=f"{level} interval")
            for level, (a, _, _) in reversed(BANDS.items())
        ]
    if beyond:
        handles.append(
            legend_key(color=GREY, linestyle=(0, (4, 2)), label="beyond the largest run")
        )
    options: dict[str, Any] = {"fontsize": "small", "frameon": False} | where
    ax.legend(handles=[*handles, *more], **options)


def finish(ax: "Axes", *, x: str, y: str, log_x: bool = True, log_y: bool = False) -> None:
    """Scales, labels, a light grid, and no box."""
    if log_x:
        ax.set_xscale("log")
    if log_y:
        ax.set_yscale("log")
    if log_y:
        ax.yaxis.set_minor_formatter(_between_powers())
        ax.yaxis.set_tick_params(which="minor", labelsize="small")
    ax.set_xlabel(AXIS_LABELS.get(x, x))
    ax.set_ylabel(AXIS_LABELS.get(y, y))
    ax.grid(True, which="major", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _between_powers() -> "Formatter":
    """Some ticks between powers of ten as well, such as 2e9, where there are less than two."""
    from matplotlib.ticker import LogFormatterSciNotation

    class Between(LogFormatterSciNotation):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return flops_text(x) if super().__call__(x, pos) else ""

    return Between(minor_thresholds=(1.7, 0.6))


def plain_log_ticks(ax: "Axes", *, axis: str = "y") -> None:
    """Numbers such as 2.5 and 3.0 on a log axis of less than a decade, not powers of ten."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    which = ax.yaxis if axis == "y" else ax.xaxis
    which.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    which.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    which.set_minor_formatter(NullFormatter())


def bare(ax: "Axes") -> None:
    """A light grid, no box, no frame around the legend, and plain numbers on log axes."""
    ax.grid(True, which="major", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    if (key := ax.get_legend()) is not None:
        key.set_frame_on(False)
    for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        if axis.get_scale() == "log" and high / low < FEW_DECADES:
            _plain_decades(axis)


def _plain_decades(axis: "Axis") -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def flops_text(flops: float) -> str:
    """A budget as people write it: 6e18."""
    return power_text(flops, ".2g")


def loss_label(unit: str) -> str:
    """Axis label of a loss in the unit that the posterior knows."""
    return f"loss ({unit})" if unit else "loss"
