"""Latency bench: time to first token and step time of both models, on this machine."""

from allometry.harness.latency.clock import Measurement, clock_for, measure
from allometry.harness.latency.drift import drift, with_intervals
from allometry.harness.latency.plan import BenchPlan, BenchPoint, plan_points
from allometry.harness.latency.run import BenchResult, run_bench

__all__ = [
    "BenchPlan",
    "BenchPoint",
    "BenchResult",
    "Measurement",
    "clock_for",
    "drift",
    "measure",
    "plan_points",
    "run_bench",
    "with_intervals",
]
