"""Launch the Triton kernels: strides, buffers and tiles; nothing else.

Buffers of the kernels' own have the time axis filled up to whole chunks, [BH, NC * L], so that
their rows stay aligned whatever T is. Every buffer is written in full; none is cleared first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from allometry.kernels.gates import LOG_FORGET_MIN
from allometry.kernels.tiles import (
    PairTiles,
    StateTiles,
    interpreted_pair_tiles,
    interpreted_state_tiles,
    pair_candidates,
    power_of_two,
    state_candidates,
    step_block,
)
from allometry.kernels.triton_gates import gate_gradients_kernel, gates_kernel, rows_kernel
from allometry.kernels.triton_pairs import pairs_kernel
from allometry.kernels.triton_sizes import (
    INTERPRETED,
    Sizes,
    empty,
    multiprocessors,
    shared_memory_limit,
)
from allometry.kernels.triton_states import state_gradients_kernel, states_kernel
from allometry.kernels.triton_step import step_kernel
from allometry.kernels.tuning import Tuner

_TUNER = Tuner()


def _strided(x: Tensor) -> tuple[Any, ...]:
    """Pointer and the strides of batch, head and time."""
    return (x, *x.stride()[:3])


def _on(device: torch.device) -> Any:
    return torch.cuda.device(device if device.type == "cuda" else -1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gates:
    """Gate vectors of `gates_kernel`, [BH, NC * L]; `_lo` are None unless split."""

    w: Tensor
    w_lo: Tensor | None
    b: Tensor
    b_lo: Tensor | None
    mu: Tensor
    top: Tensor  # largest w and the sum of log forget gates of a chunk, float64, [BH, NC]
    decay: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class States:
    """States at chunk borders, [BH, NC + 1, ...], and after the last token, float32."""

    states: Tensor
    norms: Tensor
    m: Tensor  # float64, base 2
    star: Tensor  # chunk whose token set the last m, -1: the initial state
    C: Tensor
    n: Tensor
    m_last: Tensor


def run_gates(i: Tensor, f: Tensor, sizes: Sizes) -> Gates:
    """Gate vectors of every chunk."""
    vector = [empty(i, sizes.padded, torch.float32) for _ in range(3)]
    lo = [empty(i, sizes.padded, torch.float32) if sizes.split else None for _ in range(2)]
    top, decay = (empty(i, (sizes.rows, sizes.n_chunks), torch.float64) for _ in range(2))
    w, b, mu = vector
    with _on(sizes.device):
        gates_kernel[(sizes.rows * sizes.n_chunks,)](
            i, f, *i.stride(), *f.stride(), w, lo[0], b, lo[1], mu, top, decay,
            sizes.heads, sizes.time, sizes.n_chunks,
            L=sizes.chunk, FORGET_MIN=LOG_FORGET_MIN, SPLIT=sizes.split,
        )  # fmt: skip
    return Gates(w=w, w_lo=lo[0], b=b, b_lo=lo[1], mu=mu, top=top, decay=decay)


def _state_tiles(sizes: Sizes, name: str, launch: Callable[[StateTiles], None]) -> None:
    candidates = state_candidates(
        d_qk=sizes.d_qk,
        d_v=sizes.d_v,
        chunk=sizes.chunk,
        operand_bytes=sizes.operand.itemsize,
        wide_bytes=sizes.wide.itemsize,
        limit=shared_memory_limit(sizes.device),
    )
    if INTERPRETED:
        candidates = (interpreted_state_tiles(sizes.d_qk, sizes.d_v, sizes.chunk),)
    launch(_TUNER.choose(sizes.key(name), candidates, launch, large=sizes.large))


def _state_grid(sizes: Sizes, tiles: StateTiles) -> tuple[int]:
    return (sizes.rows * _parts(sizes, tiles),)


def _parts(sizes: Sizes, tiles: StateTiles) -> int:
    return int(triton.cdiv(sizes.d_qk, tiles.qk) * triton.cdiv(sizes.d_v, tiles.v))


def _state_options(sizes: Sizes, tiles: StateTiles) -> dict[str, Any]:
    blocks = {"D_QK": sizes.d_qk, "D_V": sizes.d_v, "BA": tiles.qk, "BC": tiles.v, "BT": tiles.time}
    return sizes.constants() | blocks | {"num_warps": tiles.warps, "num_stages": tiles.stages}


def run_states(
    k: Tensor, v: Tensor, gates: Gates, state: tuple[Tensor, Tensor, Tensor], sizes: Sizes
) -> States:
    """States at chunk borders and after the last token."""
    rows, borders, d_qk, d_v = sizes.rows, sizes.n_chunks + 1, sizes.d_qk, sizes.d_v
    C0, n0, m0 = (x.to(torch.float32).contiguous() for x in state)
    out = States(
        states=empty(k, (rows, borders, d_qk, d_v), sizes.wide),
        norms=empty(k, (rows, borders, d_qk), torch.float32),
        m=empty(k, (rows, borders), torch.float64),
        star=empty(k, (rows,), torch.int32),
        C=empty(k, (sizes.batch, sizes.heads, d_qk, d_v), torch.float32),
        n=empty(k, (sizes.batch, sizes.heads, d_qk), torch.float32),
        m_last=empty(k, (sizes.batch, sizes.heads), torch.float32),
    )

    def launch(tiles: StateTiles) -> None:
        states_kernel[_state_grid(sizes, tiles)](
            *_strided(k), *_strided(v), gates.w, gates.w_lo, gates.top, gates.decay, C0, n0, m0,
            out.states, out.norms, out.m, out.C, out.n, out.m_last, out.star,
            sizes.heads, sizes.time, sizes.n_chunks, **_state_options(sizes, tiles),
        )  # fmt: skip

    with _on(sizes.device):
        _state_tiles(sizes, "states", launch)
    return out


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """What the backward pass needs of each row: M' and delta of `rows_kernel`, [BH, NC * L]."""

    M: Tensor
    M_lo: Tensor | None
    delta: Tensor | None


