"""Inputs for the interpreted kernels, and buffers that betray a wrong write."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from allometry.kernels import triton_launch
from allometry.kernels.triton_ops import mlstm_triton

GUARD = 64  # entries in front of and behind every buffer
SENTINEL = 12345.0


def triton_form(chunk_size=None, *, normalizer_gradient=True, dtype=None):
    """(q, k, v, i, f, state) -> (h, state) by the kernels, on float32 or `dtype` inputs."""

    def run(q, k, v, i, f, state):
        q, k, v = (x.to(dtype or x.dtype) for x in (q, k, v))
        return mlstm_triton(
            q,
            k,
            v,
            i,
            f,
            state,
            chunk_size=chunk_size,
            normalizer_gradient=normalizer_gradient,
            eps=1e-6,
        )

    return run


@contextmanager
def guarded_buffers(monkeypatch) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Start every buffer of the kernels as NaN between sentinels; yield (memory, buffer) pairs."""
    buffers: list[tuple[Tensor, Tensor]] = []

    def empty(like: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        size = int(torch.Size(shape).numel())
        memory = torch.full((size + 2 * GUARD,), SENTINEL, dtype=torch.float64).to(dtype)
        buffer = memory[GUARD : GUARD + size].view(shape)
        buffer.fill_(float("nan") if dtype.is_floating_point else -7)
        buffers.append((memory, buffer))
        return buffer

    with monkeypatch.context() as patch:
        patch.setattr(triton_launch, "empty", empty)
        yield buffers
