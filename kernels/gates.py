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

LOG2_E, LN_2 = 1 / math.log(2), math.log(2)

LOG_FORGET_MIN = -1e4
"""Lowest log forget gate: f = -inf would leave inf - inf, and e^-10000 is 0 in every dtype."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockGates:
    """Gate vectors of some rows (chunks of some heads), shaped to multiply [rows, chunk, width]."""

    w: Tensor  # [r, 1, L]: log2 of the weight of what token s writes, plus log2 of the scale of q
    M: Tensor  # [r, L, 1]: log2 of what token t divides by
    k_fix: Tensor  # [r, L, 1]: 2^(w before rounding - w)
    q_fix: Tensor  # [r, L, 1]: 2^(M - M before rounding)
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
    return torch.maximum(highest, start).add_(b), where.masked_fill_(highest <= start, -1)


def log_forget_gate(f: Tensor) -> Tensor:
    """Log of the sigmoid forget gate, in float64, bounded below."""
    return torch.clamp(logsigmoid(f.double()), min=LOG_FORGET_MIN)


def chunk_gates(
    i: Tensor, f: Tensor, m_start: Tensor, chunk: int, scale: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Gate vectors of every chunk, the running maximum after the last token, who attains it.

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
    attained_at : Tensor, shape (batch, heads, time), int64
        Token that attains the running maximum; -1 is the initial state.
    """
    batch, heads, time = i.shape
    n_chunks = -(-time // chunk)
    fill = (0, n_chunks * chunk - time)
    # To base 2: exp2 takes half the time of exp.
    i, m_start = i.double() * LOG2_E, m_start.double() * LOG2_E
    log_forget = log_forget_gate(f).mul_(LOG2_E)
    m, attained_at = _running_maximum(i, log_forget, m_start)
    m_last = m[..., -1]
    if fill[1]:
        i = pad(i, fill, value=-torch.inf)
        log_forget = pad(log_forget, fill)
        m = torch.cat([m, m_last[..., None].expand(*m.shape[:-1], fill[1])], -1)
    i, log_forget, m = (x.view(batch, heads, n_chunks, chunk) for x in (i, log_forget, m))
    b, log_scale = log_forget.cumsum(-1), math.log2(scale)
    start = torch.cat([m_start[..., None], m[..., :-1, -1]], -1)[..., None]  # [B, H, NC, 1]
    out = i.new_empty((N_VECTORS, *i.shape))
    w, M, k_fix, q_fix, floor, keep, write, decay = out.unbind(0)
    torch.sub(i, b, out=w).add_(log_scale)
    torch.sub(m, b, out=M)
    last = M[..., -1:]
    w_rounded, M_rounded = rounded = out[:2].to(dtype)
    torch.sub(w, w_rounded, out=k_fix)
    if fill[1]:
        k_fix.nan_to_num_(nan=0.0)  # a filled token: -inf - -inf
    torch.sub(M_rounded, M, out=q_fix)
    torch.neg(m, out=floor)
    torch.sub(start + log_scale, M_rounded, out=keep)
    torch.sub(w_rounded, last + log_scale, out=write)
    decay.copy_(start - last)
    out[2:].exp2_()
    out[:2] = rounded
    vectors = out.movedim(3, 1).contiguous().to(dtype)
    return vectors, (m_last * LN_2).to(dtype), attained_at


def gate_gradients(
    f: Tensor,
    attained_at: Tensor,
    *,
    dots: Tensor,
    state_dot: Tensor,
    eps: float,
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
    f, attained_at : Tensor, shape (batch, heads, time)
        As in `chunk_gates`.
    dots : Tensor, shape (3, n_chunks, batch, heads, chunk)
        q . dq, k . dk, and r = h . g, which m_t meets through eps.
    state_dot : Tensor, shape (n_chunks, batch, heads)
        X of every chunk.
    eps : float
        Added to the denominator.
    m_last_grad : Tensor, shape (batch, heads), or None
        Gradient of the last m as part of the final state.

    Returns
    -------
    i_grad, f_grad : Tensor, shape (batch, heads, time), float64
    m_start_grad : Tensor, shape (batch, heads), float64
        The part of it that arrives as a maximum.
    """
    batch, heads, time = f.shape
    dots = dots.movedim(1, 3).contiguous().double()
    b_grad = dots[0] - dots[1]  # [B, H, NC, L]
    b_grad[..., -1] += state_dot.movedim(0, 2)
    in_chunk = b_grad.flip(-1).cumsum(-1).flip(-1).flatten(2)[..., :time]
    _, i_grad, r = (x.flatten(2)[..., :time] for x in dots.unbind(0))
    m_grad = r.mul_(-eps)
    m_grad[..., -1] -= state_dot[-1]  # the state's scale: C = e^-m times what does not know m
    if m_last_grad is not None:
        m_grad[..., -1] += m_last_grad
    # One slot before the first token takes what the initial state attains.
    sink = m_grad.new_zeros((batch, heads, time + 1)).scatter_add_(-1, attained_at + 1, m_grad)
    i_from_m = sink[..., 1:]
    from_m = (m_grad - i_from_m).flip(-1).cumsum(-1).flip(-1)
    f_grad = from_m.add_(in_chunk).mul_(torch.sigmoid(-f.double()))
    return i_grad.add_(i_from_m), f_grad, sink[..., 0]