def run_rows(
    h: Tensor, h_grad: Tensor, dot: Tensor, gates: Gates, m: Tensor, sizes: Sizes,
    *, normalizer_gradient: bool, eps: float,
) -> Rows:  # fmt: skip
    """M' and delta of every row."""
    M = empty(h, sizes.padded, torch.float32)
    M_lo = empty(h, sizes.padded, torch.float32) if sizes.split else None
    delta = empty(h, sizes.padded, torch.float32) if normalizer_gradient else None
    block = min(16 if INTERPRETED else 32, sizes.chunk)
    with _on(sizes.device):
        rows_kernel[(sizes.rows * sizes.n_chunks * (sizes.chunk // block),)](
            *_strided(h), *_strided(h_grad), dot, gates.b, gates.b_lo, gates.mu, m, M, M_lo, delta,
            sizes.heads, sizes.time, sizes.n_chunks, sizes.rows, eps, sizes.d_qk**-0.5,
            D_V=sizes.d_v, L=sizes.chunk, BT=block, BV=min(128, power_of_two(sizes.d_v)),
            NORM=normalizer_gradient, SPLIT=sizes.split,
        )  # fmt: skip
    return Rows(M=M, M_lo=M_lo, delta=delta)


@dataclass(frozen=True, kw_only=True, slots=True)
class StateGradients:
    """Gradients of the states after every chunk, of the initial state, and X in parts."""

    grads: Tensor
    norm_grads: Tensor
    x: Tensor  # [BH, parts, NC]
    C0: Tensor
    n0: Tensor


def run_state_gradients(
    q: Tensor, h_grad: Tensor, gates: Gates, states: States, rows: Rows,
    end: tuple[Tensor, Tensor] | None, sizes: Sizes,
) -> StateGradients:  # fmt: skip
    """Gradients of the states, from the last chunk to the first."""
    NC, d_qk, d_v = sizes.n_chunks, sizes.d_qk, sizes.d_v
    grads = empty(q, (sizes.rows, NC, d_qk, d_v), sizes.wide)
    norm_grads = empty(q, (sizes.rows, NC, d_qk), torch.float32)
    C0 = empty(q, (sizes.batch, sizes.heads, d_qk, d_v), torch.float32)
    n0 = empty(q, (sizes.batch, sizes.heads, d_qk), torch.float32)
    parts: list[Tensor] = []
    dC, dn = end if end is not None else (None, None)

    def launch(tiles: StateTiles) -> None:
        parts[:] = [empty(q, (sizes.rows, _parts(sizes, tiles), NC), torch.float32)]
        state_gradients_kernel[_state_grid(sizes, tiles)](
            *_strided(q), *_strided(h_grad), rows.M, rows.M_lo, rows.delta, gates.top,
            states.m, states.states, states.norms, dC, dn, grads, norm_grads, parts[0], C0, n0,
            sizes.heads, sizes.time, NC,
            **_state_options(sizes, tiles), NORM=rows.delta is not None, END=end is not None,
        )  # fmt: skip

    with _on(sizes.device):
        _state_tiles(sizes, "state gradients", launch)
    return StateGradients(grads=grads, norm_grads=norm_grads, x=parts[0], C0=C0, n0=n0)


def run_pairs(
    use: str, r: Tensor, x: Tensor, y: Tensor, own: Tensor | None, z: Tensor, n: Tensor | None,
    gates: Gates, m: Tensor, rows: Rows | None, sizes: Sizes, *, eps: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Run the pair kernel for `use` (h, q, k or v; its table says what r, x, y, own, z and n are).

    Returns
    -------
    out : Tensor, shape (batch, heads, time, width of y), dtype of y
    dots : Tensor
        l [BH, NC * L] for h; q . dq or k . dk in parts [BH, parts, NC * L]; empty for v.
    """
    width, out_width = r.shape[-1], y.shape[-1]
    out = empty(y, (sizes.batch, sizes.heads, sizes.time, out_width), y.dtype)
    dots: list[Tensor] = []
    M, M_lo, delta = (rows.M, rows.M_lo, rows.delta) if rows else (None, None, None)
    own = own if own is not None else y

    def launch(tiles: PairTiles) -> None:
        n_out = triton.cdiv(out_width, tiles.outer)
        parts = {"h": 1, "v": 0}.get(use, n_out)
        dots[:] = [empty(y, (sizes.rows, parts, sizes.padded[1]), torch.float32)]
        grid = (sizes.rows * sizes.n_chunks * (sizes.chunk // tiles.rows) * n_out,)
        pairs_kernel[grid](
            *_strided(r), *_strided(x), *_strided(y), *_strided(own), *_strided(out), z, n,
            gates.w, gates.w_lo, M, M_lo, delta, gates.b, gates.b_lo, gates.mu, gates.top, m,
            dots[0],
            sizes.heads, sizes.time, sizes.n_chunks, sizes.d_qk**-0.5, eps,
            USE=use, W=width, Y=out_width, BR=tiles.rows, BX=tiles.columns, BW=tiles.inner,
            BY=tiles.outer, NORM=delta is not None, **sizes.constants(),
            num_warps=tiles.warps, num_stages=tiles.stages,
        )  # fmt: skip

    candidates = pair_candidates(
        width=width,
        out_width=out_width,
        chunk=sizes.chunk,
        operand_bytes=sizes.operand.itemsize,
        wide_bytes=sizes.wide.itemsize,
        state_bytes=sizes.wide.itemsize,
        limit=shared_memory_limit(sizes.device),
    )
    if INTERPRETED:
        candidates = (interpreted_pair_tiles(width, out_width, sizes.chunk),)
    with _on(sizes.device):
        launch(_TUNER.choose(sizes.key(use), candidates, launch, large=sizes.large))
    return out, dots[0]


def run_gate_gradients(
    i: Tensor, f: Tensor, q_dot: Tensor, k_dot: Tensor, x: Tensor, gates: Gates,
    end: Tensor | None, star: Tensor, sizes: Sizes,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of i and f, in their dtypes."""
    shape = (sizes.batch, sizes.heads, sizes.time)
    i_grad, f_grad = empty(i, shape, torch.float32), empty(f, shape, torch.float32)
    with _on(sizes.device):
        gate_gradients_kernel[(sizes.rows * sizes.n_chunks,)](
            f, *f.stride(), i_grad, f_grad, q_dot, k_dot, x, gates.w, gates.mu, end, star,
            sizes.heads, sizes.time, sizes.n_chunks, q_dot.shape[1], k_dot.shape[1], x.shape[1],
            L=sizes.chunk, END=end is not None,
        )  # fmt: skip
    return i_grad.to(i.dtype), f_grad.to(f.dtype)


def run_step(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor,
    state: tuple[Tensor, Tensor, Tensor], *, eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """One token: h and the new C, n, m."""
    batch, heads, d_qk = q.shape
    d_v = v.shape[-1]
    C, n, m = (x.to(torch.float32).contiguous() for x in state)
    h = empty(v, (batch, heads, d_v), v.dtype)
    C_out, n_out, m_out = (empty(x, tuple(x.shape), torch.float32) for x in (C, n, m))
    block = step_block(d_v, 2 * multiprocessors(q.device), batch * heads)
    with _on(q.device):
        step_kernel[(batch * heads * triton.cdiv(d_v, block),)](
            q, *q.stride()[:2], k, *k.stride()[:2], v, *v.stride()[:2], i, *i.stride(),
            f, *f.stride(), C, n, m,
            h, C_out, n_out, m_out, heads, batch * heads, d_qk**-0.5, eps,
            D_QK=d_qk, D_V=d_v, BA=min(128, power_of_two(d_qk)), BC=block,
            FORGET_MIN=LOG_FORGET_MIN, num_warps=4,
        )  # fmt: skip
    return h, C_out, n_out, m_out
