"""Forward and backward pass of the chunkwise form: loops over blocks, matrix products inside.

Shapes in the comments: r rows (chunks of some heads, chunk-major), L tokens a chunk, a = d_qk, and
c' columns: d_v values, a one, zeros. `V1`, `G1` and the states `S`, `dS` have these columns. `S`
holds one chunk more than a block, so that start states and end states both are contiguous rows.
"""

import torch
from torch import Tensor

from allometry.kernels.chunkwise_plan import Chunked, Group, Plan, group_size
from allometry.kernels.contract import State
from allometry.kernels.gates import chunk_gates, gate_gradients


class _Work:
    """Buffers for one block, reused by all; every product is written into one of them."""

    def __init__(self, q: Tensor, v: Tensor, plan: Plan, dtype: torch.dtype) -> None:
        self.heads = max((group_size(group) for group in plan.groups), default=1)
        self.rows, self.like, self.dtype = self.heads * plan.block_chunks, q, dtype
        self.L, self.a, self.d_v, self.c1 = plan.chunk, q.shape[-1], v.shape[-1], plan.columns
        self.Q, self.K, self.weighted = self.new(self.a), self.new(self.a), self.new(self.a)
        self.V1 = self.new(self.c1).zero_()
        self.V1[..., self.d_v] = 1.0
        self.D, self.P = self.new(self.L), self.new(self.L)
        self.S = self.new_states()
        hidden = torch.full((self.L, self.L), -torch.inf, dtype=dtype, device=q.device)
        self.future = hidden.triu(1)

    def new(self, width: int) -> Tensor:
        return self.like.new_empty((self.rows, self.L, width), dtype=self.dtype)

    def new_states(self) -> Tensor:
        return self.like.new_empty((self.rows + self.heads, self.a, self.c1), dtype=self.dtype)


def _weights(work: _Work, w: Tensor, M: Tensor) -> tuple[Tensor, Tensor]:
    """Return D, the weight of s at t times the scale of q, and P = D * (Q K^T); both [r, L, L]."""
    r = len(w)
    D = torch.sub(w[:, None, :], M[:, :, None], out=work.D[:r])
    D.add_(work.future).exp_()  # masked before exp: weights of the future may overflow
    P = torch.bmm(work.Q[:r], work.K[:r].mT, out=work.P[:r])
    return D, P.mul_(D)


