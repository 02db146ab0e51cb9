"""Forward and backward pass of the chunkwise form: loops over blocks, matrix products inside.

Letters as in `chunkwise_blocks`: r rows, L tokens a chunk, a = d_qk, c' columns. Where the sequence
starts from the empty state nothing is read from it, and where nothing comes back from the final
state nothing is carried from there: of a short sequence that is a good part of the products.
"""

import torch
from torch import Tensor

from allometry.kernels.chunkwise_blocks import Block, Kept, kept_shapes
from allometry.kernels.chunkwise_plan import Chunked, Plan, by_chunk, group_size
from allometry.kernels.contract import State
from allometry.kernels.gates import block_gates, chunk_gates, gate_gradients


def forward_pass(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    state: State,
    plan: Plan,
    eps: float,
    *,
    empty: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Kept]:
    """Return h, the final C, n, m; what `backward_pass` needs: vectors, `attained_at`, `Kept`.

    Parameters
    ----------
    q, k, v, i, f, state
        As in `allometry.kernels.mlstm`; the state in the accumulation dtype.
    plan : Plan
        How to cut.
    eps : float
        Added to the denominator.
    empty : bool
        Whether C and n are zero, so that they need not be read.
    keep : bool
        Whether a backward pass will follow.
    """
    (batch, heads, _, d_qk), d_v, dtype = q.shape, v.shape[-1], state[0].dtype
    vectors, m_last, attained_at = chunk_gates(i, f, state[2], plan.chunk, d_qk**-0.5, dtype)
    h = v.new_empty(v.shape)
    shapes = kept_shapes(plan, batch, heads, d_qk, keep=keep)
    states, pairs, dots = (q.new_empty(shape, dtype=dtype) for shape in shapes)
    C, n = (q.new_empty((batch, heads, d_qk, *w), dtype=dtype) for w in ((d_v,), ()))
    block = Block(states, d_v, plan, backward=False)
    row = state_row = 0  # where the group starts in what is kept
    for group in plan.groups:
        heads = group_size(group)
        q_, k_, v_, h_ = (Chunked(x[group], plan.chunk) for x in (q, k, v, h))
        vectors_ = vectors[:, :, *group].flatten(1, 3)
        if not empty:
            start = states[state_row : state_row + heads].view(*C[group].shape[:3], plan.columns)
            _joined(state[0][group], state[1][group], start, d_v)
        for _, first, n_chunks in plan.blocks():
            r, skip = n_chunks * heads, heads if empty and first == 0 else 0
            S = states[state_row : state_row + r + heads]
            P, D = pairs[:, row : row + r].unbind(0)
            gate = block_gates(vectors_[:, first * heads : first * heads + r])
            block.take(n_chunks, heads)
            block.load(q_, k_, v_, first, gate)
            torch.bmm(block.Kw.mT, block.V1, out=S[heads:])
            steps = by_chunk(S, heads)
            for index, decay in enumerate(by_chunk(gate.decay, heads)):
                if index or not skip:
                    steps[index + 1].addcmul_(steps[index], decay)
            # At most 0 but for the future, which the mask removes, as it does what padding writes.
            # Not -inf before exp2: that takes three times as long.
            torch.sub(gate.w, gate.M, out=D).exp2_().tril_()
            torch.bmm(block.Q, block.K.mT, out=P).mul_(D)
            H1 = torch.bmm(P, block.V1, out=block.H1)
            if skip < r:
                H1[skip:].baddbmm_(block.Qk[skip:], S[skip:r])
            dot = dots[row : row + r].copy_(H1[..., d_v])
            inverse = _denominator(dot, gate.floor, eps).reciprocal_()
            h_.store(H1[..., :d_v], first, n_chunks, times=inverse)
            if keep:
                row, state_row = row + r, state_row + r
            else:
                S[:heads] = S[r:]
        end = states[state_row : state_row + heads].view(*C[group].shape[:3], plan.columns)
        C[group], n[group] = end[..., :d_v], end[..., d_v]
        state_row += heads if keep else 0
    return h, C, n, m_last, vectors, attained_at, Kept(states=states, pairs=pairs, dot=dots)


