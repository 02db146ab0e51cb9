"""How a sequence is cut into chunks and blocks, and the moves between the two layouts."""

from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 64
"""Tokens a chunk by default: pairs cost in proportion to it, states in inverse proportion."""
BLOCK_ROWS = 16
"""Chunks of all heads in one product: enough to hide the calls, few enough for a CPU's cache."""
BLOCK_ELEMENTS = 1 << 18
"""With narrow heads a block has more rows, until its largest operand has as many elements."""
BLOCK_HEADS = 4
"""Heads of one block; the rest goes along time, so that few states are kept. A short sequence that
does not fill a block has more."""

Group = tuple[slice, slice]
"""Part of the batch and of the heads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How (batch, heads, time) is cut into blocks: some heads times some chunks."""

    chunk: int  # tokens a chunk
    n_chunks: int  # chunks of one head; the last may be filled up
    block_chunks: int  # chunks of one head in a block; the last block may have fewer
    columns: int  # d_v, one column of ones, zeros up to a multiple of 8 (a SIMD register)
    groups: tuple[Group, ...]  # the heads of a block; their sizes may differ
    width: int  # heads of the largest group

    def blocks(self) -> list[tuple[int, int]]:
        """First chunk and number of chunks of every block, in order of time."""
        firsts = range(0, self.n_chunks, self.block_chunks)
        return [(first, min(self.block_chunks, self.n_chunks - first)) for first in firsts]


def _slices(length: int, at_most: int) -> list[slice]:
    """Cut `range(length)` into even slices."""
    if length == 0:
        return []
    size = -(-length // -(-length // at_most))
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def default_chunk_size(time: int) -> int:
    """Tokens a chunk: at most CHUNK, and as even over the sequence as whole tokens allow."""
    return -(-time // -(-time // CHUNK))


def plan_chunks(q: Tensor, v: Tensor, chunk_size: int) -> Plan:
    """Cut the inputs into chunks of at most `chunk_size` and blocks that fill a cache."""
    batch, heads, time, _ = q.shape
    chunk = min(chunk_size, time)
    n_chunks = -(-time // chunk)
    columns = -(-(v.shape[-1] + 1) // 8) * 8
    rows = max(BLOCK_ROWS, BLOCK_ELEMENTS // ((chunk + q.shape[-1]) * columns))
    at_once = max(BLOCK_HEADS, rows // n_chunks)
    groups = tuple(
        (b, h)
        for b in _slices(batch, max(1, at_once // max(1, heads)))
        for h in _slices(heads, at_once)
    )
    width = max((group_size(group) for group in groups), default=1)
    return Plan(
        chunk=chunk,
        n_chunks=n_chunks,
        block_chunks=min(n_chunks, max(1, rows // width)),
        columns=columns,
        groups=groups,
        width=width,
    )


def group_shape(group: Group) -> tuple[int, int]:
    """Batch rows and heads of a group."""
    batch, heads = group
    return batch.stop - batch.start, heads.stop - heads.start


def group_size(group: Group) -> int:
    """Heads of a group over all its batch rows."""
    batch, heads = group_shape(group)
    return batch * heads


class Chunked:
    """A (batch, heads, time, width) tensor of any strides, read and written by blocks of chunks.

    Buffers are (chunks, batch, heads, chunk, width). Behind the end, zeros are read and nothing is
    written.
    """

    def __init__(self, tensor: Tensor, plan: Plan) -> None:
        batch, heads, time, width = tensor.shape
        n_full, self.rest = divmod(time, plan.chunk)
        b, h, t, w = tensor.stride()
        shape = (n_full, batch, heads, plan.chunk, width)
        full = tensor.as_strided(shape, (plan.chunk * t, b, h, t, w))
        self.blocks = full.split(plan.block_chunks)
        if self.rest:
            self.tail = tensor[:, :, time - self.rest :]  # [B, H, rest, w]
            if n_full % plan.block_chunks == 0:
                self.blocks = (*self.blocks, full[n_full:])

    def load(self, to: Tensor, index: int, *, times: Tensor | None = None) -> None:
        """Copy a block to a buffer, times another."""
        block = self.blocks[index]
        if block.shape[0] == to.shape[0]:
            _write(to, block, times)
            return
        _write(to[:-1], block, None if times is None else times[:-1])
        _write(to[-1, :, :, : self.rest], self.tail, self._tail_of(times))
        to[-1, :, :, self.rest :].zero_()

    def store(self, of: Tensor, index: int, *, times: Tensor | None = None) -> None:
        """Copy a buffer, times another, to a block."""
        block = self.blocks[index]
        if block.shape[0] == of.shape[0]:
            _write(block, of, times)
            return
        _write(block, of[:-1], None if times is None else times[:-1])
        _write(self.tail, of[-1, :, :, : self.rest], self._tail_of(times))

    def _tail_of(self, times: Tensor | None) -> Tensor | None:
        return None if times is None else times[-1, :, :, : self.rest]


def _write(to: Tensor, of: Tensor, factor: Tensor | None) -> None:
    # One pass: to = of * factor, in the dtype of `to`.
    if factor is None:
        to.copy_(of)
    else:
        torch.mul(of, factor, out=to)
