"""From a sweep's folder to a runs table, with the loss curves beside it."""

from pathlib import Path
from typing import Any

import pandas as pd

from allometry.errors import RunError
from allometry.harness.sweep.folder import SweepFolder, plan_records
from allometry.observations.writing import write_table

CURVE_COLUMNS = ("run_id", "step", "tokens", "train_loss", "val_loss", "learning_rate", "grad_norm")
_FIRST = ("run_id", "experiment", "architecture", "context_length", "params", "tokens", "flops")
# A column of the plan to its name here: "budget" beside "flops" would be read as a second `flops`.
_FROM_PLAN = {
    "experiment": "experiment",
    "budget": "isoflop_tag",
    "head_dim_qk": "head_dim_qk",
    "head_dim_v": "head_dim_v",
}


def collect_sweep(folder: SweepFolder) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs that are over, and the loss curves of all that have one.

    Returns
    -------
    runs : DataFrame
        One row a finished or diverged run, in the plan's order: its result and the plan's columns
        experiment, budget (as `isoflop_tag`) and head widths. Only finished runs have a loss;
        diverged ones are marked in `diverged`. Runs that failed or are not over have no row.
    curves : DataFrame
        Columns `CURVE_COLUMNS`; `val_loss` is empty where it was not taken.
    """
    from allometry.harness.training import read_curve  # here: it brings torch

    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for planned in plan_records(folder.plan()):
        run_id = planned["run_id"]
        curves += [{"run_id": run_id, **point} for point in read_curve(folder.run_path(run_id))]
        result = folder.result(run_id)
        if result is not None:
            extra = {name: planned[column] for column, name in _FROM_PLAN.items()}
            rows.append({**result, **extra, "run_id": run_id})
    runs = pd.DataFrame(rows)
    first = [name for name in (*_FIRST, "loss") if name in runs]
    runs = runs[[*first, *(name for name in runs.columns if name not in first)]]
    return runs, pd.DataFrame(curves, columns=list(CURVE_COLUMNS))


def write_collected(folder: SweepFolder, path: Path) -> tuple[pd.DataFrame, Path]:
    """Collect a sweep into a runs table and, beside it, its curves as Parquet.

    Curves of ``runs.csv`` are in ``curves.parquet``, of ``NAME.csv`` in ``NAME-curves.parquet``.

    Each file is replaced as a whole. A kill between the two leaves newer curves beside an older
    table, and the same call again puts it right.

    Returns
    -------
    runs : DataFrame
        The table.
    curves_path : Path
        File of the curves.

    Raises
    ------
    RunError
        If no run is over: a table without rows would be taken for an answer.
    """
    runs, curves = collect_sweep(folder)
    if runs.empty:
        what = f"none of {len(folder.plan())} planned runs is over: nothing is written"
        raise RunError(what, where=str(folder.path), hint="See allometry sweep status.")
    stem = path.name.split(".")[0]
    curves_name = "curves" if stem == "runs" else f"{stem}-curves"
    curves_path = path.with_name(f"{curves_name}.parquet")
    write_table(curves, curves_path)
    write_table(runs, path)
    return runs, curves_path
