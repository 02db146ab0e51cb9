"""Hierarchical Bayesian scaling laws: from tables of finished runs to decisions."""

__version__ = "0.1.0"
