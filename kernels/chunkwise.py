r"""The mLSTM cell on any device in plain matrix products, linear in T, with its exact gradient.

A sequence is cut into chunks of L tokens: pairs of tokens inside a chunk, a matrix state between
chunks. Chunks are processed a block at a time, so that a block's products stay in a CPU's cache.

    time     0 ... L ... 2L ... 3L ... 4L ... T
    block    |      0      |      1      |  2 #   # filled up, reads 0
    chunk    |  0   |  1   |  2   |  3   |  4 #
    kept            C      C      C      C        for the backward pass, with the pairs' weights

The normaliser goes beside the values: n is the sum of the weighed keys, its product with q a sum
over pairs and the state before. Derivation: docs/kernels.md.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from allometry.kernels.chunkwise_blocks import KeptSize
from allometry.kernels.chunkwise_passes import backward_pass, forward_pass
from allometry.kernels.chunkwise_plan import Plan, cut, default_chunk_size, plan_chunks
from allometry.kernels.contract import State, accumulation_dtype
from allometry.kernels.gates import N_VECTORS


def _no_autocast(q: Tensor) -> AbstractContextManager[object]:
    device = q.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else _NOTHING


_NOTHING = nullcontext()


def _plan(q: Tensor, v: Tensor, chunk_size: int) -> Plan:
    batch, heads, time, d_qk = q.shape
    return plan_chunks(batch, heads, time, d_qk, v.shape[-1], chunk_size)


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    C: Tensor,
    n: Tensor,
    m: Tensor,
    chunk_size: int,
    normalizer_gradient: bool,
    eps: float,
    empty: bool,
    keep: bool,
    return_state: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return h, the final C, n, m; for the backward pass gate vectors, `attained_at` and `Kept`."""
    plan = _plan(q, v, chunk_size)
    with _no_autocast(q):
        h, C, n, m, vectors, attained_at, kept = forward_pass(
            q, k, v, i, f, (C, n, m), plan, eps, empty=empty, keep=keep, return_state=return_state
        )
    return h, C, n, m, vectors, attained_at, kept


_forward_op = torch.library.custom_op("allometry::mlstm_chunkwise", _forward, mutates_args=())


@_forward_op.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    C: Tensor,
    n: Tensor,
    m: Tensor,
    chunk_size: int,
    normalizer_gradient: bool,
    eps: float,
    empty: bool,
    keep: bool,
    return_state: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    dtype, d_v = C.dtype, v.shape[-1]
    batch, heads, time, d_qk = q.shape
    chunk, n_chunks = cut(time, chunk_size)
    starts, rows = 0 if empty else batch * heads, batch * heads * n_chunks
    size = KeptSize(starts, rows, chunk, d_qk, d_v).total() if keep else 0
    flat = (batch, heads) if return_state else (0, heads)
    C, n = (q.new_empty((*flat, d_qk, *width), dtype=dtype) for width in ((d_v,), ()))
    m = q.new_empty(m.shape, dtype=dtype)
    vectors = q.new_empty((N_VECTORS, batch, heads, n_chunks, chunk), dtype=dtype)
    attained_at = q.new_empty(i.shape, dtype=torch.int64)
    return torch.empty_like(v), C, n, m, vectors, attained_at, q.new_empty(size, dtype=dtype)


def _backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    m: Tensor,
    h: Tensor,
    vectors: Tensor,
    attained_at: Tensor,
    kept: Tensor,
    h_grad: Tensor | None,
    C_grad: Tensor | None,
    n_grad: Tensor | None,
    m_grad: Tensor | None,
    chunk_size: int,
    normalizer_gradient: bool,
    eps: float,
    empty: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    with _no_autocast(q):
        return backward_pass(
            (q, k, v, i, f, m),
            (h, vectors, attained_at, kept),
            (h_grad, C_grad, n_grad, m_grad),
            _plan(q, v, chunk_size),
            normalizer_gradient,
            eps,
            empty=empty,
        )


_backward_op = torch.library.custom_op(
    "allometry::mlstm_chunkwise_backward", _backward, mutates_args=()
)


@_backward_op.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    m: Tensor,
    h: Tensor,
    vectors: Tensor,
    attained_at: Tensor,
    kept: Tensor,
    h_grad: Tensor | None,
    C_grad: Tensor | None,
    n_grad: Tensor | None,
    m_grad: Tensor | None,
    chunk_size: int,
    normalizer_gradient: bool,
    eps: float,
    empty: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, heads, _, d_qk = q.shape
    flat = (batch, heads)
    start = ((0,),) * 3 if empty else ((*flat, d_qk, v.shape[-1]), (*flat, d_qk), flat)
    q, k, v = (torch.empty_like(x) for x in (q, k, v))
    i, f = (x.new_empty(x.shape) for x in (i, f))
    C, n, m = (kept.new_empty(shape) for shape in start)
    return q, k, v, i, f, C, n, m


def _save(ctx, inputs, output) -> None:
    q, k, v, i, f, _, _, m, *ctx.options = inputs
    h, _, _, _, *kept = output
    ctx.save_for_backward(q, k, v, i, f, m, h, *kept)
    ctx.set_materialize_grads(False)


def _save_of_op(ctx, inputs, output) -> None:
    _save(ctx, inputs, output)
    ctx.mark_non_differentiable(*output[4:])


def _gradients(ctx, h_grad, C_grad, n_grad, m_grad, *_, backward=_backward_op):
    *options, empty, _, _ = ctx.options
    out_grads = (h_grad, C_grad, n_grad, m_grad)
    gradients = backward(*ctx.saved_tensors, *out_grads, *options, empty)
    start = (None, None, None) if empty else gradients[5:]
    return (*gradients[:5], *start, *(None,) * 6)


_forward_op.register_autograd(_gradients, setup_context=_save_of_op)


class _Eager(torch.autograd.Function):
    """The operator without the calls of torch's dispatcher, which a short sequence feels."""

    @staticmethod
    def forward(ctx, *inputs):
        outputs = _forward(*inputs)
        _save(ctx, inputs, outputs)
        return outputs[:4]

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        return _gradients(ctx, *gradients, backward=_backward)


def mlstm_chunkwise(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    state: State | None,
    *,
    chunk_size: int | None,
    normalizer_gradient: bool,
    eps: float,
    return_state: bool,
) -> tuple[Tensor, State | None]:
    """Hidden states and final state; arguments as in `allometry.kernels.mlstm`, unchecked."""
    dtype = accumulation_dtype(q, k, v, i, f, *(state or ()))
    empty = state is None
    if state is None:  # no memory: C and n are not read
        m = q.new_zeros(q.shape[:2], dtype=dtype)
        n = m[..., None].expand(*m.shape, q.shape[-1])
        C = n[..., None].expand(*n.shape, v.shape[-1])
    else:
        C, n, m = (x.to(dtype) for x in state)
    inputs = (q, k, v, i, f, C, n, m)
    keep = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    chunk_size = chunk_size or default_chunk_size(q.shape[2])
    # A compiler, as torch's transforms of functions, need not look into the operator.
    run = _Eager.apply if keep and not torch.compiler.is_compiling() else _forward_op
    options = (chunk_size, normalizer_gradient, eps, empty, keep, return_state)
    h, C, n, m, *_ = run(*inputs, *options)
    return h, (C, n, m) if return_state else None
