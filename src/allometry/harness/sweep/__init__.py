"""Sweeps: a plan with one row a run, workers that make the runs, and the table that comes out."""

from allometry.harness.sweep.collect import collect_sweep, write_collected
from allometry.harness.sweep.devices import DEVICES, Device, device_named, price_plan, require_price
from allometry.harness.sweep.executors import Executor
from allometry.harness.sweep.folder import SweepConfig, SweepFolder
from allometry.harness.sweep.law import Optima, PlanningLaw, read_optima
from allometry.harness.sweep.local import LocalExecutor
from allometry.harness.sweep.placement import PlanWarning
from allometry.harness.sweep.plan import (
    DESIGNS,
    check_plan,
    join_plans,
    plan_isoflop,
    plan_token_param,
    read_plan,
    write_plan,
)
from allometry.harness.sweep.probed import ProbedRate, probe_plan, with_rates
from allometry.harness.sweep.ray_cluster import RayExecutor
from allometry.harness.sweep.recipe import Recipe
from allometry.harness.sweep.run import open_sweep, run_sweep, validation_share
from allometry.harness.sweep.slurm import SlurmExecutor
from allometry.harness.sweep.status import STATES, SweepStatus
from allometry.harness.sweep.study import study_plan

__all__ = [
    "DESIGNS",
    "DEVICES",
    "STATES",
    "Device",
    "Executor",
    "LocalExecutor",
    "Optima",
    "PlanWarning",
    "PlanningLaw",
    "ProbedRate",
    "RayExecutor",
    "Recipe",
    "SlurmExecutor",
    "SweepConfig",
    "SweepFolder",
    "SweepStatus",
    "check_plan",
    "collect_sweep",
    "device_named",
    "join_plans",
    "open_sweep",
    "plan_isoflop",
    "plan_token_param",
    "price_plan",
    "probe_plan",
    "read_optima",
    "read_plan",
    "require_price",
    "run_sweep",
    "study_plan",
    "validation_share",
    "with_rates",
    "write_collected",
    "write_plan",
]
