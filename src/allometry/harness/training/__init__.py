"""Training: one plain loop, exact to resume, and what it needs around it."""

from allometry.harness.training.config import TrainConfig
from allometry.harness.training.folder import RunFolder, read_curve
from allometry.harness.training.loop import train
from allometry.harness.training.result import Listener, RunResult, StepReport
from allometry.harness.training.schedule import learning_rate_at

__all__ = [
    "Listener",
    "RunFolder",
    "RunResult",
    "StepReport",
    "TrainConfig",
    "learning_rate_at",
    "read_curve",
    "train",
]
