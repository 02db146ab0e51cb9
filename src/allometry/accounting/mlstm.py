"""FLOPs and bytes of the mLSTM cell, chunkwise and recurrent, and the chunk sizes that suit it.

Letters as in the literature: a and c are the widths of a query/key and of a value head, L the
tokens of a chunk. Every scalar operation (exp, log, max, product) counts 1, a multiply-add 2.
"""

import math
from collections.abc import Callable
from typing import Literal, get_args

from allometry.accounting.shapes import XLSTMShape
from allometry.errors import InputError

MLSTMCount = Literal["first", "tfla"]
"""How the chunkwise cell is counted: the study's first count (all L^2 scores of a chunk), or by the
tiled kernel's schedule ("tfla": 3/4 of the scores once a chunk is longer than a 64-token tile)."""


def mlstm_forward_flops(
    shape: XLSTMShape, context_length: int, *, count: MLSTMCount = "first"
) -> float:
    """Forward FLOPs of the mLSTM cell of one block on one sequence, all heads.

    Parameters
    ----------
    shape : XLSTMShape
        Its `chunk_size` is the chunk counted; a last, shorter chunk is counted at its own length.
    context_length : int
        Tokens in the sequence.
    count : {"first", "tfla"}
        See `MLSTMCount`. Both agree in the leading terms.
    """
    if count not in get_args(MLSTMCount):
        raise InputError(f"mlstm must be one of {', '.join(get_args(MLSTMCount))}, got {count!r}")
    a, c = shape.head_dim_qk, shape.head_dim_v

    def chunk(L: int) -> float:
        if count == "first":
            return float(_first_chunk_flops(a, c, L))
        return L * mlstm_flops_per_token(a, c, L, causal_factor=_tfla_factor(L))

    return shape.n_heads * over_chunks(chunk, shape.chunk_size, context_length)


def mlstm_backward_flops(
    shape: XLSTMShape, context_length: int, *, count: MLSTMCount = "first"
) -> float:
    """Backward FLOPs of the cell of one block on one sequence, by its matrix products.

    States are recomputed and their gradient is a second recurrence; inside a chunk five products
    (scores again, dS, dV, dQ, dK), between chunks three (dQ, dK, dV). Scalar work is left out, so
    this is 2.33 to 2.5 x the matrix products of the forward pass, where "twice" says 2.
    """
    a, c = shape.head_dim_qk, shape.head_dim_v

    def chunk(L: int) -> float:
        factor = _tfla_factor(L) if count == "tfla" else 1.0
        return 4.0 * a * c + 10.0 * L * a * c + factor * L * L * (6 * a + 4 * c)

    return shape.n_heads * over_chunks(chunk, shape.chunk_size, context_length)


def mlstm_flops_per_token(
    head_dim_qk: int, head_dim_v: int, chunk_size: int, *, causal_factor: float = 0.75
) -> float:
    """Forward FLOPs of the chunkwise cell, per token and head.

    Parameters
    ----------
    head_dim_qk, head_dim_v, chunk_size : int
        a, c and L.
    causal_factor : float
        Share of the L x L scores of a chunk that are computed; see `causal_factor`.

    Examples
    --------
    >>> round(mlstm_flops_per_token(128, 256, 64))
    170707
    """
    a, c, L, phi = head_dim_qk, head_dim_v, chunk_size, causal_factor
    once_a_chunk = (2 * a * c + 2 * a + 5) / L
    every_token = 4 * a * c + 6 * a + 2 * c + 13 + 2 * phi
    return once_a_chunk + every_token + L * (1 + phi * (2 * a + 2 * c + 8))


def mlstm_step_flops(head_dim_qk: int, head_dim_v: int) -> int:
    """FLOPs of one recurrent step, per head: gates 9, state 4ac, denominator, output.

    Examples
    --------
    >>> mlstm_step_flops(8, 16)
    852
    """
    a, c = head_dim_qk, head_dim_v
    return 9 + 4 * a * c + (6 * a + c + 3) + (2 * a * c + a)


def mlstm_bytes_per_token(
    head_dim_qk: int,
    head_dim_v: int,
    chunk_size: int | None,
    *,
    activation_bytes: int = 2,
    state_bytes: int = 4,
) -> float:
    """Bytes the chunkwise forward moves, per token and head.

    Queries, keys and values are read by the state kernel and again by the output kernel; gates are
    read, outputs, normaliser and maximum written; each chunk's state is written and read once.
    Without a chunk size (None), the states are left out.

    Examples
    --------
    >>> mlstm_bytes_per_token(128, 256, 64)
    6432.125
    """
    a, c = head_dim_qk, head_dim_v
    per_token = float(activation_bytes * (3 * a + 3 * c + 4) + 2 * state_bytes)
    if chunk_size is None:
        return per_token
    return per_token + 2 * state_bytes * (a * c + a + 1) / chunk_size


def optimal_chunk_size(head_dim_qk: int, head_dim_v: int, *, causal_factor: float = 0.75) -> float:
    """Chunk length that minimises `mlstm_flops_per_token`, as a real number.

    Far below what runs fast: short chunks move more bytes (`mlstm_bytes_per_token`).

    Examples
    --------
    >>> round(optimal_chunk_size(128, 256), 1)
    10.6
    """
    a, c, phi = head_dim_qk, head_dim_v, causal_factor
    return math.sqrt((2 * a * c + 2 * a + 5) / (1 + phi * (2 * a + 2 * c + 8)))


def causal_factor(chunk_size: int, tile_size: int = 64) -> float:
    """Share of a chunk's scores that lie in tiles on or below the diagonal.

    Examples
    --------
    >>> causal_factor(64), causal_factor(128), causal_factor(256)
    (1.0, 0.75, 0.625)
    """
    tile = min(tile_size, chunk_size)
    return (1 + tile / chunk_size) / 2


def _tfla_factor(L: int) -> float:
    return 0.75 if L > 64 else 1.0  # the study fixes 3/4; exact for L = 128 only


def _first_chunk_flops(a: int, c: int, L: int) -> int:
    triangle = L * (L + 1) // 2
    state = 2 * a * c + 4 * L * a * c + 3 * L * a + 2 * a + 4 * L * a
    gates = (triangle + 2 * L) + (5 + 5 * L)
    inside = triangle + L * L * (10 + 2 * a + 2 * c) + 2 * L
    combination = 2 * L + 5 * L + 2 * L * c
    return state + gates + inside + combination


def over_chunks(chunk: Callable[[int], float], chunk_size: int, context_length: int) -> float:
    """Sum of `chunk` (FLOPs of a chunk of L tokens) over a sequence; a shorter one may be last."""
    whole, rest = divmod(context_length, chunk_size)
    total = whole * chunk(chunk_size)
    return total + chunk(rest) if rest else total
