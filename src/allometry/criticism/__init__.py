"""Criticism: whether a posterior is to be believed."""

from allometry.criticism.baseline import HuberFit, huber_fit
from allometry.criticism.check import Check, Loo, check
from allometry.criticism.fitted_runs import residuals
from allometry.criticism.parabola import isoflop_optima, parabola_growth_law
from allometry.criticism.sensitivity import prior_sensitivity
from allometry.criticism.validate import predictions, score_table, validate
from allometry.criticism.words import Finding

__all__ = [
    "Check",
    "Finding",
    "HuberFit",
    "Loo",
    "check",
    "huber_fit",
    "isoflop_optima",
    "parabola_growth_law",
    "predictions",
    "prior_sensitivity",
    "residuals",
    "score_table",
    "validate",
]
