"""From a row of a plan to a finished training run: the one place where a sweep meets training."""

import dataclasses
from collections.abc import Mapping
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allometry.errors import InputError, KernelError
from allometry.harness.sweep.folder import SweepConfig
from allometry.harness.sweep.rows import shape_from_row

if TYPE_CHECKING:  # torch loads when a run is made, not when one is planned
    from allometry.harness.training import TrainConfig

# Many short runs: a kill should cost little, and nobody wants thousands of models.
_SWEEP_SETTINGS: dict[str, Any] = {"checkpoint_seconds": 30.0, "keep_weights": False}
_PLANNED = ("context_length", "batch_size", "steps", "seed")


def train_row(row: Mapping[str, Any], folder: Path, config: SweepConfig) -> None:
    """Train the run of a row in its folder, or go on with it; ends with ``result.json`` there.

    Raises
    ------
    KernelError
        If the device does not exist here, or its kernels disagree with their reference: nothing is
        trained then.
    """
    from allometry.harness.training import train
    from allometry.harness.training.loggers import open_logger

    run = train_config(row, config)
    _check_kernels(run.device)
    with ExitStack() as stack:
        loggers = [stack.enter_context(open_logger(name, run, folder)) for name in config.loggers]
        train(run, folder, loggers=loggers)


def train_config(row: Mapping[str, Any], config: SweepConfig) -> "TrainConfig":
    """Config of a row's run.

    Raises
    ------
    InputError
        If the sweep's settings name a field that `TrainConfig` has not, or one that the plan sets.
    """
    from allometry.harness.training import TrainConfig

    settings, from_row = config.settings or {}, planned_fields(row)
    if planned := [name for name in from_row if name in settings]:
        what = f"the plan sets {', '.join(planned)}, not the settings of the sweep"
        raise InputError(what, where="settings", hint="Change the plan.")
    fields: dict[str, Any] = {
        **from_row,
        "corpus": config.corpus,
        "threads": config.threads,
        **_SWEEP_SETTINGS,
        **settings,
    }
    known = [field.name for field in dataclasses.fields(TrainConfig)]
    if unknown := [name for name in fields if name not in known]:
        free = ", ".join(name for name in known if name not in from_row)
        what = f"no setting named {', '.join(unknown)}"
        raise InputError(what, where="settings", hint=f"There are {free}.")
    return TrainConfig(**fields)


def planned_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `TrainConfig` that a plan's row sets."""
    numbers = {name: int(row[name]) for name in _PLANNED}
    rate = float(row["learning_rate"])
    return {**numbers, "learning_rate": rate, "shape": shape_from_row(row)}


@lru_cache(maxsize=1)
def _check_kernels(device: str) -> None:
    from allometry.harness.training.device import usable_device
    from allometry.kernels.check import quick_check

    try:
        chosen = usable_device(device)
    except InputError as error:  # it would befall every run
        raise KernelError(error.what, where="device", hint=error.hint) from error
    quick_check(chosen)
