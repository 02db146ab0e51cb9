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
    if any(x.dtype != dtype for x in (q, k, v, i, f, C, n, m)):
        q, k, v, i, f, C, n, m = (x.to(dtype) for x in (q, k, v, i, f, C, n, m))
    decayed = logsigmoid(f) + m  # [B, H]
    m = torch.maximum(decayed, i)
    keep = torch.exp(decayed - m)[..., None]
    k = k * torch.exp(i - m)[..., None]
    C = (C * keep[..., None]).addcmul_(k[..., :, None], v[..., None, :])  # [B, H, a, c]
    n = torch.addcmul(k, n, keep)  # [B, H, a]
    unscale = math.sqrt(q.shape[-1])
    floor = torch.exp(math.log(unscale) - m)[..., None]
    dot = (q * n).sum(-1, keepdim=True)  # [B, H, 1]
    denominator = torch.maximum(dot.abs(), floor) + eps * unscale
    numerator = torch.bmm(q.flatten(0, 1)[:, None], C.flatten(0, 1)).view(v.shape)
    h = numerator / denominator
    return h.to(out_dtype), (C, n, m)
