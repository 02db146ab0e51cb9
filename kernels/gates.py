r"""Gate vectors of the chunkwise form, and the way back from their gradients.

With :math:`\ell_t = \log\sigma(f_t)`, its sum b_t from the start of t's chunk, and the running
maximum :math:`m_t = \max(\ell_t + m_{t-1}, i_t)`, everything a chunk needs is one of two vectors:

.. math:: w_s = i_s - b_s, \qquad M_t = m_t - b_t

weight of token s in the output at t: exp(w_s - M_t), at most 1; of the state at the chunk's start:
exp(m_start - M_t); of both in the state at the chunk's end: the same with t the last token. So the
T x T matrix of log gates never exists, nor does a maximum over it.

All of it has T entries, not T x width, and is computed in float64: a sequence-long sum in float32
would lose the digits that tell two tokens apart. After a document reset (f = -25) both w and M are
large and their float32 rounding alone would cost 1e-5 of a weight; so what rounding takes from them
goes, as a factor near 1, to k and q.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, pad

LOG_FORGET_MIN = -1e4
"""Lowest log forget gate: f = -inf would leave inf - inf, and e^-10000 is 0 in every dtype."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockGates:
    """Gate vectors of some rows (chunks of some heads), shaped to multiply [rows, chunk, width]."""

    w: Tensor  # [r, 1, L]: log weight of what token s writes, plus log of the scale of q
    M: Tensor  # [r, L, 1]: log of what token t divides by
    k_fix: Tensor  # [r, L, 1]: e^(w before rounding - w)
    q_fix: Tensor  # [r, L, 1]: e^(M - M before rounding)
    floor: Tensor  # [r, L]: e^-m, the smallest denominator
    keep: Tensor  # [r, L, 1]: weight of the chunk's start state at t, times the scale, over q_fix
    write: Tensor  # [r, L, 1]: weight of token s in the chunk's end state, over k_fix
    decay: Tensor  # [r, 1, 1]: weight of the start state in the end state


N_VECTORS = 8
"""Gate vectors a chunk: the fields of `BlockGates`, in their order."""


def block_gates(vectors: Tensor) -> BlockGates:
    """Shape vectors (N_VECTORS, rows, chunk)."""
    w, M, k_fix, q_fix, floor, keep, write, decay = vectors.unbind(0)
    return BlockGates(
        w=w[:, None],
        M=M[..., None],
        k_fix=k_fix[..., None],
        q_fix=q_fix[..., None],
        floor=floor,
        keep=keep[..., None],
        write=write[..., None],
        decay=decay[:, :1, None],
    )


def _running_maximum(i: Tensor, log_forget: Tensor, m_start: Tensor) -> tuple[Tensor, Tensor]:
    """Return m of every token, and which token attains it; -1 stands for the initial state."""
    b = log_forget.cumsum(-1)
    highest, where = (i - b).cummax(-1)
    start = m_start[..., None]
    return b + torch.maximum(highest, start), torch.where(highest > start, where, -1)


def log_forget_gate(f: Tensor) -> Tensor:
    """Log of the sigmoid forget gate, in float64, bounded below."""
    return torch.clamp(logsigmoid(f.double()), min=LOG_FORGET_MIN)


