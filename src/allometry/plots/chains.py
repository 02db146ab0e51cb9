"""How the chains ran: rank and trace plots of ArviZ, on its own figures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from allometry.errors import InputError
from allometry.inference import Posterior
from allometry.plots.style import GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RANK_LEVEL = 0.9
"""Probability, at least, with which chains that agree all lie within the band of rank plots."""


def plot_chains(
    posterior: Posterior,
    kind: Literal["rank", "trace"] = "rank",
    *,
    names: Sequence[str] | None = None,
    group: int = 0,
) -> "Figure":
    """Rank (with a simultaneous band) or trace plots of one group's coefficients.

    Parameters
    ----------
    posterior : Posterior
    kind : {"rank", "trace"}
        Which plot of ArviZ.
    names : sequence of str, optional
        Variables; by default the law's published coefficients.
    group : int
        Index of the group.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        If a variable is not in the posterior, or its draws are not chains.
    """
    import arviz_plots

    dataset = posterior.idata["posterior"].to_dataset()
    if posterior.record.method == "laplace":
        what = "this posterior has independent draws and no chains"
        hint = "Its diagnostic is pareto_k; fit with method nuts to see chains."
        raise InputError(what, where=posterior.where, hint=hint)
    known = [n for n in ("E", "A", "B", "alpha", "beta", "gamma") if n in dataset]
    wanted = list(names or known or [str(n) for n in dataset.data_vars if n != "theta"])
    if missing := [name for name in wanted if name not in dataset]:
        what = f"no variable {', '.join(missing)}"
        raise InputError(what, where=posterior.where, hint=f"It has {', '.join(known)}.")
    part = dataset[wanted].isel(group=group, missing_dims="ignore")
    draw: Any = {"rank": arviz_plots.plot_rank, "trace": arviz_plots.plot_trace}[kind]
    collection = draw({"posterior": part}, backend="matplotlib")
    figure: Figure = collection.viz["figure"].item()
    for ax in figure.axes:
        ax.set_title(ax.get_title().split("\n")[0], fontsize="medium")  # not "E posterior"
        if kind == "rank" and ax.lines:
            _draw_rank_band(ax, chains=part.sizes["chain"], draws=part.sizes["draw"])
    rows = -(-len(wanted) // 4)
    figure.set_layout_engine("constrained")  # the titles of one row lie on the ticks of another
    figure.set_size_inches(3.0 * min(len(wanted), 4), 2.6 * rows)
    band = f"; {RANK_LEVEL:.0%} band of chains that agree" if kind == "rank" else ""
    figure.suptitle(f"{posterior.idata['posterior']['group'].to_numpy()[group]}, by chain{band}")
    return figure


def rank_band(chains: int, draws: int) -> float:
    """How far ranks of a chain may lie from uniform: half the width of the simultaneous band.

    By Dvoretzky, Kiefer and Wolfowitz a uniform sample of n is further than e away with probability
    of at most 2 exp(-2 n e^2) (Massart 1990, Ann. Probab. 18, 1269), which is shared out among
    chains. Ranks within all chains scatter less than that, draws that hang together more.
    """
    return float(np.sqrt(np.log(2.0 * chains / (1.0 - RANK_LEVEL)) / (2.0 * draws)))


def _draw_rank_band(ax: "Axes", *, chains: int, draws: int) -> None:
    # In place of ArviZ's: arviz-stats 0.8 simulates one as high as the axis for two chains, and for
    # four at its default level.
    for band in list(ax.collections):
        band.remove()
    half = rank_band(chains, draws)
    ax.axhspan(-half, half, color=GREY, alpha=0.2, linewidth=0, zorder=0)
    reach = max(float(np.abs(line.get_ydata()).max()) for line in ax.lines)
    ax.set_ylim(*(np.array([-1.4, 1.4]) * max(half, reach)))
