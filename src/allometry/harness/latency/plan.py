"""What to time: shapes, batches and prompts in random order, with drift control points."""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from allometry.accounting import Shape, count_params
from allometry.errors import InputError

QUANTITIES = ("ttft", "step_time")


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchPlan:
    """A latency bench.

    Attributes
    ----------
    shapes : tuple of TransformerShape or XLSTMShape
        Models to build and time.
    batch_sizes, prefill_lengths : tuple of int
        Sequences; tokens of the prompt. Every combination is timed.
    generation_length : int
        Steps that a step time is the mean of.
    device, dtype : str
        ``cpu`` or ``cuda``; ``float32`` or ``bfloat16``, of parameters and activations.
    threads : int
        Threads of a CPU, each pinned to a core.
    target : float
        Relative standard error of each median to reach.
    max_seconds : float
        Time for the repeats of one point.
    control_every : int
        After so many points, the control point (smallest shape, batch and prompt) is timed again.
    seed : int
        Of the order, the parameters and the tokens.
    """

    shapes: tuple[Shape, ...]
    batch_sizes: tuple[int, ...]
    prefill_lengths: tuple[int, ...]
    generation_length: int = 16
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 1
    target: float = 0.01
    max_seconds: float = 5.0
    control_every: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (*self.batch_sizes, *self.prefill_lengths, self.generation_length, self.threads)
        if not self.shapes or not self.batch_sizes or not self.prefill_lengths:
            raise InputError("a bench needs shapes, batch sizes and prefill lengths", where="bench")
        if min(counts) < 1 or self.control_every < 1:
            what = "batch sizes, lengths, threads and control_every must be 1 or more"
            raise InputError(what, where="bench")
        if not (0 < self.max_seconds < math.inf and 0 < self.target < 1):
            what = f"seconds per point {self.max_seconds:g}, target {self.target:g}"
            raise InputError(f"must be positive: {what}", where="bench")
        if self.device not in ("cpu", "cuda"):
            raise InputError(f"device must be cpu or cuda, got {self.device!r}", where="bench")
        if self.dtype not in ("float32", "bfloat16"):
            raise InputError(
                f"dtype must be float32 or bfloat16, got {self.dtype!r}", where="bench"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchPoint:
    """One thing to time.

    Attributes
    ----------
    name : str
        Unique in the plan; a finished point is found by it when the bench goes on.
    shape : TransformerShape or XLSTMShape
    batch_size, prefill_length : int
    quantity : str
        ``ttft`` or ``step_time``.
    control : bool
        A repeat of the control point.
    """

    name: str
    shape: Shape
    batch_size: int
    prefill_length: int
    quantity: str
    control: bool = False


def plan_points(plan: BenchPlan) -> tuple[BenchPoint, ...]:
    """Points of a plan in the order they are timed: random, the control point in between."""
    grid = [
        BenchPoint(
            name=f"{_label(shape)}/b{batch}/t{prompt}/{quantity}",
            shape=shape,
            batch_size=batch,
            prefill_length=prompt,
            quantity=quantity,
        )
        for shape, batch, prompt, quantity in product(
            plan.shapes, plan.batch_sizes, plan.prefill_lengths, QUANTITIES
        )
    ]
    order = np.random.default_rng(plan.seed).permutation(len(grid))
    smallest = min(plan.shapes, key=lambda shape: count_params(shape).total)
    points: list[BenchPoint] = []
    for position, index in enumerate(order):
        if position % plan.control_every == 0:
            points.append(_control(plan, smallest, position // plan.control_every))
        points.append(grid[index])
    return (*points, _control(plan, smallest, -(-len(grid) // plan.control_every)))


def _control(plan: BenchPlan, shape: Shape, number: int) -> BenchPoint:
    return BenchPoint(
        name=f"control-{number}",
        shape=shape,
        batch_size=min(plan.batch_sizes),
        prefill_length=min(plan.prefill_lengths),
        quantity="step_time",
        control=True,
    )


def _label(shape: Shape) -> str:
    width = f"d{shape.d_model}-n{shape.n_layers}-h{shape.n_heads}-f{shape.d_ff}"
    return f"{shape.architecture}-{width}-v{shape.vocab_size}"
