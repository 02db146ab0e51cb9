r"""The mLSTM cell on any device in plain matrix products, linear in T, with its exact gradient.

A sequence is cut into chunks of L tokens: pairs of tokens inside a chunk, a matrix state between
chunks. Chunks are processed a block at a time, so that a block's products stay in a CPU's cache,
and the state at a block's start is all that is kept for the backward pass, which repeats the rest.

    time     0 ... L ... 2L ... 3L ... 4L ... T
    block    |      0      |      1      |  2 #   # filled up, reads 0
    chunk    |  0   |  1   |  2   |  3   |  4 #
    kept     C             C             C

The normaliser is one more value: with a column of ones beside v, n is the last column of C, and
its product with q is the last column of the output. Derivation: docs/kernels.md.
"""

import torch
from torch import Tensor

from allometry.kernels.chunkwise_passes import backward_pass, forward_pass
from allometry.kernels.chunkwise_plan import default_chunk_size, plan_chunks
from allometry.kernels.contract import State, accumulation_dtype, empty_state
from allometry.kernels.gates import N_VECTORS


@torch.library.custom_op("allometry::mlstm_chunkwise", mutates_args=())
def _forward_op(
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return h, the final C, n, m; for the backward pass gates, s q . n and the kept states."""
    plan = plan_chunks(q, v, chunk_size)
    with torch.autocast(q.device.type, enabled=False):
        return forward_pass(q, k, v, i, f, (C, n, m), plan, eps)


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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    plan = plan_chunks(q, v, chunk_size)
    dtype = C.dtype
    return (
        v.new_empty(v.shape),
        q.new_empty(C.shape, dtype=dtype),
        q.new_empty(n.shape, dtype=dtype),
        q.new_empty(m.shape, dtype=dtype),
        q.new_empty((N_VECTORS, plan.n_chunks, *q.shape[:2], plan.chunk), dtype=dtype),
        q.new_empty((plan.n_chunks, *q.shape[:2], plan.chunk), dtype=dtype),
        q.new_empty((plan.n_blocks + 1, *q.shape[:2], q.shape[-1], plan.columns), dtype=dtype),
    )


@torch.library.custom_op("allometry::mlstm_chunkwise_backward", mutates_args=())
def _backward_op(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    m: Tensor,
    h: Tensor,
    vectors: Tensor,
    dot: Tensor,
    kept: Tensor,
    h_grad: Tensor | None,
    C_grad: Tensor | None,
    n_grad: Tensor | None,
    m_grad: Tensor | None,
    chunk_size: int,
    normalizer_gradient: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    plan = plan_chunks(q, v, chunk_size)
    with torch.autocast(q.device.type, enabled=False):
        return backward_pass(
            (q, k, v, i, f, m),
            (h, vectors, dot, kept),
            (h_grad, C_grad, n_grad, m_grad),
            plan,
            normalizer_gradient,
            eps,
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
    dot: Tensor,
    kept: Tensor,
    h_grad: Tensor | None,
    C_grad: Tensor | None,
    n_grad: Tensor | None,
    m_grad: Tensor | None,
    chunk_size: int,
    normalizer_gradient: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, heads, _, d_qk = q.shape
    state = kept.new_empty((batch, heads, d_qk, v.shape[-1]))
    norm = kept.new_empty((batch, heads, d_qk))
    q, k, v, i, f, m = (x.new_empty(x.shape) for x in (q, k, v, i, f, m))
    return q, k, v, i, f, state, norm, m


def _save(ctx, inputs, output) -> None:
    q, k, v, i, f, _, _, m, *ctx.options = inputs
    h, _, _, _, vectors, dot, kept = output
    ctx.save_for_backward(q, k, v, i, f, m, h, vectors, dot, kept)
    ctx.mark_non_differentiable(vectors, dot, kept)
    ctx.set_materialize_grads(False)


def _gradients(ctx, h_grad, C_grad, n_grad, m_grad, *_):
    gradients = _backward_op(*ctx.saved_tensors, h_grad, C_grad, n_grad, m_grad, *ctx.options)
    return (*gradients, None, None, None)


_forward_op.register_autograd(_gradients, setup_context=_save)


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
) -> tuple[Tensor, State]:
    """Hidden states and final state; arguments as in `allometry.kernels.mlstm`, unchecked."""
    dtype = accumulation_dtype(q, k, v, i, f, *(state or ()))
    C, n, m = state if state is not None else empty_state(q, v, dtype)
    chunk_size = chunk_size or default_chunk_size(q.shape[2])
    h, C, n, m, _, _, _ = _forward_op(
        q, k, v, i, f, C.to(dtype), n.to(dtype), m.to(dtype), chunk_size, normalizer_gradient, eps
    )
    return h, (C, n, m)
