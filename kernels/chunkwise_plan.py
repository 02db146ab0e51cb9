"""How a sequence is cut into chunks and blocks, and the moves between the two layouts."""

from collections.abc import Iterator
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

    @property
    def n_blocks(self) -> int:
        """Blocks of one head."""
        return -(-self.n_chunks // self.block_chunks)

    def blocks(self) -> Iterator[tuple[int, int, int]]:
        """Index, first chunk and number of chunks of every block, in order of time."""
        for index in range(self.n_blocks):
            first = index * self.block_chunks
            yield index, first, min(self.block_chunks, self.n_chunks - first)


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


def by_chunk(rows: Tensor, heads: int) -> tuple[Tensor, ...]:
    """View rows (chunks * heads, ...) as one tensor (heads, ...) a chunk."""
    return torch.unbind(rows.view(-1, heads, *rows.shape[1:]))


class Chunked:
    """A (batch, heads, time, width) tensor of any strides, read and written by whole chunks.

    Buffers are (chunks * batch * heads, chunk, width). Behind the end, zeros are read and nothing
    is written.
    """

    def __init__(self, tensor: Tensor, chunk: int) -> None:
        batch, heads, time, width = tensor.shape
        self.n_full, self.rest = divmod(time, chunk)
        self.flat = (batch, heads, chunk)
        self.tail = tensor[:, :, time - self.rest :]  # [B, H, rest, w]
        whole = tensor[:, :, : time - self.rest] if self.rest else tensor
        b, h, t, w = tensor.stride()
        shape = (self.n_full, batch, heads, chunk, width)
        self.full = whole.as_strided(shape, (chunk * t, b, h, t, w))

    def load(
        self, buffer: Tensor, first: int, n_chunks: int, *, times: Tensor | None = None
    ) -> Tensor:
        """Copy chunks first ... first + n_chunks to `buffer`, times a buffer; return it."""
        here = self._shaped(buffer, n_chunks)
        factor = None if times is None else self._shaped(times, n_chunks)
        n_full = min(n_chunks, self.n_full - first)
        if n_full == n_chunks:
            _write(here, self._at(first, n_chunks), factor)
            return buffer
        _write(here[:n_full], self._at(first, n_full), factor)
        _write(here[-1, :, :, : self.rest], self.tail, factor, tail=True)
        here[-1, :, :, self.rest :].zero_()
        return buffer

    def store(
        self, buffer: Tensor, first: int, n_chunks: int, *, times: Tensor | None = None
    ) -> None:
        """Copy `buffer`, times a buffer, to chunks first ... first + n_chunks."""
        here = self._shaped(buffer, n_chunks)
        factor = None if times is None else self._shaped(times, n_chunks)
        n_full = min(n_chunks, self.n_full - first)
        if n_full == n_chunks:
            _write(self._at(first, n_chunks), here, factor)
            return
        _write(self._at(first, n_full), here[:n_full], factor)
        _write(self.tail, here[-1, :, :, : self.rest], factor, tail=True)

    def _at(self, first: int, n_chunks: int) -> Tensor:
        return self.full if n_chunks == self.n_full else self.full[first : first + n_chunks]

    def _shaped(self, buffer: Tensor, n_chunks: int) -> Tensor:
        # [rows, L, w] as [NC, B, H, L, w]
        return buffer.view(n_chunks, *self.flat, buffer.shape[-1])


def _write(to: Tensor, of: Tensor, factor: Tensor | None, *, tail: bool = False) -> None:
    # One pass: to = of * factor, in the dtype of `to`; `factor` covers whole chunks.
    if factor is None:
        to.copy_(of)
        return
    if tail:
        factor = factor[-1, :, :, : to.shape[-2]]
    elif factor.shape[0] != to.shape[0]:
        factor = factor[: to.shape[0]]
    torch.mul(of, factor, out=to)
