"""Tensors by rows, buffers of a block, and what the forward pass keeps for the backward.

Letters in the shapes: r rows, a row being one chunk of one head; L tokens a chunk, a = d_qk and
c = d_v.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from allometry.kernels.chunkwise_plan import Block, Plan


class Kept(NamedTuple):
    """What of the forward pass the backward pass reads, for all rows."""

    C_start: Tensor  # [heads of the whole batch, a, c]: initial state, or nothing of it
    n_start: Tensor  # [heads of the whole batch, a]
    C: Tensor  # [r, a, c]: state behind every chunk
    n: Tensor  # [r, a]
    P: Tensor  # [r, L, L]: weighed products of queries and keys
    D: Tensor  # [r, L, L]: weight of token s at t over their product
    dot: Tensor  # [r, L, 1]: s q . n, of which the denominator is made


class KeptSize(NamedTuple):
    """How much is kept."""

    starts: int  # heads of the whole batch, or 0
    rows: int
    chunk: int
    d_qk: int
    d_v: int

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the fields of `Kept`."""
        pair = (self.rows, self.chunk, self.chunk)
        states = ((number, *of) for number in (self.starts, self.rows) for of in self._state())
        return (*states, pair, pair, (self.rows, self.chunk, 1))

    def _state(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (self.d_qk, self.d_v), (self.d_qk,)

    def total(self) -> int:
        """Elements of all of it."""
        return sum(math.prod(shape) for shape in self.shapes())

    def fields(self, memory: Tensor) -> Kept:
        """Views of one allocation: what is freed in pieces goes back to the system."""
        shapes = self.shapes()
        parts = memory.split_with_sizes([math.prod(shape) for shape in shapes])
        return Kept(*(part.view(shape) for part, shape in zip(parts, shapes, strict=True)))


def operands(like: Tensor, plan: Plan, *widths: int) -> list[Tensor]:
    """Room for operands of a block, [r, L, width] each.

    One allocation, because what is freed in many pieces goes back to the system and is fetched page
    by page at the next call.
    """
    sizes = [plan.most_rows * plan.chunk * width for width in widths]
    parts = like.new_empty(sum(sizes)).split_with_sizes(sizes)
    return [part.view(-1, plan.chunk, w) for part, w in zip(parts, widths, strict=True)]


class Rows:
    """A (batch, heads, time, width) tensor of any strides and dtype, read and written by rows.

    Where it can it is used in place; else it goes through a buffer. Behind the end, zeros are read
    and nothing is written.
    """

    def __init__(self, tensor: Tensor, plan: Plan, dtype: torch.dtype) -> None:
        self._tensor, self._chunk, self._most = tensor, plan.chunk, plan.most_rows
        self._dtype = dtype
        time = tensor.shape[2]
        self._whole = time % plan.chunk == 0
        direct = self._whole and tensor.dtype == dtype and tensor.is_contiguous()
        self._rows = tensor.view(-1, plan.chunk, tensor.shape[-1]) if direct else None
        self._buffer: Tensor | None = None

    def rows(self, block: Block) -> Tensor:
        """The block's rows [r, L, width], to be read."""
        if self._rows is not None:
            return self._rows[block.rows]
        room = self.room(block)
        self.read(block, room)
        return room

    def room(self, block: Block, spare: Tensor | None = None) -> Tensor:
        """Where to write the block's rows, before `close`; `spare` is a buffer that is free."""
        if self._rows is not None:
            return self._rows[block.rows]
        if spare is not None:
            return spare
        if self._buffer is None:
            shape = (self._most, self._chunk, self._tensor.shape[-1])
            self._buffer = self._tensor.new_empty(shape, dtype=self._dtype)
        return self._buffer[: block.n_heads * block.n_chunks]

    def close(self, block: Block, room: Tensor) -> None:
        """Bring what was written to `room` where it belongs."""
        if self._rows is None:
            self.write(block, room)

    def read(self, block: Block, to: Tensor, times: Tensor | None = None) -> None:
        """Copy the block's rows to `to`, [r, L, width], times another."""
        if self._rows is not None:
            _move(to, self._rows[block.rows], times)
            return
        for here, there, factor in self._pieces(block, to, times):
            _move(there, here, factor)
        if block.ends and not self._whole:
            to.unflatten(0, (-1, block.n_chunks))[:, -1, self._rest() :].zero_()

    def write(self, block: Block, of: Tensor, times: Tensor | None = None) -> None:
        """Copy `of`, [r, L, width], times another, to the block's rows."""
        if self._rows is not None:
            _move(self._rows[block.rows], of, times)
            return
        for here, there, factor in self._pieces(block, of, times):
            _move(here, there, factor)

    def _rest(self) -> int:
        return self._tensor.shape[2] % self._chunk

    def _pieces(
        self, block: Block, rows: Tensor, times: Tensor | None
    ) -> list[tuple[Tensor, Tensor, Tensor | None]]:
        """Whole chunks of the tensor and of rows, then the last one if it is filled up."""
        L, m = self._chunk, block.n_chunks
        lead = (block.batch.stop - block.batch.start, -1, m)
        mine, rows = self._tensor[block.batch, block.heads], rows.unflatten(0, lead)
        factor = None if times is None else times.unflatten(0, lead)
        first, last = block.chunks.start * L, block.chunks.stop * L
        if not block.ends or self._whole:
            return [(mine[:, :, first:last].unflatten(2, (m, L)), rows, factor)]
        full, rest = mine[:, :, first : last - L].unflatten(2, (m - 1, L)), mine[:, :, last - L :]
        end = rest.shape[2]
        return [
            (full, rows[:, :, :-1], None if factor is None else factor[:, :, :-1]),
            (rest, rows[:, :, -1, :end], None if factor is None else factor[:, :, -1, :end]),
        ]


def _move(to: Tensor, of: Tensor, factor: Tensor | None) -> None:
    # To = of * factor, in the dtype of `to`. From another dtype two passes are faster than one.
    if factor is None:
        to.copy_(of)
    elif to.dtype == of.dtype or to.element_size() < of.element_size():
        torch.mul(of, factor, out=to)
    else:
        to.copy_(of).mul_(factor)
