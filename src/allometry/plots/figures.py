"""Whole figures by the name of their kind: what ``allometry plot`` writes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from allometry.criticism import residuals
from allometry.decisions import allocate, growth_law, predict
from allometry.errors import InputError
from allometry.inference import Posterior
from allometry.plots import tables
from allometry.plots.chains import plot_chains
from allometry.plots.checks import (
    plot_pit,
    plot_ppc_density,
    plot_prior_predictive,
    plot_residuals,
)
from allometry.plots.comparison import plot_probability_map
from allometry.plots.extrapolation import plot_fan, plot_held_out
from allometry.plots.growth import plot_allocations, plot_exponents, plot_growth
from allometry.plots.style import group_label
from allometry.plots.valleys import plot_surface, plot_valleys

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a figure may be asked for; each kind uses what it needs.

    Attributes
    ----------
    architecture : str or None
        Only this one.
    context_length : int or None
        Only this one.
    flops : tuple of float
        Training budgets in FLOPs; empty for the kind's default.
    pair : tuple of two str, or None
        The architectures to compare; by default the last against the first.
    held_out : DataFrame or None
        Runs, with group columns, params, tokens and loss, of which those that the fit has not
        seen are drawn.
    force : bool
        Draw although the fit did not converge.
    """

    architecture: str | None = None
    context_length: int | None = None
    flops: tuple[float, ...] = ()
    pair: tuple[str, str] | None = None
    held_out: pd.DataFrame | None = field(default=None, repr=False)
    force: bool = False


Draw = Callable[[Posterior, Request], "Figure"]


def draw_figure(posterior: Posterior, kind: str, request: Request | None = None) -> "Figure":
    """Draw one kind of figure of a posterior, outside of pyplot.

    Raises
    ------
    InputError
        If there is no such kind, or the posterior has not what it needs.
    NotConvergedError
        If the fit did not converge and `Request.force` is not set.
    """
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise InputError(f"no kind of plot is called {kind!r}", hint=f"Kinds: {known}.")
    return KINDS[kind][1](posterior, request or Request())


