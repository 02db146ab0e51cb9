"""How a sequence is cut into chunks and blocks."""

from dataclasses import dataclass
from functools import lru_cache

CHUNK = 64
"""Tokens a chunk by default: pairs cost in proportion to it, states in inverse proportion."""
BLOCK_ROWS = 16
"""Chunks of all heads in one block: enough to hide the calls, few enough for a CPU's cache."""
BLOCK_ELEMENTS = 9 << 17
"""With narrow heads a block has more rows, until its largest operand has as many elements."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """All chunks of some heads, or some chunks of one head.

    A row is one chunk of one head. In a line they are (batch, heads, chunks), and a block is a
    stretch of it.
    """

    rows: slice
    batch: slice
    heads: slice  # of each of these batch rows
    line: slice  # the same heads in a line, (batch, heads)
    chunks: slice
    n_heads: int  # over all its batch rows
    n_chunks: int  # of one head
    starts: bool  # with the first chunk
    ends: bool  # with the last


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How (batch, heads, time) is cut into blocks."""

    chunk: int  # tokens a chunk
    n_chunks: int  # chunks of one head; the last may be filled up
    blocks: tuple[Block, ...]  # those of one head in order of time
    most_rows: int  # of a block
    most_states: int  # of a block: before every chunk, and behind the last of each head


def default_chunk_size(time: int) -> int:
    """Tokens a chunk: at most CHUNK, and as even over the sequence as whole tokens allow."""
    return -(-time // -(-time // CHUNK))


def cut(time: int, chunk_size: int) -> tuple[int, int]:
    """Tokens a chunk, and how many chunks of at most `chunk_size` a sequence has."""
    chunk = min(chunk_size, time)
    return chunk, -(-time // chunk)


@lru_cache(maxsize=64)
def plan_chunks(batch: int, heads: int, time: int, d_qk: int, d_v: int, chunk_size: int) -> Plan:
    """Cut a sequence into chunks of at most `chunk_size` and blocks that fill a cache."""
    chunk, n_chunks = cut(time, chunk_size)
    rows = max(BLOCK_ROWS, BLOCK_ELEMENTS // ((chunk + d_qk) * d_v))
    block_chunks = -(-n_chunks // -(-n_chunks // rows))
    block_heads = _heads_at_once(max(1, rows // n_chunks), heads) if heads else 1
    blocks = tuple(
        _block(head, min(block_heads, batch * heads - head), first, block_chunks, heads, n_chunks)
        for head in range(0, batch * heads, block_heads)
        for first in range(0, n_chunks, block_chunks)
    )
    return Plan(
        chunk=chunk,
        n_chunks=n_chunks,
        blocks=blocks,
        most_rows=max((block.n_heads * block.n_chunks for block in blocks), default=1),
        most_states=max((block.n_heads * (block.n_chunks + 1) for block in blocks), default=1),
    )


def _heads_at_once(at_most: int, heads: int) -> int:
    """Heads of a block: whole batch rows, or an even part of one."""
    if at_most >= heads:
        return at_most // heads * heads
    return next(n for n in range(at_most, 0, -1) if heads % n == 0)


def _block(head: int, n_heads: int, first: int, at_most: int, heads: int, n_chunks: int) -> Block:
    """Heads from `head` on in the line of all, chunks from `first` on."""
    last = min(first + at_most, n_chunks)
    row = head * n_chunks + first
    b, h = divmod(head, heads)
    return Block(
        rows=slice(row, row + n_heads * (last - first)),
        batch=slice(b, b + max(1, n_heads // heads)),
        heads=slice(h, h + min(n_heads, heads)),
        line=slice(head, head + n_heads),
        chunks=slice(first, last),
        n_heads=n_heads,
        n_chunks=last - first,
        starts=first == 0,
        ends=last == n_chunks,
    )
