r"""The mLSTM cell in plain PyTorch, three times: the definition every other backend is held to.

Per head, with queries and keys of width a, values of width c, gates i and f, scale
:math:`s = a^{-1/2}` and :math:`\ell_t = \log \sigma(f_t)`:

.. math::

    m_t &= \max(\ell_t + m_{t-1}, i_t) \\
    C_t &= e^{\ell_t + m_{t-1} - m_t} C_{t-1} + e^{i_t - m_t} k_t v_t^\top \\
    n_t &= e^{\ell_t + m_{t-1} - m_t} n_{t-1} + e^{i_t - m_t} k_t \\
    h_t &= s C_t^\top q_t \,/\, (\max(|s\, n_t^\top q_t|, e^{-m_t}) + \epsilon)

`recurrent` is this, token by token; `parallel` sums over all pairs of tokens; `chunkwise` is
parallel inside a chunk and recurrent between chunks. Gradients are autograd's own, so they hold
for every input, the initial state and the final state. The states of two forms may differ by the
symmetry (C, n, m) ~ (e^d C, e^d n, m - d); h then differs by the reach of eps only.

References
----------
Beck et al. 2024, arXiv:2405.04517, eq. 19-27; Beck et al. 2025, arXiv:2503.14376, section 3.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from allometry.kernels.contract import EPS, State, accumulation_dtype, empty_state

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # s q, k, v, i, log sigmoid(f)


def _promote(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, state: State | None
) -> tuple[Inputs, State]:
    """Cast to the accumulation dtype, scale q, take the log of the forget gate."""
    dtype = accumulation_dtype(q, k, v, i, f, *(state or ()))
    C, n, m = state if state is not None else empty_state(q, v, dtype)
    log_forget = logsigmoid(f.to(dtype))  # log(sigmoid(f)) is -inf below f = -88 in float32
    scaled = q.to(dtype) * q.shape[-1] ** -0.5
    inputs = (scaled, k.to(dtype), v.to(dtype), i.to(dtype), log_forget)
    return inputs, (C.to(dtype), n.to(dtype), m.to(dtype))


def _step(inputs: Inputs, state: State, eps: float) -> tuple[Tensor, State]:
    q, k, v, i, log_forget = inputs
    C, n, m_before = state
    m = torch.maximum(log_forget + m_before, i)  # [B, H]
    keep = torch.exp(log_forget + m_before - m)[..., None]
    write = torch.exp(i - m)[..., None]
    C = keep[..., None] * C + (write * k)[..., :, None] * v[..., None, :]  # [B, H, a, c]
    n = keep * n + write * k  # [B, H, a]
    numerator = (q[..., None, :] @ C).squeeze(-2)  # [B, H, c]
    dot = (q * n).sum(-1)
    h = numerator / (torch.maximum(dot.abs(), torch.exp(-m)) + eps)[..., None]
    return h, (C, n, m)


def step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    state: State | None = None,
    *,
    eps: float = EPS,
) -> tuple[Tensor, State]:
    """One token: inputs without the time axis, (batch, heads, width) and (batch, heads)."""
    inputs, state = _promote(q, k, v, i, f, state)
    h, state = _step(inputs, state, eps)
    return h.to(v.dtype), state


def recurrent(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    state: State | None = None,
    *,
    eps: float = EPS,
) -> tuple[Tensor, State]:
    """Apply the definition, one token after the other; linear in T, no parallelism."""
    inputs, state = _promote(q, k, v, i, f, state)
    outputs = []
    for t in range(q.shape[2]):
        q_t, k_t, v_t, i_t, log_forget_t = (x[:, :, t] for x in inputs)
        h, state = _step((q_t, k_t, v_t, i_t, log_forget_t), state, eps)
        outputs.append(h)
    return torch.stack(outputs, 2).to(v.dtype), state


def _parallel(inputs: Inputs, state: State, eps: float) -> tuple[Tensor, State]:
    q, k, v, i, log_forget = inputs
    C, n, m_before = state
    time = q.shape[2]
    b = log_forget.cumsum(-1)  # [B, H, T]
    # log D[t, s] = b_t - b_s + i_s for s <= t: what is left at t of what s wrote.
    future = torch.ones(time, time, dtype=torch.bool, device=q.device).triu(1)
    log_D = (b[..., :, None] - b[..., None, :] + i[..., None, :]).masked_fill(future, -torch.inf)
    m = torch.maximum(log_D.amax(-1), b + m_before[..., None])  # [B, H, T]
    D = torch.exp(log_D - m[..., None])  # [B, H, T, T]
    beta = torch.exp(b + m_before[..., None] - m)[..., None]  # share of the initial state
    P = (q @ k.transpose(-1, -2)) * D
    numerator = P @ v + beta * (q @ C)  # [B, H, T, c]
    dot = P.sum(-1, keepdim=True) + beta * (q @ n[..., None])  # [B, H, T, 1]
    h = numerator / (torch.maximum(dot.abs(), torch.exp(-m)[..., None]) + eps)
    # The last row of D weighs what each token leaves in the state.
    kept_keys = D[..., -1, :, None] * k  # [B, H, T, a]
    C = beta[..., -1, :, None] * C + kept_keys.transpose(-1, -2) @ v
    n = beta[..., -1, :] * n + kept_keys.sum(-2)
    return h, (C, n, m[..., -1])


def parallel(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    state: State | None = None,
    *,
    eps: float = EPS,
) -> tuple[Tensor, State]:
    """All pairs of tokens at once; time and memory quadratic in T."""
    inputs, state = _promote(q, k, v, i, f, state)
    h, state = _parallel(inputs, state, eps)
    return h.to(v.dtype), state


def chunkwise(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    state: State | None = None,
    *,
    chunk_size: int = 64,
    eps: float = EPS,
) -> tuple[Tensor, State]:
    """Use the parallel form inside each chunk and pass the state from chunk to chunk."""
    inputs, state = _promote(q, k, v, i, f, state)
    outputs = []
    for start in range(0, q.shape[2], chunk_size):
        q_L, k_L, v_L, i_L, log_forget_L = (x[:, :, start : start + chunk_size] for x in inputs)
        h, state = _parallel((q_L, k_L, v_L, i_L, log_forget_L), state, eps)
        outputs.append(h)
    return torch.cat(outputs, 2).to(v.dtype), state
