"""``allometry sweep run``, ``status`` and ``collect``: make planned runs, watch, gather them."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from allometry.cli.output import emit, stderr
from allometry.cli.sweep_display import rows_to_show, sweep_display
from allometry.errors import InputError

if TYPE_CHECKING:
    from allometry.harness.sweep import Executor

Many = Parameter(consume_multiple=True, negative=())


def run_command(
    plan: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=["-o", "--output"])],
    corpus: Path,
    executor: Literal["local", "ray", "slurm"] = "local",
    workers: int = 0,
    threads: int = 1,
    gpus: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    address: str = "",
    option: Annotated[list[str] | None, Many] = None,
    setting: Annotated[list[str] | None, Parameter(name="--set", consume_multiple=True)] = None,
    logger: Annotated[list[str] | None, Parameter(negative=())] = None,
    retry_failed: bool = False,
    json: bool = False,
) -> int:
    """Make the runs of a plan; the same command finishes a sweep that was stopped or killed.

    Exit code 1 if any run failed. Diverged runs are results and are marked in the table.

    Parameters
    ----------
    plan
        From ``allometry sweep plan``.
    output
        Folder of the sweep; on a disk that all machines see, for ray and slurm.
    corpus
        Folder of the corpus.
    executor
        ``local``: processes here. ``ray``: tasks on a Ray cluster. ``slurm``: jobs.
    workers
        Runs at a time; 0: one for each GPU or for each --threads cores (local), what the cluster
        has room for (ray), one job (slurm).
    threads
        CPU threads of a run.
    gpus
        GPUs of a run (ray, slurm; local gives each worker one if there are any).
    address
        Of the Ray cluster; default: the one of RAY_ADDRESS, else a new one here.
    option
        Parameter of the Slurm jobs, as submitit names it: ``slurm_partition=gpu timeout_min=720``.
    setting
        Field of every run's training: ``schedule=wsd validation_tokens=65536``.
    logger
        ``wandb``, ``mlflow`` or ``tensorboard``, told of every run; may be repeated.
    retry_failed
        Try runs that failed before once more.
    json
        Print one JSON document instead of a table.
    """
    from allometry.harness.sweep import (
        LocalExecutor,
        RayExecutor,
        SlurmExecutor,
        SweepStatus,
        open_sweep,
        read_plan,
        run_sweep,
        validation_share,
    )

    chosen: Executor
    if executor == "ray":
        chosen = RayExecutor(address=address, workers=workers, gpus=gpus)
    elif executor == "slurm":
        chosen = SlurmExecutor(workers=workers or 1, gpus=gpus, options=_pairs(option))
    else:
        chosen = LocalExecutor(workers=workers)
    folder = open_sweep(
        read_plan(plan),
        output,
        corpus=corpus,
        threads=threads,
        settings=_pairs(setting) or None,
        loggers=logger or (),
    )
    if retry_failed:
        folder.forget_failures()
    if (share := validation_share(folder)) > 1.0:
        warning = (
            f"warning: validation takes {share:.3g} times the FLOPs of training, which the plan's "
            "hours do not count; in a new folder, --set validation_tokens=65536 takes less"
        )
        stderr.print(warning, soft_wrap=True, markup=False, highlight=False)
    status = SweepStatus(folder)
    # Under nohup or a shell's & SIGINT is ignored: kill -INT shall stop a sweep there as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with sweep_display(status, stderr) as watch:
            run_sweep(folder, chosen, watch=watch)
    except KeyboardInterrupt:
        stderr.print("stopped; the same command goes on", markup=False)
        raise
    table = status.table()
    emit(status.summary(table), as_json=json)
    bad = table[table.state == "failed"]
    for row in bad.itertuples():
        stderr.print(f"failed: {row.run_id}: {row.error}", soft_wrap=True, markup=False)
    return 1 if len(bad) else 0


def status_command(folder: Path, /, *, watch: bool = False, json: bool = False) -> int:
    """Show how far a sweep is.

    Parameters
    ----------
    folder
        Of the sweep.
    watch
        Keep showing until every run is over or failed, or Ctrl-C.
    json
        Print one JSON document: the summary and every run.
    """
    import time

    from allometry.harness.sweep import SweepFolder, SweepStatus

    status = SweepStatus(SweepFolder(folder))
    if watch and not json:
        with sweep_display(status, stderr) as show:
            while (table := status.table()).state.isin(["running", "stopped", "waiting"]).any():
                show()
                time.sleep(1.0)
    table = status.table()
    summary = status.summary(table)
    if json:
        emit({**summary, "table": table.to_dict("records")}, as_json=True)
        return 0
    emit(rows_to_show(table), as_json=False)
    emit(summary, as_json=False)
    return 0


def collect_command(
    folder: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=["-o", "--output"])],
    json: bool = False,
) -> int:
    """Write the runs table of a sweep, and its loss curves beside it as Parquet.

    Exit code 1, and nothing written, while no run is over.

    Parameters
    ----------
    folder
        Of the sweep; it may still be running.
    output
        The runs table: .csv, .parquet or .jsonl. Beside runs.csv the curves are curves.parquet,
        beside NAME.csv they are NAME-curves.parquet.
    json
        Print one JSON document instead of a table.
    """
    from allometry.harness.sweep import SweepFolder, write_collected

    sweep = SweepFolder(folder)
    runs, curves = write_collected(sweep, output)
    diverged = int(runs.diverged.sum())
    answer = {
        "runs_table": str(output),
        "curves": str(curves),
        "planned": len(sweep.plan()),
        "finished": len(runs) - diverged,
        "diverged": diverged,
    }
    emit(answer, as_json=json)
    return 0


def _pairs(given: list[str] | None) -> dict[str, Any]:
    # NAME=VALUE; values as JSON where they are JSON, else as text.
    from json import loads

    pairs: dict[str, Any] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"{text!r} is not NAME=VALUE")
        try:
            pairs[name] = loads(value)
        except ValueError:
            pairs[name] = value
    return pairs
