"""Which tiles a kernel may use: a bounded list of candidates, cut to what a device's memory holds.

Pure arithmetic: no torch, no triton, no device. The bytes below are upper bounds of what the
compiler reports; a test compiles the kernels and compares.
"""

from dataclasses import dataclass

MIN_TILE = 16
"""Smallest side of a tensor-core product."""
MAX_HOISTED = 256
"""Widest score vectors that are held whole; wider ones are read block by block."""
CHUNK_SIZES = (16, 32, 64, 128, 256, 512, 1024)
RESERVED_BYTES = 1024
"""Shared memory that the driver keeps per block, and the compiler's small scratch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairTiles:
    """Tiles of the pair kernel: `rows` x `columns` pairs of tokens, widths in blocks.

    Attributes
    ----------
    rows, columns : int
        Tokens of the tile that a program owns, and of the tiles that it walks over.
    inner, outer : int
        Blocks of the score's width and of the output's width.
    warps, stages : int
        Warps of a program, loads in flight.
    """

    rows: int
    columns: int
    inner: int
    outer: int
    warps: int
    stages: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StateTiles:
    """Tiles of the state kernels: a `qk` x `v` part of the state, `time` tokens a step."""

    qk: int
    v: int
    time: int
    warps: int
    stages: int


def power_of_two(value: int) -> int:
    """Smallest power of two that is at least `value`."""
    return 1 << max(0, value - 1).bit_length()


def block(width: int, at_most: int) -> int:
    """Block of a width: a power of two from MIN_TILE to `at_most`, that wastes less than half."""
    return min(at_most, max(MIN_TILE, power_of_two(width)))


def pair_bytes(
    tiles: PairTiles, width: int, operand_bytes: int, wide_bytes: int, state_bytes: int
) -> int:
    """Shared memory of the pair kernel, in bytes.

    Parameters
    ----------
    tiles : PairTiles
    width : int
        Of the score's vectors.
    operand_bytes, wide_bytes, state_bytes : int
        Bytes of an input, of an operand of the second product, and of a stored state.
    """
    stages = max(1, tiles.stages)
    rows, columns = tiles.rows * tiles.inner, tiles.columns * tiles.inner
    summed = tiles.columns * tiles.outer
    border = tiles.inner * tiles.outer * state_bytes
    converted = wide_bytes if wide_bytes > operand_bytes else 0
    if tiles.inner >= width:  # one pass: the rows and the border state stay allocated
        walk = (rows + stages * (columns + summed)) * operand_bytes + border + rows * converted
    else:
        walk = (stages * (rows + columns) + summed) * operand_bytes
    walk += summed * converted
    between = stages * (rows * operand_bytes + border) + rows * converted
    epilogue = tiles.rows * tiles.outer * 4  # a layout change of the accumulator
    return max(walk, between, epilogue) + RESERVED_BYTES


def state_tile_bytes(tiles: StateTiles, operand_bytes: int, wide_bytes: int) -> int:
    """Shared memory of the state kernels, in bytes; arguments as in `pair_bytes`."""
    staged = max(1, tiles.stages) * tiles.time * (tiles.qk + tiles.v) * operand_bytes
    weighted = tiles.time * tiles.qk * wide_bytes
    converted = tiles.time * tiles.v * (wide_bytes if wide_bytes > operand_bytes else 0)
    return max(staged + weighted + converted, tiles.qk * tiles.v * 4) + RESERVED_BYTES


def pair_candidates(
    *,
    width: int,
    out_width: int,
    chunk: int,
    operand_bytes: int,
    wide_bytes: int,
    state_bytes: int,
    limit: int,
) -> tuple[PairTiles, ...]:
    """Candidates of the pair kernel that fit `limit` bytes of shared memory, at least one.

    Parameters
    ----------
    width, out_width : int
        Of the score's vectors and of what is summed.
    chunk : int
        Tokens a chunk, a power of two.
    operand_bytes, wide_bytes, state_bytes
        As in `pair_bytes`.
    limit : int
        Shared memory of one block on the device, bytes.
    """
    inner = (
        *((block(width, MAX_HOISTED),) if width <= MAX_HOISTED else ()),
        block(width, 64),
    )
    found = dict.fromkeys(
        PairTiles(
            rows=min(rows, chunk),
            columns=min(columns, chunk),
            inner=blocks,
            outer=block(out_width, outer),
            warps=warps,
            stages=stages,
        )
        for rows, columns, outer, warps, stages in _PAIR_SHAPES
        for blocks in inner
    )
    fit = tuple(
        tiles
        for tiles in found
        if pair_bytes(tiles, width, operand_bytes, wide_bytes, state_bytes) <= limit
        and tiles.rows * tiles.outer <= 128 * tiles.warps * 32  # 128 registers a thread
    )
    smallest = PairTiles(
        rows=MIN_TILE, columns=MIN_TILE, inner=MIN_TILE, outer=MIN_TILE, warps=1, stages=1
    )
    return fit[:MAX_CANDIDATES] or (smallest,)


MAX_CANDIDATES = 6
"""A first run compiles them all, about a second each, for each of four uses."""
_PAIR_SHAPES = (  # rows, columns, output block, warps, stages
    (64, 64, 128, 4, 2),
    (64, 64, 256, 8, 2),
    (64, 64, 64, 4, 2),
    (128, 64, 128, 8, 2),
    (128, 64, 256, 8, 1),
    (64, 32, 128, 4, 2),
    (64, 32, 128, 4, 3),
    (32, 32, 64, 4, 2),
    (32, 32, 64, 4, 1),
    (32, 16, 32, 2, 1),
)
"""In order of preference."""

_STATE_SHAPES = (  # qk, v, tokens a step, warps, stages
    (64, 64, 64, 4, 3),
    (64, 128, 64, 4, 3),
    (64, 128, 128, 8, 2),
    (128, 128, 64, 8, 2),
    (64, 64, 128, 4, 2),
    (32, 64, 64, 4, 2),
    (32, 32, 32, 2, 1),
)


def state_candidates(
    *,
    d_qk: int,
    d_v: int,
    chunk: int,
    operand_bytes: int,
    wide_bytes: int,
    limit: int,
) -> tuple[StateTiles, ...]:
    """Candidates of the state kernels; arguments as in `pair_candidates`."""
    found = dict.fromkeys(
        StateTiles(
            qk=block(d_qk, qk), v=block(d_v, v), time=min(time, chunk), warps=warps, stages=stages
        )
        for qk, v, time, warps, stages in _STATE_SHAPES
    )
    fit = tuple(x for x in found if state_tile_bytes(x, operand_bytes, wide_bytes) <= limit)
    smallest = StateTiles(qk=MIN_TILE, v=MIN_TILE, time=MIN_TILE, warps=1, stages=1)
    return fit[:MAX_CANDIDATES] or (smallest,)


def interpreted_pair_tiles(width: int, out_width: int, chunk: int) -> PairTiles:
    """Tiles for the CPU interpreter: few, since each costs milliseconds; of unequal sides."""
    rows, columns = min(32, chunk), min(16, chunk)
    inner, outer = block(width, 128), block(out_width, 128)
    return PairTiles(rows=rows, columns=columns, inner=inner, outer=outer, warps=1, stages=1)


def interpreted_state_tiles(d_qk: int, d_v: int, chunk: int) -> StateTiles:
    """Tiles for the CPU interpreter."""
    qk, v = block(d_qk, 128), block(d_v, 64)
    return StateTiles(qk=qk, v=v, time=min(32, chunk), warps=1, stages=1)


def step_block(d_v: int, programs_wanted: int, batch_heads: int) -> int:
    """Columns of the state that one program of the decode step updates.

    Small enough that `batch_heads` times the number of blocks keeps a device busy, wide enough
    that a row of the block is a whole memory transaction (16 floats are 64 bytes).
    """
    size = block(d_v, 64)
    while size > MIN_TILE and batch_heads * -(-d_v // size) < programs_wanted:
        size //= 2
    return size
