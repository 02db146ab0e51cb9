"""How the reference study trained its runs: budgets, batches, steps, learning rates, schedule.

Data and rules of "xLSTM Scaling Laws" (arXiv:2510.02228), as its run logs have them; a sweep
planner starts from these. Plain numbers: nothing here trains.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from allometry.accounting.family import Architecture
from allometry.accounting.flops import training_flops_per_sequence
from allometry.accounting.shapes import Shape
from allometry.errors import InputError

STUDY_BUDGETS = (6e18, 1e19, 3e19, 1e20, 6e20)
"""Training FLOPs of the IsoFLOP sets; the last two at context 8192 only."""
STUDY_CONTEXT_LENGTHS = (2048, 8192, 16384)
TOKEN_PARAM_CONTEXT_LENGTH = 8192
TOKENS_PER_PARAM = (22, 44, 110, 220, 550, 1100, 2200)
"""D / N of the token/param runs."""

LearningRatePlan = Literal["a", "b"]
"""xLSTM: ``a`` for batches that grow with the model, ``b`` for one batch at every width."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimizer:
    """AdamW as in every run of the study; decay on matrices only, not on norms and biases."""

    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    gradient_norm_clip: float = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Learning rate over a run: linear warm-up, cosine, linear cool-down to zero.

    Attributes
    ----------
    steps : int
        Optimizer steps in all.
    warmup_steps, cooldown_steps : int
        Steps of the first and of the last piece.
    cosine_end : float
        Share of the peak at which the cosine hands over to the cool-down.
    """

    steps: int
    warmup_steps: int = 750
    cooldown_steps: int = 1000
    cosine_end: float = 0.1

    def __post_init__(self) -> None:
        if min(self.warmup_steps, self.cooldown_steps) < 0 or not 0 <= self.cosine_end <= 1:
            raise InputError(f"negative steps or cosine_end outside 0 to 1: {self}")
        if self.steps < 1 or self.warmup_steps + self.cooldown_steps > self.steps:
            what = (
                f"warm-up of {self.warmup_steps} and cool-down of {self.cooldown_steps} steps do "
                f"not fit into {self.steps}"
            )
            raise InputError(what, hint="Use study_schedule, which shortens them for short runs.")

    def share_of_peak(self, step: float) -> float:
        """Learning rate at a step, 0 to `steps`, in units of the peak.

        Examples
        --------
        >>> schedule = Schedule(steps=5750)
        >>> [round(schedule.share_of_peak(step), 3) for step in (0, 750, 2750, 4750, 5250, 5750)]
        [0.0, 1.0, 0.55, 0.1, 0.05, 0.0]
        """
        if step < self.warmup_steps:
            return step / self.warmup_steps
        cosine_stop = self.steps - self.cooldown_steps
        if step <= cosine_stop:
            length = cosine_stop - self.warmup_steps
            done = (step - self.warmup_steps) / length if length else 1.0
            return self.cosine_end + (1 - self.cosine_end) * (1 + math.cos(math.pi * done)) / 2
        return self.cosine_end * max(0.0, self.steps - step) / self.cooldown_steps


def study_schedule(steps: int) -> Schedule:
    """Schedule of a run of `steps`: the study's, shortened in proportion below 2,000 steps.

    Examples
    --------
    >>> study_schedule(4800).warmup_steps, study_schedule(200)
    (750, Schedule(steps=200, warmup_steps=75, cooldown_steps=100, cosine_end=0.1))
    """
    share = min(1.0, steps / 2000)
    return Schedule(steps=steps, warmup_steps=int(750 * share), cooldown_steps=int(1000 * share))


# Largest width that has the rate: (width, Transformer, xLSTM plan a, xLSTM plan b).
_LEARNING_RATES = (
    (1024, 3e-3, 3e-3, 3e-3),
    (1408, 1e-3, 2e-3, 2e-3),
    (1536, 1e-3, 1e-3, 2e-3),
    (1792, 1e-3, 9e-4, 2e-3),
    (2304, 8e-4, 8e-4, 2e-3),
    (3072, 7e-4, 7e-4, 2e-3),
    (4096, 5e-4, 5e-4, 9e-4),
)


def study_learning_rate(architecture: str, d_model: int, plan: LearningRatePlan = "b") -> float:
    """Peak learning rate of the study for a width.

    A width between two of its grid takes the rate of the wider; below 512 the rate of 512 is kept,
    above 4096 it falls as 1 / width. Plan b is what every xLSTM of the IsoFLOP sets with 2^20
    tokens a step was trained with; those with 2^21 (6e20 FLOPs) were near plan a, 8e-4 to 1e-3.

    Parameters
    ----------
    architecture : {"transformer", "xlstm"}
        The Transformer has one plan.
    d_model : int
        Width of the residual stream.
    plan : {"a", "b"}
        See `LearningRatePlan`.

    Examples
    --------
    >>> study_learning_rate("xlstm", 1792, "a"), study_learning_rate("transformer", 128)
    (0.0009, 0.003)
    """
    if architecture not in get_args(Architecture):
        valid = ", ".join(get_args(Architecture))
        raise InputError(f"architecture must be one of {valid}, got {architecture!r}")
    if plan not in get_args(LearningRatePlan):
        raise InputError(f"plan must be a or b, got {plan!r}")
    if d_model < 1:
        raise InputError(f"d_model must be positive, got {d_model}")
    column = 1 if architecture == "transformer" else 2 + (plan == "b")
    for row in _LEARNING_RATES:
        if d_model <= row[0]:
            return row[column]
    widest = _LEARNING_RATES[-1]
    return widest[column] * widest[0] / d_model


def study_batch_size(context_length: int, budget: float) -> int:
    """Sequences a step in the IsoFLOP runs: 2^20 tokens, 2^21 from 3e20 FLOPs on.

    Parameters
    ----------
    context_length : int
        Tokens a sequence; one beyond the batch's tokens gives a batch of one.
    budget : float
        Training FLOPs of the run.

    Examples
    --------
    >>> [study_batch_size(T, 1e19) for T in (2048, 8192, 16384)], study_batch_size(8192, 6e20)
    ([512, 128, 64], 256)
    """
    if context_length < 1 or not budget > 0:
        what = f"context_length {context_length}, budget {budget}"
        raise InputError(f"must be positive: {what}")
    tokens = 2**21 if budget >= 3e20 else 2**20
    return max(1, tokens // context_length)


def steps_for(
    flops: float,
    shape: Shape,
    context_length: int,
    batch_size: int,
    round_to: int = 200,
) -> int:
    """Optimizer steps that spend a training budget, to the nearest multiple of `round_to`.

    Parameters
    ----------
    flops : float
        Training FLOPs, counted in the study's mode.
    shape : TransformerShape or XLSTMShape
        The model.
    context_length, batch_size : int
        Tokens a sequence, sequences a step.
    round_to : int
        200 (or 500) in the study; 1 for small runs.

    Raises
    ------
    InputError
        If the budget buys less than half of `round_to` steps.

    Examples
    --------
    >>> from allometry.accounting import preset
    >>> steps_for(6e18, preset("transformer-d768-n18"), 2048, 512)
    4800
    """
    if batch_size < 1 or round_to < 1 or not flops > 0:
        what = f"flops {flops}, batch_size {batch_size}, round_to {round_to}"
        raise InputError(f"must be positive: {what}")
    exact = flops / (batch_size * training_flops_per_sequence(shape, context_length).total)
    steps = round_to * round(exact / round_to)
    if steps < 1:
        what = f"{flops:.3g} FLOPs buy {exact:.3g} steps, which round to none"
        raise InputError(what, hint="Lower round_to or batch_size, or take a smaller shape.")
    return steps