def _panels(
    count: int, *, width: float = 4.6, height: float = 3.6, columns: int = 3
) -> "tuple[Figure, list]":  # type: ignore[type-arg]
    from matplotlib.figure import Figure

    columns = 2 if count == 4 else min(count, columns)
    rows = -(-count // columns)
    size = (max(width * columns, 6.0), max(height * rows, 3.0))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for spare in axes[count:]:
        spare.set_visible(False)
    return figure, axes[:count]


def _groups(posterior: Posterior, ask: Request) -> list[int]:
    return posterior.select(architecture=ask.architecture, context_length=ask.context_length)


def _of(table: pd.DataFrame, posterior: Posterior, group: int) -> pd.DataFrame:
    return table.merge(posterior.groups.iloc[[group]])


def _name(posterior: Posterior, group: int) -> str:
    groups = posterior.groups
    return group_label(list(groups.columns), list(groups.iloc[group]))


def _options(ask: Request) -> dict:  # type: ignore[type-arg]
    return {
        "architecture": ask.architecture,
        "context_length": ask.context_length,
        "force": ask.force,
    }


def _valleys(posterior: Posterior, ask: Request) -> "Figure":
    table = tables.valley_table(posterior, force=ask.force)
    runs = tables.fitted_table(posterior)
    groups = [g for g in _groups(posterior, ask) if len(_of(table, posterior, g))]
    figure, axes = _panels(len(groups))
    for ax, group in zip(axes, groups, strict=True):
        plot_valleys(
            _of(table, posterior, group),
            runs=_of(runs, posterior, group),
            loss_unit=posterior.record.loss_unit,
            ax=ax,
        )
        ax.set_title(_name(posterior, group), fontsize="medium")
        if ax is not axes[-1]:
            ax.get_legend().remove()
    return figure


def _surface(posterior: Posterior, ask: Request) -> "Figure":
    groups = _groups(posterior, ask)
    runs = tables.fitted_table(posterior)
    figure, axes = _panels(len(groups), width=5.4, height=4.2)
    budgets = np.geomspace(runs["flops"].min() / 30, runs["flops"].max() * 30, 10)
    frontiers = allocate(posterior, budgets, **_options(ask))
    for ax, group in zip(axes, groups, strict=True):
        own, frontier = (_of(table, posterior, group) for table in (runs, frontiers))
        plot_surface(
            tables.surface_table(posterior, group=group, force=ask.force),
            runs=own,
            frontier=frontier,
            loss_unit=posterior.record.loss_unit,
            ax=ax,
        )
        ax.set_title(_name(posterior, group), fontsize="medium")
    return figure


def _by(posterior: Posterior) -> list[str]:
    return [str(name) for name in posterior.groups.columns]


def _growth(posterior: Posterior, ask: Request) -> "Figure":
    options = {"flops": ask.flops or None, "beyond": 10.0, **_options(ask)}
    table = tables.frontier_table(posterior, **options)
    best = tables.best_runs(posterior)
    parts = _levels(table, posterior)
    figure, axes = _panels(2 * len(parts), width=5.4, height=4.2, columns=2)
    for i, part in enumerate(parts):
        for ax, quantity in zip(axes[2 * i : 2 * i + 2], ("params", "tokens"), strict=True):
            plot_growth(part, minima=best, quantity=quantity, by=_by(posterior), ax=ax)
    return figure


def _levels(table: pd.DataFrame, posterior: Posterior) -> list[pd.DataFrame]:
    """The table as it is, or by level of the first group column where lines would be too many."""
    names = _by(posterior)
    if len(table[names].drop_duplicates()) <= 3:
        return [table]
    return [part for _, part in table.groupby(names[0], sort=False)]


def _allocations(posterior: Posterior, ask: Request) -> "Figure":
    largest = posterior.largest_flops().max()
    budgets = ask.flops or tuple(10.0 ** (np.round(np.log10(largest)) + np.arange(4)))
    table = allocate(posterior, budgets, **_options(ask))
    figure, axes = _panels(4, width=5.2, height=3.8, columns=2)
    quantities = ("params", "tokens", "tokens_per_param", "run_loss")
    for i, (ax, quantity) in enumerate(zip(axes, quantities, strict=True)):
        plot_allocations(table, quantity=quantity, by=_by(posterior), ax=ax)
        if i:
            ax.get_legend().remove()
    axes[-1].set_ylabel(f"loss of a compute-optimal run ({posterior.record.loss_unit})")
    return figure


def _exponents(posterior: Posterior, ask: Request) -> "Figure":
    table = growth_law(posterior, **_options(ask))
    figure, axes = _panels(2, width=5.2, height=1.4 + 0.4 * len(table))
    for ax, quantity in zip(axes, ("params_exponent", "tokens_exponent"), strict=True):
        plot_exponents(table, quantity=quantity, by=_by(posterior), ax=ax)
    axes[1].set_yticklabels([])
    axes[1].get_legend().remove()
    return figure


def _fan(posterior: Posterior, ask: Request) -> "Figure":
    table = tables.frontier_table(posterior, flops=ask.flops or None, **_options(ask))
    runs = tables.fitted_table(posterior)
    held_out = ask.held_out
    unit = posterior.record.loss_unit
    parts = _levels(table, posterior)
    if held_out is None:
        figure, axes = _panels(len(parts), width=6.2, height=4.8)
    else:
        unseen = tables.unseen_runs(posterior, held_out)
        if unseen.empty:
            what = "the fit has seen all of these runs"
            raise InputError(what, where="held-out", hint="Fit with --holdout largest.")
        held_out = predict(posterior, unseen, force=ask.force)
        figure, axes = _panels(len(parts) + 1, width=6.0, height=4.8)
        chosen = held_out.merge(posterior.groups.iloc[_groups(posterior, ask)])
        plot_held_out(chosen, by=_by(posterior), ax=axes[-1])
    for ax, part in zip(axes, parts, strict=False):
        plot_fan(part, runs=runs, held_out=held_out, by=_by(posterior), loss_unit=unit, ax=ax)
    return figure


def _ppc(posterior: Posterior, ask: Request) -> "Figure":
    figure, (density, pit) = _panels(2, width=5.0, height=4.0)
    table = tables.density_table(posterior)
    plot_ppc_density(table, loss_unit=posterior.record.loss_unit, ax=density)
    plot_pit(residuals(posterior), ax=pit)
    return figure


def _residuals(posterior: Posterior, ask: Request) -> "Figure":
    table = residuals(posterior)
    figure, axes = _panels(4, width=5.4, height=3.6, columns=2)
    for i, (ax, x) in enumerate(
        zip(axes, ("flops", "params", "tokens", "tokens_per_param"), strict=True)
    ):
        plot_residuals(table, x=x, ax=ax)
        if i:
            ax.get_legend().remove()
    return figure


def _prior(posterior: Posterior, ask: Request) -> "Figure":
    figure, (ax,) = _panels(1, width=6.4, height=4.4)
    plot_prior_predictive(
        tables.prior_table(posterior),
        runs=tables.fitted_table(posterior),
        loss_unit=posterior.record.loss_unit,
        ax=ax,
    )
    return figure


def _probability(posterior: Posterior, ask: Request) -> "Figure":
    first = posterior.groups.iloc[:, 0].astype(str).unique()
    if ask.pair is None and len(first) < 2:
        what = f"only {', '.join(first)} to compare"
        raise InputError(what, where=posterior.where, hint="Fit two architectures.")
    a, b = ask.pair or (first[-1], first[0])
    table = tables.comparison_table(posterior, a, b, flops=ask.flops or None, force=ask.force)
    if ask.context_length is not None and "context_length" in table:
        table = table[table["context_length"] == ask.context_length]
    rows = table["context_length"].nunique() if "context_length" in table else 1
    figure, (ax,) = _panels(1, width=8.0, height=1.8 + 0.6 * rows)
    plot_probability_map(table, ax=ax)
    return figure


def _rank(posterior: Posterior, ask: Request) -> "Figure":
    return plot_chains(posterior, "rank", group=_groups(posterior, ask)[0])


def _trace(posterior: Posterior, ask: Request) -> "Figure":
    return plot_chains(posterior, "trace", group=_groups(posterior, ask)[0])


KINDS: Mapping[str, tuple[str, Draw]] = {
    "valleys": ("loss against params at each isoflop budget, with the runs", _valleys),
    "surface": ("contours of loss over params and tokens, with lines of equal FLOPs", _surface),
    "growth": ("compute-optimal params and tokens against compute", _growth),
    "allocations": ("params, tokens, tokens per param and loss at budgets", _allocations),
    "exponents": ("exponents of the growth laws by group", _exponents),
    "fan": ("loss of compute-optimal runs beyond the data, with held-out runs", _fan),
    "ppc": ("observed against replicated losses, and leave-one-out PIT", _ppc),
    "residuals": ("residuals against compute, params, tokens and tokens per param", _residuals),
    "prior": ("loss against compute before any run is seen", _prior),
    "probability": ("probability that one architecture beats another", _probability),
    "rank": ("rank plots of the chains", _rank),
    "trace": ("traces of the chains", _trace),
}
"""Every kind: what it shows, and the function that draws it."""
