"""The cases that the kernels are checked on: shapes, kinds of gates, and how they are drawn."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from allometry.errors import InputError
from allometry.kernels.contract import State


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A shape and a kind of gates; time in tokens, `step` for the decode step."""

    name: str
    time: int
    d_qk: int
    d_v: int
    chunk: int = 64
    gates: str = "study"
    batch: int = 1
    heads: int = 2
    step: bool = False


CASES = (
    Case(name="one chunk", time=64, d_qk=64, d_v=128),
    Case(name="odd length, odd widths", time=203, d_qk=24, d_v=80),
    Case(name="chunks of 256", time=640, d_qk=64, d_v=64, chunk=256, gates="wide"),
    Case(name="chunks of 1024", time=1100, d_qk=32, d_v=32, chunk=1024, gates="wide"),
    Case(name="study widths", time=300, d_qk=128, d_v=256, chunk=128, batch=2),
    Case(name="wide heads", time=130, d_qk=256, d_v=512, heads=1),
    Case(name="documents", time=200, d_qk=32, d_v=64, gates="resets"),
    Case(name="input gate 20", time=200, d_qk=32, d_v=64, gates="input 20"),
    Case(name="forget gate -120", time=150, d_qk=32, d_v=64, gates="forget -120"),
    Case(name="one token", time=1, d_qk=48, d_v=96),
    Case(name="decode step", time=1, d_qk=128, d_v=256, step=True),
)
QUICK_CASES = (
    Case(name="quick", time=200, d_qk=64, d_v=128, chunk=128),
    Case(name="quick step", time=1, d_qk=64, d_v=128, step=True),
)
SMALL_CASES = (
    Case(name="one chunk", time=16, d_qk=16, d_v=16, heads=1),
    Case(name="odd length, odd widths", time=50, d_qk=24, d_v=40, chunk=32, heads=1, gates="wide"),
    Case(name="decode step", time=1, d_qk=24, d_v=40, step=True),
)
"""For the interpreter, a thousand times slower than a GPU."""


def _gates(kind: str, normal: Callable[..., Tensor], shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    i, f = normal(*shape), normal(*shape)
    match kind:
        case "study":
            return i - 10, f + 4.5
        case "wide":
            return 3 * i, 3 * f
        case "resets":
            return i, torch.where(f > 1.5, -25.0, 4.0 + 0 * f)
        case "input 20":
            return 20 * i.sign(), f + 3
        case "forget -120":
            return i, 60 * f.sign() - 60
    raise InputError(f"no gates {kind!r}")


def draw_case(case: Case, dtype: torch.dtype, seed: int) -> tuple[tuple[Tensor, ...], State]:
    """Inputs of `dtype` and an initial state of float32, on the CPU; gates always float32."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=rng, dtype=torch.float64)

    flat = (case.batch, case.heads, case.time)
    q, k, v = (normal(*flat, width).to(dtype) for width in (case.d_qk, case.d_qk, case.d_v))
    i, f = (x.float() for x in _gates(case.gates, normal, flat))
    state = (
        normal(*flat[:2], case.d_qk, case.d_v),
        normal(*flat[:2], case.d_qk),
        normal(*flat[:2]),
    )
    C, n, m = (x.float() for x in state)
    return (q, k, v, i, f), (C, n, m)


def draw_weights(case: Case, dtype: torch.dtype, seed: int) -> tuple[Tensor, ...]:
    """Gradients of h, in `dtype`, and of C, n, m."""
    rng = torch.Generator().manual_seed(seed)
    time = () if case.step else (case.time,)
    flat = (case.batch, case.heads)
    shapes = ((*flat, *time, case.d_v), (*flat, case.d_qk, case.d_v), (*flat, case.d_qk), flat)
    dh, *rest = (torch.randn(shape, generator=rng) for shape in shapes)
    return dh.to(dtype), *rest
