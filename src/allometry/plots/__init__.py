"""Plots: a table to matplotlib Axes; a posterior to the tables that are drawn."""

from allometry.plots.chains import plot_chains
from allometry.plots.checks import (
    plot_pit,
    plot_ppc_density,
    plot_prior_predictive,
    plot_residuals,
)
from allometry.plots.comparison import plot_probability_map
from allometry.plots.extrapolation import plot_fan, plot_held_out
from allometry.plots.figures import KINDS, Request, draw_figure
from allometry.plots.growth import plot_allocations, plot_exponents, plot_growth
from allometry.plots.tables import (
    best_runs,
    comparison_table,
    density_table,
    fitted_table,
    frontier_table,
    prior_table,
    surface_table,
    valley_table,
)
from allometry.plots.valleys import plot_surface, plot_valleys

__all__ = [
    "KINDS",
    "Request",
    "best_runs",
    "comparison_table",
    "density_table",
    "draw_figure",
    "fitted_table",
    "frontier_table",
    "plot_allocations",
    "plot_chains",
    "plot_exponents",
    "plot_fan",
    "plot_growth",
    "plot_held_out",
    "plot_pit",
    "plot_ppc_density",
    "plot_prior_predictive",
    "plot_probability_map",
    "plot_residuals",
    "plot_surface",
    "plot_valleys",
    "prior_table",
    "surface_table",
    "valley_table",
]