def _states(work: _Work, start: Tensor, write: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
    """Return the states [(chunks + 1) * heads, a, c'] from `start` on, and K times `write`."""
    r, heads = len(write), len(start)
    S = work.S[: r + heads]
    S[:heads] = start
    Kw = torch.mul(work.K[:r], write, out=work.weighted[:r])
    torch.bmm(Kw.mT, work.V1[:r], out=S[heads:])
    for at in range(0, r, heads):
        S[at + heads : at + 2 * heads].addcmul_(S[at : at + heads], decay[at : at + heads])
    return S, Kw


def forward_pass(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, state: State, plan: Plan, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return h, the final C, n, m, and what `backward_pass` needs: s q . n, and the kept states.

    Parameters
    ----------
    q, k, v, i, f, state
        As in `allometry.kernels.mlstm`; the state in the accumulation dtype.
    plan : Plan
        How to cut.
    eps : float
        Added to the denominator.
    """
    d_v, dtype = v.shape[-1], state[0].dtype
    gates = chunk_gates(i, f, state[2], plan.chunk, q.shape[-1] ** -0.5, dtype)
    work = _Work(q, v, plan, dtype)
    H1_buffer = work.new(plan.columns)
    h, norm = v.new_empty(v.shape), torch.empty_like(gates.M)
    kept = q.new_zeros((plan.n_blocks + 1, *q.shape[:2], q.shape[-1], plan.columns), dtype=dtype)
    kept[0, ..., :d_v], kept[0, ..., d_v] = state[0], state[1]
    for group in plan.groups:
        q_, k_, v_, h_ = (Chunked(x[group], plan.chunk) for x in (q, k, v, h))
        gate, kept_ = gates.of(group), _heads_of(kept, group)
        norm_ = torch.empty_like(gate.M)
        heads = group_size(group)
        for index, first, n_chunks in plan.blocks():
            r, at = n_chunks * heads, slice(first * heads, (first + n_chunks) * heads)
            Q = q_.load(work.Q[:r], first, n_chunks).mul_(gate.q_fix[at])
            k_.load(work.K[:r], first, n_chunks).mul_(gate.k_fix[at])
            v_.load(work.V1[:r, :, :d_v], first, n_chunks)
            S, Kw = _states(work, kept_[index], gate.write[at], gate.decay[at])
            kept_[index + 1] = S[r:]
            _, P = _weights(work, gate.w[at], gate.M[at])
            H1 = torch.bmm(P, work.V1[:r], out=H1_buffer[:r])
            H1.baddbmm_(torch.mul(Q, gate.keep[at], out=Kw), S[:r])
            dot = norm_[at].copy_(H1[..., d_v])
            H = H1[..., :d_v].div_(_denominator(dot, gate.floor[at], eps))
            h_.store(H, first, n_chunks)
        norm[:, *group] = norm_.view(norm[:, *group].shape)
    C, n = _parts(kept[-1], d_v)
    return h, C, n, gates.m_last, norm, kept


def _parts(state: Tensor, d_v: int) -> tuple[Tensor, Tensor]:
    """Copy C and n out of a state with columns c'; an op's results may not share memory."""
    return (
        state[..., :d_v].clone(memory_format=torch.contiguous_format),
        state[..., d_v].clone(memory_format=torch.contiguous_format),
    )


def _heads_of(states: Tensor, group: Group) -> Tensor:
    """View (blocks, batch, heads, a, c') as (blocks, heads of the group, a, c')."""
    part = states[:, *group]
    return part.view(part.shape[0], -1, *part.shape[3:])


def _denominator(dot: Tensor, floor: Tensor, eps: float) -> Tensor:
    return torch.maximum(dot.abs(), floor).add_(eps)[..., None]


def backward_pass(
    inputs: tuple[Tensor, ...],
    saved: tuple[Tensor, Tensor, Tensor],
    out_grads: tuple[Tensor | None, ...],
    plan: Plan,
    normalizer_gradient: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, v, i, f and of the initial C, n, m.

    Parameters
    ----------
    inputs
        q, k, v, i, f and the initial m.
    saved
        h, s q . n and the kept states of `forward_pass`.
    out_grads
        Gradients of h and the final C, n, m; None where there is none.
    plan, eps
        As in `forward_pass`.
    normalizer_gradient
        Whether the denominator counts.
    """
    q, k, v, i, f, m_start = inputs
    h, norm, kept = saved
    h_grad, C_grad, n_grad, m_grad = out_grads
    d_v, dtype = v.shape[-1], kept.dtype
    gates = chunk_gates(i, f, m_start, plan.chunk, q.shape[-1] ** -0.5, dtype)
    work = _Work(q, v, plan, dtype)
    dQ_, dK_, dP_, dV_ = (work.new(x) for x in (work.a, work.a, plan.chunk, d_v))
    G1_, dS_ = work.new(plan.columns).zero_(), work.new_states()
    q_grad, k_grad, v_grad = (x.new_empty(x.shape) for x in (q, k, v))
    q_dot, k_dot, r_dot = (torch.zeros_like(norm) for _ in range(3))
    state_dot = torch.empty_like(gates.decay)
    carry = torch.zeros_like(kept[:1])  # gradient of the state behind the block
    if C_grad is not None:
        carry[..., :d_v] = C_grad
    if n_grad is not None:
        carry[..., d_v] = n_grad
    for group in plan.groups:
        read = (q, k, v, h, norm.new_zeros(()).expand(v.shape) if h_grad is None else h_grad)
        q_, k_, v_, h_, h_grad_ = (Chunked(x[group], plan.chunk) for x in read)
        write = (q_grad, k_grad, v_grad)
        q_grad_, k_grad_, v_grad_ = (Chunked(x[group], plan.chunk) for x in write)
        gate, kept_, carry_ = gates.of(group), _heads_of(kept, group), _heads_of(carry, group)[0]
        norm_ = norm[:, *group].flatten(0, 2)
        q_dot_, k_dot_, r_dot_ = (torch.zeros_like(norm_) for _ in range(3))
        state_dot_ = torch.empty_like(gate.decay)
        heads = group_size(group)
        for index, first, n_chunks in reversed(list(plan.blocks())):
            r, at = n_chunks * heads, slice(first * heads, (first + n_chunks) * heads)
            Q = q_.load(work.Q[:r], first, n_chunks).mul_(gate.q_fix[at])
            K = k_.load(work.K[:r], first, n_chunks).mul_(gate.k_fix[at])
            V1, G1 = work.V1[:r], G1_[:r]
            v_.load(V1[..., :d_v], first, n_chunks)
            # G1: gradients of the numerator and, in the column of ones, of the product s q . n.
            G = h_grad_.load(G1[..., :d_v], first, n_chunks)
            dot, floor = norm_[at], gate.floor[at]
            G.div_(_denominator(dot, floor, eps))
            if normalizer_gradient:
                scratch = h_.load(dV_[:r], first, n_chunks)
                torch.sum(scratch.mul_(G), -1, out=r_dot_[at])
                G1[..., d_v] = torch.where(dot.abs() > floor, -dot.sign() * r_dot_[at], 0.0)
            # States from the start of the block on, and their gradients from its end back.
            S, Kw = _states(work, kept_[index], gate.write[at], gate.decay[at])
            Qk = torch.mul(Q, gate.keep[at], out=dQ_[:r])
            dS = dS_[: r + heads]
            torch.bmm(Qk.mT, G1, out=dS[:r])
            dS[r:] = carry_
            for row in range(r - heads, -1, -heads):
                decay = gate.decay[first * heads + row : first * heads + row + heads]
                dS[row : row + heads].addcmul_(dS[row + heads : row + 2 * heads], decay)
            carry_.copy_(dS[:heads])
            torch.sum((S[heads:] * dS[heads:]).flatten(1), -1, out=state_dot_[at, 0, 0])
            # Values, queries, keys: pairs inside the chunk, then the way through the states.
            D, P = _weights(work, gate.w[at], gate.M[at])
            dV = torch.bmm(P.mT, G, out=dV_[:r]).baddbmm_(Kw, dS[heads:, :, :d_v])
            v_grad_.store(dV, first, n_chunks)
            dP = torch.bmm(G1, V1.mT, out=dP_[:r]).mul_(D)
            through = torch.bmm(G1, S[:r].mT, out=work.weighted[:r])
            dQ = torch.bmm(dP, K, out=dQ_[:r]).addcmul_(through, gate.keep[at])
            torch.bmm(V1, dS[heads:].mT, out=through)
            dK = torch.bmm(dP.mT, Q, out=dK_[:r]).addcmul_(through, gate.write[at])
            torch.sum(Q.mul_(dQ), -1, out=q_dot_[at])
            torch.sum(K.mul_(dK), -1, out=k_dot_[at])
            q_grad_.store(dQ.mul_(gate.q_fix[at]), first, n_chunks)
            k_grad_.store(dK.mul_(gate.k_fix[at]), first, n_chunks)
        for whole, part in ((q_dot, q_dot_), (k_dot, k_dot_), (r_dot, r_dot_)):
            whole[:, *group] = part.view(whole[:, *group].shape)
        state_dot[:, *group] = state_dot_.view(state_dot[:, *group].shape)
    i_grad, f_grad, m_start_grad = gate_gradients(
        i,
        f,
        m_start,
        q_dot=q_dot,
        k_dot=k_dot,
        state_dot=state_dot,
        eps_dot=r_dot.mul_(-eps),
        m_last_grad=m_grad,
    )
    m_start_grad += (kept[0] * carry[0]).sum((-1, -2))
    return (
        q_grad,
        k_grad,
        v_grad,
        i_grad.to(i.dtype),
        f_grad.to(f.dtype),
        *_parts(carry[0], d_v),
        m_start_grad.to(m_start.dtype),
    )
