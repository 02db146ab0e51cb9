"""How long the mLSTM kernels take: one panel, one line a pass and shape."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import pandas as pd

from allometry.plots.style import MARKERS, OKABE_ITO

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_kernel_timings(table: pd.DataFrame, *, ax: "Axes | None" = None) -> "Axes":
    """Milliseconds of every backend, by pass and shape, on a log axis.

    Parameters
    ----------
    table : DataFrame
        Of ``allometry kernels bench``: backend, pass, batch, heads, time, d_qk, d_v, chunk,
        seconds. Rows without seconds are left out.
    ax : Axes, optional
        Drawn on; default a new figure.

    Returns
    -------
    Axes
    """
    import matplotlib.pyplot as plt

    known = table.dropna(subset=["seconds"])
    labels = [_label(row) for row in known.to_dict("records")]
    order = list(dict.fromkeys(labels))
    if ax is None:
        _, ax = plt.subplots(figsize=(7.5, 0.45 * len(order) + 1.4), layout="constrained")
    backends = list(dict.fromkeys(known["backend"]))
    for at, backend in enumerate(backends):
        mine = (known["backend"] == backend).to_numpy()
        y = [order.index(label) for label, here in zip(labels, mine, strict=True) if here]
        ax.plot(
            known["seconds"][mine] * 1e3,
            y,
            linestyle="none",
            marker=MARKERS[at % len(MARKERS)],
            color=OKABE_ITO[at % len(OKABE_ITO)],
            label=backend,
        )
    ax.set_xscale("log")
    ax.set_yticks(range(len(order)), order)
    ax.set_ylim(len(order) - 0.5, -0.5)
    ax.grid(axis="y", linewidth=0.5, alpha=0.5)
    ax.set_xlabel("time of a call (ms)")
    ax.legend(loc="best", frameon=False)
    return ax


def _label(row: dict[Hashable, Any]) -> str:
    time = "" if row["pass"] == "step" else f" T{row['time']}"
    chunk = row["chunk"]
    cut = "" if chunk is None or pd.isna(chunk) else f" chunk {int(float(str(chunk)))}"
    shape = f"B{row['batch']} H{row['heads']}{time} {row['d_qk']}/{row['d_v']}{cut}"
    return f"{str(row['pass']).replace('_', ' + ')}, {shape}"