def chunk_gates(
    i: Tensor, f: Tensor, m_start: Tensor, chunk: int, scale: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Gate vectors of every chunk, and the running maximum after the last token.

    The last chunk is filled up with tokens that write nothing (w = -inf) and forget nothing.

    Parameters
    ----------
    i, f : Tensor, shape (batch, heads, time)
        Pre-activations.
    m_start : Tensor, shape (batch, heads)
        Running maximum of the initial state.
    chunk : int
        Tokens a chunk.
    scale : float
        d_qk^(-1/2); folded into `w` and `keep`, where it costs nothing.
    dtype : torch.dtype
        Of the result.

    Returns
    -------
    vectors : Tensor, shape (N_VECTORS, n_chunks, batch, heads, chunk)
        Fields of `BlockGates`; the decay is repeated along the chunk.
    m_last : Tensor, shape (batch, heads)
    """
    time = i.shape[-1]
    n_chunks = -(-time // chunk)
    fill = (0, n_chunks * chunk - time)
    i, m_start, log_forget = i.double(), m_start.double(), log_forget_gate(f)
    m, _ = _running_maximum(i, log_forget, m_start)
    m_last = m[..., -1]
    if fill[1]:
        i = pad(i, fill, value=-torch.inf)
        log_forget = pad(log_forget, fill)
        m = torch.cat([m, m_last[..., None].expand(*m.shape[:-1], fill[1])], -1)

    def chunked(x: Tensor) -> Tensor:  # [B, H, T] -> [NC, B, H, L]
        return x.view(*x.shape[:2], n_chunks, chunk).movedim(2, 0)

    b, m = chunked(log_forget).cumsum(-1), chunked(m)
    start = torch.cat([m_start[None], m[:-1, ..., -1]])[..., None]  # [NC, B, H, 1]
    log_scale = math.log(scale)
    exact, M_exact = chunked(i).sub(b).add_(log_scale), m - b
    last = M_exact[..., -1:]
    out = i.new_empty((N_VECTORS, n_chunks, *i.shape[:2], chunk))
    w, M, k_fix, q_fix, floor, keep, write, decay = out.unbind(0)
    w.copy_(exact.to(dtype))
    M.copy_(M_exact.to(dtype))
    torch.sub(exact, w, out=k_fix).nan_to_num_(nan=0.0)  # a filled token: -inf - -inf
    torch.sub(M, M_exact, out=q_fix)
    torch.neg(m, out=floor)
    torch.sub(start + log_scale, M, out=keep)
    torch.sub(w - log_scale, last, out=write)
    decay.copy_(start - last)
    out[2:].exp_()
    return out.to(dtype), m_last.to(dtype)


def gate_gradients(
    i: Tensor,
    f: Tensor,
    m_start: Tensor,
    *,
    q_dot: Tensor,
    k_dot: Tensor,
    state_dot: Tensor,
    eps_dot: Tensor,
    m_last_grad: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Gradients of the gates from dot products of the other gradients.

    Every weight is exp(b_t - b_s + i_s) up to m, which cancels but for eps. Hence
    :math:`\delta i_s = k_s \cdot \delta k_s` and, inside a chunk,
    :math:`\delta\ell_r = \sum_{t \ge r} (q_t \cdot \delta q_t - k_t \cdot \delta k_t) + X` with X
    the product of the chunk's end state and its gradient. What does reach m goes to the token that
    attains the maximum.

    Parameters
    ----------
    i, f, m_start : Tensor
        As in `chunk_gates`.
    q_dot, k_dot : Tensor, shape (n_chunks, batch, heads, chunk)
        q . dq and k . dk.
    state_dot : Tensor, shape (n_chunks, batch, heads)
        X of every chunk.
    eps_dot : Tensor, shape (n_chunks, batch, heads, chunk)
        Gradient of m_t through eps.
    m_last_grad : Tensor, shape (batch, heads), or None
        Gradient of the last m as part of the final state.

    Returns
    -------
    i_grad, f_grad : Tensor, shape (batch, heads, time), float64
    m_start_grad : Tensor, shape (batch, heads), float64
        The part of it that arrives as a maximum.
    """
    time = i.shape[-1]
    i_grad = k_dot.double()
    b_grad = q_dot.double() - i_grad
    b_grad[..., -1] += state_dot
    log_forget_grad = b_grad.flip(-1).cumsum(-1).flip(-1)

    def joined(x: Tensor) -> Tensor:  # [NC, B, H, L] -> [B, H, T]
        return x.movedim(0, 2).flatten(2)[..., :time]

    log_forget = log_forget_gate(f)
    _, attained_at = _running_maximum(i.double(), log_forget, m_start.double())
    m_grad = joined(eps_dot.double())
    m_grad[..., -1] -= state_dot[-1]  # the state's scale: C = e^-m times what does not know m
    if m_last_grad is not None:
        m_grad[..., -1] += m_last_grad
    # One slot before the first token takes what the initial state attains.
    sink = m_grad.new_zeros((*m_grad.shape[:-1], time + 1)).scatter_add_(
        -1, attained_at + 1, m_grad
    )
    i_from_m = sink[..., 1:]
    log_forget_from_m = (m_grad - i_from_m).flip(-1).cumsum(-1).flip(-1)
    log_forget_grad = joined(log_forget_grad) + log_forget_from_m
    f_grad = log_forget_grad * torch.sigmoid(-f.double())
    return joined(i_grad) + i_from_m, f_grad, sink[..., 0]