def _joined(C: Tensor | None, n: Tensor | None, out: Tensor, d_v: int) -> Tensor:
    """Write C and n into a state with columns c'; None is zero."""
    out.zero_()
    if C is not None:
        out[..., :d_v] = C
    if n is not None:
        out[..., d_v] = n
    return out


def backward_pass(
    inputs: tuple[Tensor, ...],
    saved: tuple[Tensor, Tensor, Tensor, Kept],
    out_grads: tuple[Tensor | None, ...],
    plan: Plan,
    normalizer_gradient: bool,
    eps: float,
    *,
    empty: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, v, i, f and of the initial C, n, m.

    Parameters
    ----------
    inputs
        q, k, v, i, f and the initial m.
    saved
        h, gate vectors, `attained_at` and what else `forward_pass` kept.
    out_grads
        Gradients of h and the final C, n, m; None where there is none.
    plan, eps, empty
        As in `forward_pass`; if `empty`, the gradients of the initial C, n, m are not computed and
        without elements.
    normalizer_gradient
        Whether the denominator counts.
    """
    q, k, v, i, f, m_start = inputs
    h, vectors, attained_at, kept = saved
    h_grad, C_grad, n_grad, m_grad = out_grads
    d_v, states = v.shape[-1], kept.states
    if h_grad is None:
        h_grad = v.new_zeros(()).expand(v.shape)
    q_grad, k_grad, v_grad = (x.new_empty(x.shape) for x in (q, k, v))
    # Products of gradients and what they are of: q . dq, k . dk, r = h . g.
    dots = kept.dot.new_zeros((3, *vectors.shape[1:]))
    state_dot = kept.dot.new_zeros(vectors.shape[1:-1])
    # Gradient of the state behind the block.
    nothing_behind = C_grad is None and n_grad is None
    carry = states.new_empty((*q.shape[:2], q.shape[-1], plan.columns))
    if not nothing_behind:
        _joined(C_grad, n_grad, carry, d_v)
    m_start_grad_C = m_start.new_zeros(m_start.shape)
    block = Block(states, d_v, plan, backward=True)
    group_row = group_state = 0
    for group in plan.groups:
        heads = group_size(group)
        q_, k_, v_, h_, h_grad_, q_grad_, k_grad_, v_grad_ = (
            Chunked(x[group], plan.chunk) for x in (q, k, v, h, h_grad, q_grad, k_grad, v_grad)
        )
        carry_ = carry[group].view(heads, *carry.shape[2:])
        vectors_ = vectors[:, :, *group].flatten(1, 3)
        rows = vectors_.shape[1]
        dots_, state_dot_ = dots.new_zeros((3, *vectors_.shape[1:])), state_dot.new_zeros(rows)
        for _, first, n_chunks in reversed(list(plan.blocks())):
            at = slice(first * heads, (first + n_chunks) * heads)
            r = n_chunks * heads
            # The first rows have no state before them, those from `end` on nothing behind.
            skip = heads if empty and first == 0 else 0
            last = nothing_behind and at.stop == rows
            end = r - heads if last else r
            S = states[group_state + at.start : group_state + at.stop + heads]
            P, D = kept.pairs[:, group_row + at.start : group_row + at.stop].unbind(0)
            gate, (q_dot, k_dot, r_dot) = block_gates(vectors_[:, at]), dots_[:, at].unbind(0)
            block.take(n_chunks, heads)
            block.load(q_, k_, v_, first, gate)
            Q, K, Kw, Qk, V1 = block.Q, block.K, block.Kw, block.Qk, block.V1
            # G1: gradients of the numerator and, in the column of ones, of the product s q . n.
            dot = kept.dot[group_row + at.start : group_row + at.stop]
            inverse = _denominator(dot, gate.floor, eps).reciprocal_()
            h_grad_.load(block.G, first, n_chunks, times=inverse)
            if normalizer_gradient:
                h_.load(block.dV, first, n_chunks, times=block.G)
                torch.sum(block.dV, -1, out=r_dot)
                block.G1[..., d_v] = torch.where(dot.abs() > gate.floor, -dot.sign() * r_dot, 0.0)
            G1, dS = block.G1, block.dS
            # To states, from the end of the block back.
            if skip < r:
                torch.bmm(Qk[skip:].mT, G1[skip:], out=dS[skip:r])
            if not last:
                dS[r:].copy_(carry_)
            steps, decays = by_chunk(dS, heads), by_chunk(gate.decay, heads)
            for index in reversed(range(skip // heads, end // heads)):
                steps[index].addcmul_(steps[index + 1], decays[index])
            if not skip:
                carry_.copy_(dS[:heads])
            S_end, dS_end = S[heads : heads + end], dS[heads : heads + end]
            product = torch.mul(S_end, dS_end, out=block.product[:end])
            torch.sum(product, (-1, -2), out=state_dot_[at][:end])
            # To values: in the chunk, and through its end state.
            dV = torch.bmm(P.mT, block.G, out=block.dV)
            dV[:end].baddbmm_(Kw[:end], dS_end[..., :d_v])
            v_grad_.store(dV, first, n_chunks)
            # To queries and keys: the way through the states, then pairs inside the chunk.
            dP = torch.bmm(G1, V1.mT, out=block.dP).mul_(D)
            dQ, dK = block.dQ, block.dK
            torch.bmm(G1[skip:], S[skip:r].mT, out=dQ[skip:]).mul_(gate.keep[skip:])
            torch.bmm(V1[:end], dS_end.mT, out=dK[:end]).mul_(gate.write[:end])
            dQ[:skip] = 0.0
            dK[end:] = 0.0
            dQ.baddbmm_(dP, K)
            dK.baddbmm_(dP.mT, Q)
            q_grad_.store(dQ, first, n_chunks, times=gate.q_fix)
            k_grad_.store(dK, first, n_chunks, times=gate.k_fix)
            torch.sum(dQ.mul_(Q), -1, out=q_dot)
            torch.sum(dK.mul_(K), -1, out=k_dot)
        dots[:, :, *group] = dots_.view(dots[:, :, *group].shape)
        state_dot[:, *group] = state_dot_.view(state_dot[:, *group].shape)
        if not empty:
            start = states[group_state : group_state + heads]
            m_start_grad_C[group] = (start * carry_).sum((-1, -2)).view(m_start[group].shape)
        group_row, group_state = group_row + rows, group_state + rows + heads
    i_grad, f_grad, m_start_grad = gate_gradients(
        f, attained_at, dots=dots, state_dot=state_dot, eps=eps, m_last_grad=m_grad
    )
    i_grad, f_grad = i_grad.to(i.dtype), f_grad.to(f.dtype)
    if empty:
        C_start, n_start, m_start_grad = (m_start.new_empty(0) for _ in range(3))
        return q_grad, k_grad, v_grad, i_grad, f_grad, C_start, n_start, m_start_grad
    # Copies: an op's results may not share memory.
    C_start, n_start = (
        x.clone(memory_format=torch.contiguous_format) for x in (carry[..., :d_v], carry[..., d_v])
    )
    m_start_grad = (m_start_grad + m_start_grad_C).to(m_start.dtype)
    return q_grad, k_grad, v_grad, i_grad, f_grad, C_start, n_start, m_start_grad


def _denominator(dot: Tensor, floor: Tensor, eps: float) -> Tensor:
    return torch.maximum(dot.abs(), floor).add_(eps)[..., None]
