"""Decisions: posterior to a table with one row a question."""

from allometry.decisions.allocation import allocate, growth_law
from allometry.decisions.comparison import compare, effective_speedup
from allometry.decisions.prediction import predict, predict_draws

__all__ = [
    "allocate",
    "compare",
    "effective_speedup",
    "growth_law",
    "predict",
    "predict_draws",
]
