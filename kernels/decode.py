"""One token of the mLSTM cell on any device, in as few calls as plain PyTorch allows."""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from allometry.kernels.contract import State, accumulation_dtype, empty_state


def decode_step(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, state: State | None, *, eps: float
) -> tuple[Tensor, State]:
    """Hidden state and next state; arguments as in `allometry.kernels.mlstm_step`, unchecked.

    The definition (`reference.step`) with the outer product added in place to the one new C, and
    the scale of q moved from both dot products into the floor and eps of the denominator: at small
    batch a step is bound by calls and fresh memory, not by arithmetic. Differentiable.
    """
    out_dtype, dtype = v.dtype, accumulation_dtype(q, k, v, i, f, *(state or ()))
    C, n, m = state if state is not None else empty_state(q, v, dtype)
    if not q.dtype == v.dtype == i.dtype == f.dtype == m.dtype == C.dtype == n.dtype == dtype:
        q, k, v, i, f, C, n, m = (x.to(dtype) for x in (q, k, v, i, f, C, n, m))
    (batch, heads, d_qk), d_v = q.shape, v.shape[-1]
    decayed = logsigmoid(f).add_(m)  # [B, H]
    m = torch.maximum(decayed, i)
    keep = decayed.sub(m).exp_().unsqueeze(-1)
    k = k * i.sub(m).exp_().unsqueeze(-1)
    C = (C * keep.unsqueeze(-1)).addcmul_(k.unsqueeze(-1), v.unsqueeze(-2))  # [B, H, a, c]
    n = torch.addcmul(k, n, keep)  # [B, H, a]
    unscale = math.sqrt(d_qk)
    floor = torch.rsub(m, math.log(unscale)).exp_().unsqueeze(-1)
    dot = torch.linalg.vecdot(q, n).unsqueeze(-1)  # [B, H, 1]
    denominator = torch.maximum(dot.abs(), floor).add_(eps * unscale)
    rows = batch * heads
    h = torch.bmm(q.reshape(rows, 1, d_qk), C.view(rows, d_qk, d_v)).view(batch, heads, d_v)
    h = h.div_(denominator)
    return h if out_dtype == dtype else h.to(out_dtype), (C, n, m)
