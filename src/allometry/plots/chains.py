"""How the chains ran: rank and trace plots of ArviZ, on its own figures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from allometry.errors import InputError
from allometry.inference import Posterior

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_chains(
    posterior: Posterior,
    kind: Literal["rank", "trace"] = "rank",
    *,
    names: Sequence[str] | None = None,
    group: int = 0,
) -> "Figure":
    """Rank (with simultaneous bands) or trace plots of one group's coefficients.

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
    rows = -(-len(wanted) // 4)
    figure.set_layout_engine("constrained")  # the titles of one row lie on the ticks of another
    figure.set_size_inches(3.0 * min(len(wanted), 4), 2.6 * rows)
    figure.suptitle(f"{posterior.idata['posterior']['group'].to_numpy()[group]}, by chain")
    return figure
