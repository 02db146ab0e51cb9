r"""Gate vectors of the chunkwise form, and the way back from their gradients.

With :math:`\ell_t = \log\sigma(f_t)`, its sum b_t from the start of t's chunk, and the running
maximum :math:`m_t = \max(\ell_t + m_{t-1}, i_t)`, everything a chunk needs is one of two vectors:

.. math:: w_s = i_s - b_s, \qquad M_t = m_t - b_t

weight of token s in the output at t: exp(w_s - M_t), at most 1; of the state at the chunk's start:
exp(m_start - M_t); of both in the state at the chunk's end: the same with t the last token. So the
T x T matrix of log gates never exists, nor does a maximum over it.

All of it has T entries, not T x width, and is computed in float64: a sequence-long sum in float32
would lose the digits that tell two tokens apart. After a document reset (f = -25) both w and M are
large and their float32 rounding alone would cost 1e-5 of a weight. What rounding takes from w goes,
as a factor near 1, to the weights of pairs; what it takes from M is common to all that token t
reads, its denominator too, and goes to the smallest denominator.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, pad

LOG2_E, LN_2 = 1 / math.log(2), math.log(2)

LOG_FORGET_MIN = -1e4
"""Lowest log forget gate: f = -inf would leave inf - inf, and e^-10000 is 0 in every dtype."""


class BlockGates(NamedTuple):
    """Gate vectors of some rows, (rows, L, 1), to multiply (rows, L, width); L tokens a chunk."""

    w: Tensor  # log2 of the weight of what token s writes
    N: Tensor  # -M, log2 of one over what token t divides by, plus that of q's scale
    fix: Tensor  # 2^(w before rounding - w)
    floor: Tensor  # e^-m, the smallest denominator, times 2^(N - N before rounding)
    keep: Tensor  # weight of the chunk's start state at t, times the scale
    write: Tensor  # weight of token s in the chunk's end state
    decay: Tensor  # weight of the start state in the end state, L times the same


N_VECTORS = 7
"""Gate vectors a chunk: the fields of `BlockGates`, in their order."""


def _running_maximum(i: Tensor, log_forget: Tensor, m_start: Tensor) -> tuple[Tensor, Tensor]:
    """Return m of every token, and which token attains it; -1 stands for the initial state."""
    b = log_forget.cumsum(-1)
    highest, where = (i - b).cummax(-1)
    where.masked_fill_(highest <= m_start, -1)
    return torch.maximum(highest, m_start).add_(b), where


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
        d_qk^(-1/2); folded into `N` and `keep`, where it costs nothing.
    dtype : torch.dtype
        Of the result.

    Returns
    -------
    vectors : Tensor, shape (N_VECTORS, batch, heads, n_chunks, chunk)
        Fields of `BlockGates`; the decay is repeated along the chunk.
    m_last : Tensor, shape (batch, heads)
    attained_at : Tensor, shape (batch, heads, time), int64
        Token that attains the running maximum; -1 is the initial state.
    """
    batch, heads, time = i.shape
    n_chunks, log_scale = -(-time // chunk), math.log2(scale)
    filled = n_chunks * chunk - time
    # To base 2: exp2 takes half the time of exp.
    i, m_start = i.double() * LOG2_E, m_start.double()[..., None] * LOG2_E
    log_forget = log_forget_gate(f).mul_(LOG2_E)
    m, attained_at = _running_maximum(i, log_forget, m_start)
    m_last = m[..., -1]
    if filled:
        i = pad(i, (0, filled), value=-torch.inf)
        log_forget = pad(log_forget, (0, filled))
        m = torch.cat([m, m_last[..., None].expand(*m.shape[:-1], filled)], -1)
    i, log_forget, m = (x.view(batch, heads, n_chunks, chunk) for x in (i, log_forget, m))
    b = log_forget.cumsum(-1)
    start = torch.cat([m_start, m[..., :-1, -1]], -1)[..., None]  # [B, H, NC, 1]
    out = i.new_empty((N_VECTORS, batch, heads, n_chunks, chunk))
    w, N, fix, floor, keep, write, decay = out.unbind(0)
    torch.sub(i, b, out=w)
    torch.sub(b, m, out=N).add_(log_scale)
    end = N[..., -1:] - log_scale
    decay.copy_(start + end)
    rounded = out[:2].to(dtype)
    w_rounded, N_rounded = rounded.unbind(0)
    torch.sub(w, w_rounded, out=fix)
    if filled:
        fix.nan_to_num_(nan=0.0)  # a filled token: -inf - -inf
    torch.sub(N_rounded, N, out=floor).sub_(m)
    torch.add(start, N_rounded, out=keep)
    torch.add(end, w, out=write)
    out[2:].exp2_()
    return out.to(dtype), (m_last * LN_2).to(dtype), attained_at


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
    dots : Tensor, shape (3, batch, heads, n_chunks, chunk)
        q . dq, k . dk, and r = h . g, which m_t meets through eps.
    state_dot : Tensor, shape (batch, heads, n_chunks)
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
    q_dot, k_dot, r = dots.double().unbind(0)  # [B, H, NC, L]
    b_grad = q_dot - k_dot
    b_grad.select(-1, -1).add_(state_dot)
    in_chunk = b_grad.flip(-1).cumsum(-1).flip(-1)
    i_grad, r, in_chunk = (x.flatten(2)[..., :time] for x in (k_dot, r, in_chunk))
    m_grad = r.mul_(-eps)
    last = m_grad.select(-1, -1)
    last.sub_(state_dot[..., -1])  # the state's scale: C = e^-m times what does not know m
    if m_last_grad is not None:
        last.add_(m_last_grad)
    # One slot before the first token takes what the initial state attains.
    sink = m_grad.new_zeros((batch, heads, time + 1)).scatter_add_(-1, attained_at + 1, m_grad)
    i_from_m = sink[..., 1:]
    from_m = (m_grad - i_from_m).flip(-1).cumsum(-1).flip(-1)
    f_grad = from_m.add_(in_chunk).mul_(torch.sigmoid(-f.double()))
    return i_grad.add_(i_from_m), f_grad, sink[..., 0]
