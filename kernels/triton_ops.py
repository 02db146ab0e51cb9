"""The Triton backend as PyTorch operators: shapes for the compiler, gradients for autograd.

The forward pass keeps its inputs, h and one float32 a token (l = s q . n). Gate vectors and states
are computed again in the backward pass: states cost d_qk x d_v numbers a chunk.
"""

import torch
from torch import Tensor

from allometry.kernels.contract import State, empty_state
from allometry.kernels.triton_launch import (
    run_gate_gradients,
    run_gates,
    run_pairs,
    run_rows,
    run_state_gradients,
    run_states,
    run_step,
)
from allometry.kernels.triton_sizes import check_device, rows_contiguous, sizes_of


@torch.library.custom_op("allometry::mlstm_triton", mutates_args=())
def _forward_op(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    C: Tensor,
    n: Tensor,
    m: Tensor,
    chunk_size: int | None,
    normalizer_gradient: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return h, the final C, n, m, and l [batch * heads, 1, padded time] for the backward pass."""
    sizes = sizes_of(q, v, chunk_size)
    q, k, v = (rows_contiguous(x) for x in (q, k, v))
    gates = run_gates(i, f, sizes)
    states = run_states(k, v, gates, (C, n, m), sizes)
    h, dot = run_pairs(
        "h", q, k, v, None, states.states, states.norms, gates, states.m, None, sizes, eps=eps
    )
    return h, states.C, states.n, states.m_last, dot


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
    chunk_size: int | None,
    normalizer_gradient: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    sizes = sizes_of(q, v, chunk_size)
    state = [x.new_empty(x.shape, dtype=torch.float32) for x in (C, n, m)]
    dot = q.new_empty((sizes.rows, 1, sizes.padded[1]), dtype=torch.float32)
    return v.new_empty(v.shape), state[0], state[1], state[2], dot


@torch.library.custom_op("allometry::mlstm_triton_backward", mutates_args=())
def _backward_op(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    C: Tensor,
    n: Tensor,
    m: Tensor,
    h: Tensor,
    dot: Tensor,
    C_last: Tensor,
    n_last: Tensor,
    h_grad: Tensor | None,
    C_grad: Tensor | None,
    n_grad: Tensor | None,
    m_grad: Tensor | None,
    chunk_size: int | None,
    normalizer_gradient: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    sizes = sizes_of(q, v, chunk_size)
    q, k, v = (rows_contiguous(x) for x in (q, k, v))
    h_grad = torch.zeros_like(h) if h_grad is None else rows_contiguous(h_grad)
    gates = run_gates(i, f, sizes)
    states = run_states(k, v, gates, (C, n, m), sizes)
    rows = run_rows(
        h, h_grad, dot, gates, states.m, sizes, normalizer_gradient=normalizer_gradient, eps=eps
    )
    ends = any(x is not None for x in (C_grad, n_grad, m_grad))
    end, end_m = None, None
    if ends:
        dC = torch.zeros_like(C_last) if C_grad is None else C_grad.float().contiguous()
        dn = torch.zeros_like(n_last) if n_grad is None else n_grad.float().contiguous()
        # e^m (C, n) does not know m: what C and n alone would tell it is taken back.
        end_m = -((C_last * dC).sum((-1, -2)) + (n_last * dn).sum(-1))
        end_m = (end_m if m_grad is None else end_m + m_grad).contiguous()
        end = (dC, dn)
    carried = run_state_gradients(q, h_grad, gates, states, rows, end, sizes)
    shared = (gates, states.m, rows, sizes)
    dq, q_dot = run_pairs("q", h_grad, v, k, q, states.states, states.norms, *shared, eps=eps)
    dk, k_dot = run_pairs("k", v, h_grad, q, k, carried.grads, carried.norm_grads, *shared, eps=eps)
    dv, _ = run_pairs("v", k, q, h_grad, None, carried.grads, None, *shared, eps=eps)
    di, df = run_gate_gradients(i, f, q_dot, k_dot, carried.x, gates, end_m, states.star, sizes)
    dm = (C * carried.C0).sum((-1, -2)) + (n * carried.n0).sum(-1)
    if end_m is not None:
        dm = dm + torch.where(states.star.view(dm.shape) < 0, end_m, 0.0)
    return (
        dq,
        dk,
        dv.to(v.dtype),
        di,
        df,
        carried.C0.to(C.dtype),
        carried.n0.to(n.dtype),
        dm.to(m.dtype),
    )


@_backward_op.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    C: Tensor,
    n: Tensor,
    m: Tensor,
    h: Tensor,
    dot: Tensor,
    C_last: Tensor,
    n_last: Tensor,
    h_grad: Tensor | None,
    C_grad: Tensor | None,
    n_grad: Tensor | None,
    m_grad: Tensor | None,
    chunk_size: int | None,
    normalizer_gradient: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    q, k, v, i, f, C, n, m = (x.new_empty(x.shape) for x in (q, k, v, i, f, C, n, m))
    return q, k, v, i, f, C, n, m


def _save(ctx, inputs, output) -> None:
    *tensors, chunk_size, normalizer_gradient, eps = inputs
    h, C, n, _, dot = output
    ctx.save_for_backward(*tensors, h, dot, C, n)
    ctx.options = (chunk_size, normalizer_gradient, eps)
    ctx.mark_non_differentiable(dot)
    ctx.set_materialize_grads(False)


def _gradients(ctx, h_grad, C_grad, n_grad, m_grad, _):
    gradients = _backward_op(*ctx.saved_tensors, h_grad, C_grad, n_grad, m_grad, *ctx.options)
    return (*gradients, None, None, None)


_forward_op.register_autograd(_gradients, setup_context=_save)


@torch.library.custom_op("allometry::mlstm_triton_step", mutates_args=())
def _step_op(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    C: Tensor,
    n: Tensor,
    m: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    q, k, v = (rows_contiguous(x) for x in (q, k, v))
    return run_step(q, k, v, i, f, (C, n, m), eps=eps)


@_step_op.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    C: Tensor,
    n: Tensor,
    m: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    C, n, m = (x.new_empty(x.shape, dtype=torch.float32) for x in (C, n, m))
    return v.new_empty(v.shape), C, n, m


def mlstm_triton(
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
    """Hidden states and final state; arguments as in `allometry.kernels.mlstm`, shapes unchecked.

    Raises
    ------
    InputError
        If the inputs are float64, or neither on a GPU nor in triton's interpreter.
    """
    check_device(q)
    C, n, m = state if state is not None else empty_state(q, v, torch.float32)
    h, C, n, m, _ = _forward_op(q, k, v, i, f, C, n, m, chunk_size, normalizer_gradient, eps)
    return h, (C, n, m)


def mlstm_step_triton(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    state: State | None,
    *,
    eps: float,
) -> tuple[Tensor, State]:
    """One token; arguments as in `allometry.kernels.mlstm_step`, shapes unchecked.

    The fused step has no backward pass: where a gradient is wanted, the chunk kernels run with one
    token.
    """
    check_device(q)
    C, n, m = state if state is not None else empty_state(q, v, torch.float32)
    tensors = (q, k, v, i, f, C, n, m)
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        q, k, v, i, f = (x.unsqueeze(2) for x in (q, k, v, i, f))
        h, state = mlstm_triton(
            q, k, v, i, f, (C, n, m), chunk_size=None, normalizer_gradient=True, eps=eps
        )
        return h.squeeze(2), state
    h, C, n, m = _step_op(*tensors, eps)
    return h, (C, n, m)
