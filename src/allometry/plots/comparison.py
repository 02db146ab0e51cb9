"""One architecture against another, over budgets and contexts."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.plots.style import finish, new_axes, require_columns

Floats = npt.NDArray[np.float64]

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Rectangle


def plot_probability_map(table: pd.DataFrame, *, ax: "Axes | None" = None) -> "Axes":
    """Probability that a beats b over the plane of budgets and context lengths.

    Parameters
    ----------
    table : DataFrame
        ``a``, ``b``, ``flops``, ``probability_a_better``, ``context_length`` if there are several,
        as `compare` gives it; with ``extrapolation_factor``, cells beyond the data are hatched.
    ax : Axes, optional

    Returns
    -------
    Axes
        Budgets on a log axis; one row a context length. Purple favours a, orange b, white none.
    """
    require_columns(table, ["a", "b", "flops", "probability_a_better"], plot="plot_probability_map")
    from matplotlib.patches import Patch

    rows = "context_length" if "context_length" in table else "a"
    grid = table.pivot(index=rows, columns="flops", values="probability_a_better")
    a, b = table["a"].iloc[0], table["b"].iloc[0]
    ax = new_axes(ax, width=7.2, height=1.6 + 0.6 * len(grid))
    edges = _edges(grid.columns.to_numpy(dtype=float))
    lines = np.arange(len(grid) + 1) - 0.5
    mesh = ax.pcolormesh(
        edges, lines, grid.to_numpy(), cmap="PuOr", vmin=0, vmax=1, rasterized=True
    )
    finish(ax, x="flops", y="context length (tokens)" if rows == "context_length" else "")
    ax.grid(False)
    ax.set_yticks(range(len(grid)), [f"{value}" for value in grid.index])
    _write_values(ax, grid)
    if "extrapolation_factor" in table:
        factor = table.pivot(index=rows, columns="flops", values="extrapolation_factor").to_numpy()
        for i, row in enumerate(factor):
            beyond = np.flatnonzero(row > 1 + 1e-9)
            if len(beyond):
                corner, width = edges[beyond[0]], edges[-1] - edges[beyond[0]]
                ax.add_patch(_hatched(corner, i - 0.5, width))
        if (factor > 1 + 1e-9).any():
            mark = Patch(facecolor="none", edgecolor="#555555", hatch="///", linewidth=0)
            mark.set_label("beyond the smaller of both largest runs")
            ax.legend(
                handles=[mark],
                fontsize="small",
                frameon=False,
                loc="lower right",
                bbox_to_anchor=(1.0, 1.0),
                borderaxespad=0.1,
            )
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.02)
    bar.set_label(f"P({a} better than {b})", fontsize="small")
    return ax


def _edges(centres: Floats) -> Floats:
    """Borders of cells around centres on a log scale."""
    logs = np.log(centres)
    if len(logs) == 1:
        return np.exp([logs[0] - 0.5, logs[0] + 0.5])
    middle = (logs[1:] + logs[:-1]) / 2
    return np.exp([2 * logs[0] - middle[0], *middle, 2 * logs[-1] - middle[-1]])


def _write_values(ax: "Axes", grid: pd.DataFrame) -> None:
    """The number in about eight cells of each row."""
    step = max(len(grid.columns) // 8, 1)
    budgets = grid.columns.to_numpy(dtype=float)
    for i, row in enumerate(grid.to_numpy()):
        for flops, value in list(zip(budgets, row, strict=True))[step // 2 :: step]:
            dark = abs(value - 0.5) > 0.32
            color = "white" if dark else "black"
            text = f"{value:.2f}".lstrip("0")
            text = ">.99" if value > 0.99 else "<.01" if value < 0.01 else text
            ax.text(flops, i, text, ha="center", va="center", fontsize=8, color=color)


def _hatched(x: float, y: float, width: float) -> "Rectangle":
    from matplotlib.patches import Rectangle

    style: dict[str, Any] = {
        "facecolor": "none",
        "edgecolor": "#555555",
        "hatch": "///",
        "linewidth": 0,
    }
    return Rectangle((x, y), width, 1.0, alpha=0.5, **style)
