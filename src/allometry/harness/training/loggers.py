"""Experiment trackers as listeners, through their own clients, off by default.

Each is a context manager that gives a `Listener`; another tracker is another such function.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from allometry.errors import InputError
from allometry.harness.training.config import TrainConfig
from allometry.harness.training.result import Listener, StepReport


@contextmanager
def wandb_logger(config: TrainConfig, folder: Path) -> Iterator[Listener]:
    """Log to Weights & Biases; project, entity and mode come from its own settings."""
    run = _client("wandb", "wandb").init(
        name=folder.resolve().name, config=config.to_json(), dir=str(folder)
    )
    try:
        yield lambda report: run.log(numbers(report), step=report.step)
    finally:
        run.finish()


@contextmanager
def mlflow_logger(config: TrainConfig, folder: Path) -> Iterator[Listener]:
    """Log to MLflow; the server comes from its own settings."""
    mlflow = _client("mlflow", "mlflow")
    with mlflow.start_run(run_name=folder.resolve().name):
        mlflow.log_params(_flat(config.to_json()))
        yield lambda report: mlflow.log_metrics(numbers(report), step=report.step)


@contextmanager
def tensorboard_logger(config: TrainConfig, folder: Path) -> Iterator[Listener]:
    """Write TensorBoard event files into ``folder/tensorboard``."""
    module = _client("torch.utils.tensorboard", "tensorboard")
    with module.SummaryWriter(str(folder / "tensorboard")) as writer:
        writer.add_text("config", str(config.to_json()))

        def log(report: StepReport) -> None:
            for name, value in numbers(report).items():
                writer.add_scalar(name, value, report.step)

        yield log


LOGGERS: dict[str, Callable[[TrainConfig, Path], AbstractContextManager[Listener]]] = {
    "wandb": wandb_logger,
    "mlflow": mlflow_logger,
    "tensorboard": tensorboard_logger,
}


def open_logger(name: str, config: TrainConfig, folder: Path) -> AbstractContextManager[Listener]:
    """Logger of a name, or an InputError that lists the names."""
    return _known(name)(config, folder)


def require_logger(name: str) -> None:
    """Refuse a logger that there is not, or whose client is not installed."""
    _known(name)
    _client(name, name)


def numbers(report: StepReport) -> dict[str, float]:
    """What trackers draw: every number of the report that is there."""
    names = ("tokens", "train_loss", "val_loss", "learning_rate", "grad_norm")
    values = {name: getattr(report, name) for name in (*names, "tokens_per_second", "mfu")}
    return {name: float(value) for name, value in values.items() if value is not None}


def _known(name: str) -> Callable[[TrainConfig, Path], AbstractContextManager[Listener]]:
    if name not in LOGGERS:
        raise InputError(f"no logger {name!r}; there are {', '.join(LOGGERS)}")
    return LOGGERS[name]


def _client(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        hint = f"Install it: pip install 'allometry[{extra}]'."
        raise InputError(f"{extra} is not installed", where="logger", hint=hint) from error


def _flat(document: dict[str, Any]) -> dict[str, Any]:
    shape = {f"shape.{name}": value for name, value in document["shape"].items()}
    return {name: value for name, value in document.items() if name != "shape"} | shape
