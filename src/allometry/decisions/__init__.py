"""Decisions: posterior to a table with one row a question."""

from allometry.decisions.allocation import allocate, growth_law
from allometry.decisions.asking import UnseenGroupWarning, Which
from allometry.decisions.breakeven import break_even_budget, break_even_context
from allometry.decisions.buildable import buildable, nearest_shapes
from allometry.decisions.comparison import compare, effective_speedup
from allometry.decisions.design import design_runs
from allometry.decisions.lifetime import lifetime
from allometry.decisions.prediction import predict, predict_draws
from allometry.decisions.questions import Level
from allometry.decisions.regret import least_regret, regret_curve
from allometry.decisions.repeats import repeated

__all__ = [
    "Level",
    "UnseenGroupWarning",
    "Which",
    "allocate",
    "break_even_budget",
    "break_even_context",
    "buildable",
    "compare",
    "design_runs",
    "effective_speedup",
    "growth_law",
    "least_regret",
    "lifetime",
    "nearest_shapes",
    "predict",
    "predict_draws",
    "regret_curve",
    "repeated",
]
