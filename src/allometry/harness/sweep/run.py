"""Run a sweep: check everything that can be checked, then hand the folder to an executor."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from allometry.errors import InputError
from allometry.harness.corpus import read_manifest
from allometry.harness.sweep.entry import train_config
from allometry.harness.sweep.executors import Executor, Watch
from allometry.harness.sweep.folder import ENTRY, SweepConfig, SweepFolder, plan_records
from allometry.harness.sweep.worker import entry_named


def open_sweep(
    plan: pd.DataFrame,
    path: Path,
    *,
    corpus: Path,
    threads: int = 1,
    settings: dict[str, Any] | None = None,
    loggers: Sequence[str] = (),
) -> SweepFolder:
    """Make a sweep's folder for training runs, or take up the one that is there.

    Parameters
    ----------
    plan : DataFrame
        From `plan_isoflop` and its sisters, or `read_plan`.
    path : Path
        Folder of the sweep.
    corpus : Path
        Folder of the corpus.
    threads : int
        CPU threads of a run.
    settings : dict, optional
        Further fields of every run's `TrainConfig`.
    loggers : sequence of str
        Experiment trackers that every run tells: wandb, mlflow, tensorboard.

    Raises
    ------
    InputError
        If the corpus does not fit the plan, a setting is unknown, or the folder holds another
        sweep.
    """
    from allometry.harness.training.loggers import require_logger  # it brings torch

    if threads < 1:
        raise InputError(f"threads must be at least 1, got {threads}")
    manifest = read_manifest(corpus)
    config = SweepConfig(
        corpus=str(corpus.resolve()),
        entry=ENTRY,
        threads=threads,
        settings=settings,
        loggers=tuple(loggers),
    )
    if small := sorted(set(plan.vocab_size[plan.vocab_size < manifest.vocab_size])):
        what = f"the plan has models of {small[0]} vocabulary rows, the corpus's tokenizer "
        hint = f"Plan with --corpus {corpus}, which takes its vocabulary."
        raise InputError(what + f"{manifest.vocab_size} tokens", where=str(corpus), hint=hint)
    train_config(plan_records(plan)[0], config)  # an unknown setting is told before anything starts
    for name in loggers:
        require_logger(name)
    return SweepFolder.create(path, plan, config)


def validation_share(folder: SweepFolder) -> float:
    """FLOPs of all validations of a sweep over those of its training, which alone a plan counts.

    A validation reads its tokens forward, a third of the FLOPs of training on them.
    """
    plan, config = folder.plan(), folder.config()
    run = train_config(plan_records(plan)[0], config)
    there = read_manifest(Path(config.corpus)).tokens("validation")
    read = run.validation_points * min(run.validation_tokens or there, there)
    return float((plan.flops / plan.tokens).sum() * read / 3.0 / plan.flops.sum())


def run_sweep(folder: SweepFolder, executor: Executor, *, watch: Watch = lambda: None) -> None:
    """Make every run of a sweep that is not over; see `Executor.execute` for what it raises.

    Runs that failed before are left as they are; `SweepFolder.forget_failures` opens them again.
    """
    entry_named(folder.config().entry)
    executor.execute(folder, watch=watch)
