"""Priors as pictures: a mixture over the draws it was made from, and a forest of groups."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from allometry.errors import InputError
from allometry.plots.style import (
    BANDS,
    GREY,
    OKABE_ITO,
    group_label,
    legend_key,
    new_axes,
    require_columns,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

COLUMNS = 4
ENDS = tuple(f"value_{end}" for end in ("median", "q5", "q25", "q75", "q95"))
WIDTHS = (1.6, 5.0)
"""Line widths of the 90 and the 50 % interval."""

MOST_PANELS = 24
QUANTITY_LABELS = {
    "log_loss": "log loss over the reference loss",
    "log_slope_params": "log slope in params",
    "log_slope_tokens": "log slope in tokens",
    "logit_reducible": "logit reducible share",
    "logit_params_share": "logit params term's share",
    "log_gamma": "log gamma",
    "log_noise": "log noise",
    "log_off_valley": "log off-valley noise",
    "loss": "loss at the reference run",
    "slope_params": "-dlog(loss) / dlog(params)",
    "slope_tokens": "-dlog(loss) / dlog(tokens)",
    "reducible_share": "reducible share of the loss",
    "params_share": "params term's share of it",
    "gamma": "gamma",
    "noise": "relative noise of a run",
    "off_valley": "off-valley noise",
}


def plot_overlay(table: pd.DataFrame) -> "Figure":
    """Marginals of a prior file over those of the draws that it was made from.

    Parameters
    ----------
    table : DataFrame
        ``quantity, group, value, draws, mixture``, as `allometry.priors.overlay_table` gives; the
        first 24 marginals are drawn, and it is said how many there are.
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    require_columns(table, ["quantity", "group", "value", "draws", "mixture"], plot="overlay")
    every = list(table.groupby(["quantity", "group"], sort=False))
    parts = every[:MOST_PANELS]
    rows = -(-len(parts) // COLUMNS)
    figure, axes = plt.subplots(
        rows,
        min(COLUMNS, len(parts)),
        figsize=(3.0 * min(COLUMNS, len(parts)), 2.3 * rows),
        layout="constrained",
        squeeze=False,
    )
    for ax in axes.flat[len(parts) :]:
        ax.set_visible(False)
    for ax, ((quantity, group), part) in zip(axes.flat, parts, strict=False):
        value = part["value"].to_numpy(dtype=float)
        ax.fill_between(value, part["draws"], step="mid", color=GREY, alpha=0.35, linewidth=0)
        ax.plot(value, part["mixture"], color=OKABE_ITO[0], linewidth=1.6)
        label = QUANTITY_LABELS.get(str(quantity), str(quantity))
        ax.set_xlabel(f"{label}\n{group}" if group else label, fontsize="small")
        ax.set_yticks([])
        ax.xaxis.set_major_locator(MaxNLocator(nbins=4))  # of numbers as long as -2.975
        ax.tick_params(labelsize="small")
        ax.spines[["top", "right", "left"]].set_visible(False)
    handles = [
        legend_key(color=GREY, alpha=0.35, linewidth=8, label="draws of the posterior"),
        legend_key(color=OKABE_ITO[0], linewidth=1.6, label="prior file"),
    ]
    if len(every) > len(parts):
        few = f"{len(parts)} of {len(every)} quantities"
        handles.append(legend_key(ls="none", label=few))
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
    return figure


def plot_forests(table: pd.DataFrame) -> "Figure":
    """Intervals of every quantity by group, and of groups that were never run, panel by panel.

    Parameters
    ----------
    table : DataFrame
        As `allometry.priors.forest_table` gives.
    """
    import matplotlib.pyplot as plt

    require_columns(table, ["quantity", "group", "kind", *ENDS], plot="forest")
    names = list(dict.fromkeys(table["quantity"]))
    rows = -(-len(names) // COLUMNS)
    across = min(COLUMNS, len(names))
    labels = list(dict.fromkeys(table["group"]))
    figure, axes = plt.subplots(
        rows,
        across,
        figsize=(2.6 * across + 1.4, rows * (1.1 + 0.26 * len(labels))),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    places = {label: len(labels) - 1 - i for i, label in enumerate(labels)}
    for ax, name in zip(axes.flat, names, strict=False):
        part = table[table["quantity"] == name]
        _draw_rows(ax, part, [places[label] for label in part["group"]])
        ax.set_yticks(list(places.values()), [_row_label(label) for label in labels])
        ax.set_ylim(-0.7, len(labels) - 0.3)
        ax.set_xlabel(QUANTITY_LABELS.get(name, name), fontsize="small")
        ax.tick_params(labelsize="small")
        ax.locator_params(axis="x", nbins=4)
    kinds = set(table["kind"])
    figure.legend(
        handles=_forest_keys(kinds), loc="outside upper center", ncols=4, frameon=False,
        fontsize="small",
    )  # fmt: skip
    return figure


def plot_forest(table: pd.DataFrame, *, quantity: str, ax: "Axes | None" = None) -> "Axes":
    """Intervals of one quantity by group, and of a group that was never run.

    Parameters
    ----------
    table : DataFrame
        ``quantity, group, kind`` and ``value_*``, as `allometry.priors.forest_table` gives.
    quantity : str
        Which one, such as ``slope_params``.
    ax : Axes, optional
    """
    require_columns(table, ["quantity", "group", "kind", *ENDS], plot="forest")
    rows = table[table["quantity"] == quantity]
    if rows.empty:
        known = ", ".join(dict.fromkeys(map(str, table["quantity"])))
        raise InputError(f"no quantity {quantity!r}; there are {known}", where="forest")
    axes = new_axes(ax, width=5.6, height=1.4 + 0.34 * len(rows))
    places = list(range(len(rows)))[::-1]
    _draw_rows(axes, rows, places)
    axes.set_yticks(places, [_row_label(g) for g in rows["group"]])
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.set_xlabel(QUANTITY_LABELS.get(quantity, quantity))
    axes.legend(handles=_forest_keys(set(rows["kind"])), fontsize="small", frameon=False,
                loc="upper left", bbox_to_anchor=(1.0, 1.0))  # fmt: skip
    return axes


def _draw_rows(axes: "Axes", rows: pd.DataFrame, places: Sequence[int]) -> None:
    for place, (_, row) in zip(places, rows.iterrows(), strict=True):
        new = row["kind"] == "predictive"
        color = OKABE_ITO[1] if new else OKABE_ITO[0]
        for width, (low, high) in zip(WIDTHS, (("q5", "q95"), ("q25", "q75")), strict=True):
            axes.plot(
                [row[f"value_{low}"], row[f"value_{high}"]],
                [place, place],
                color=color,
                linewidth=width,
                solid_capstyle="butt",
                alpha=1.0 if low == "q5" else 0.6,
            )
        axes.plot(row["value_median"], place, marker="D" if new else "o", color=color, zorder=3)
    axes.grid(True, axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _row_label(group: object) -> str:
    return group_label(["group"], [str(group).replace("/", ", ")])


def _forest_keys(kinds: set[str]) -> "list[Line2D]":
    keys = [
        legend_key(color=GREY, linewidth=width, label=f"{level} interval")
        for level, width in zip(BANDS, WIDTHS, strict=True)
    ]
    if "group" in kinds:
        keys.append(legend_key(color=OKABE_ITO[0], marker="o", label="a group that was run"))
    if "predictive" in kinds:
        keys.append(legend_key(color=OKABE_ITO[1], marker="D", label="one that was never run"))
    return keys
