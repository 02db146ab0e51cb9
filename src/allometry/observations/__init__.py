"""Observations: tables come in here and nowhere else."""

from allometry.observations.catalogue import TABLES
from allometry.observations.expressions import select_rows
from allometry.observations.fetching import fetch_table, find_table, table_path
from allometry.observations.importers import import_runs
from allometry.observations.latency import LATENCY, LatencyTable, read_latency
from allometry.observations.loading import load_table
from allometry.observations.outliers import robust_exclusions
from allometry.observations.record import Exclusion, Runs, count_groups
from allometry.observations.registry import DATA_VARIABLE, Preparation, RegisteredTable
from allometry.observations.runs import read_runs
from allometry.observations.schema import RUNS, validate_runs
from allometry.observations.writing import write_table

__all__ = [
    "DATA_VARIABLE",
    "LATENCY",
    "RUNS",
    "TABLES",
    "Exclusion",
    "LatencyTable",
    "Preparation",
    "RegisteredTable",
    "Runs",
    "count_groups",
    "fetch_table",
    "find_table",
    "import_runs",
    "load_table",
    "read_latency",
    "read_runs",
    "robust_exclusions",
    "select_rows",
    "table_path",
    "validate_runs",
    "write_table",
]
