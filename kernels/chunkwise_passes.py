"""Forward and backward pass of the chunkwise form: loops over blocks, matrix products inside.

Letters as in `chunkwise_blocks`: r rows, L tokens a chunk, a = d_qk, c' columns. Where the sequence
starts from the empty state nothing is read from it, and where nothing comes back from the final
state nothing is carried from there: of a short sequence that is a good part of the products.
"""

import torch
from torch import Tensor

from allometry.kernels.chunkwise_blocks import Block, Kept, kept_shapes
from allometry.kernels.chunkwise_plan import Chunked, Plan, group_shape
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
    h = torch.empty_like(v)
    shapes = kept_shapes(plan, batch, heads, d_qk, keep=keep)
    states, pairs, dots = (q.new_empty(shape, dtype=dtype) for shape in shapes)
    C, n = (q.new_empty((batch, heads, d_qk, *w), dtype=dtype) for w in ((d_v,), ()))
    block = Block(states, d_v, plan, backward=False)
    row = state_row = 0  # where the group starts in what is kept
    P_all, D_all = pairs.unbind(0)
    for group in plan.groups:
        b, heads = group_shape(group)
        width, step_shape = b * heads, (-1, b, heads, d_qk, plan.columns)
        q_, k_, v_, h_ = (Chunked(x[group], plan) for x in (q, k, v, h))
        gates = vectors[:, :, *group, :, None]
        decays = gates[-1, :, :, :, :1].unbind(0)
        if not empty:
            start = states[state_row : state_row + width].view(step_shape)[0]
            _joined(state[0][group], state[1][group], start, d_v)
        for index, part in enumerate(gates.split(plan.block_chunks, 1)):
            n_chunks, first = part.shape[1], index * plan.block_chunks
            r, skip = n_chunks * width, width if empty and index == 0 else 0
            S = states[state_row : state_row + r + width]
            P, D = P_all[row : row + r], D_all[row : row + r]
            gate = block_gates(part)
            block.take(n_chunks, b, heads)
            here, H1 = block.chunks, block.H1
            block.load_kv(k_, v_, index, gate)
            torch.bmm(block.KwT, block.V1, out=S[width:])
            steps = S.view(step_shape).unbind(0)
            for at in range(1 if skip else 0, n_chunks):
                steps[at + 1].addcmul_(steps[at], decays[first + at])
            # At most 0 but for the future, which the mask removes, as it does what padding writes.
            # Not -inf before exp2: that takes three times as long.
            torch.add(gate.w, gate.N, out=D.view(n_chunks, b, heads, *D.shape[1:]))
            D.exp2_().tril_()
            block.load_q(q_, index, gate)
            torch.bmm(block.Q, block.KT, out=P).mul_(D)
            torch.bmm(P, block.V1, out=H1)
            if not skip:
                H1.baddbmm_(block.Qk, S[:r])
            elif skip < r:
                H1[skip:].baddbmm_(block.Qk[skip:], S[skip:r])
            dot = dots[row : row + r].view(gate.floor.shape).copy_(here.dot)
            inverse = _denominator(dot, gate.floor, eps).reciprocal_()
            h_.store(here.H, index, times=inverse)
            if keep:
                row, state_row = row + r, state_row + r
            else:
                S[:width] = S[r:]
        end = states[state_row : state_row + width].view(step_shape)[0]
        C[group], n[group] = end[..., :d_v], end[..., d_v]
        state_row += width if keep else 0
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
    q_grad, k_grad, v_grad = (torch.empty_like(x) for x in (q, k, v))
    # Products of gradients and what they are of: q . dq, k . dk, r = h . g.
    dots = kept.dot.new_zeros((3, *vectors.shape[1:]))
    state_dot = kept.dot.new_zeros(vectors.shape[1:-1])
    nothing_behind = C_grad is None and n_grad is None
    m_start_grad_C = m_start.new_zeros(m_start.shape)
    C_shape = (0,) if empty else (*q.shape[:2], q.shape[-1], d_v)
    C_start, n_start = (states.new_empty(shape) for shape in (C_shape, C_shape[:3]))
    block = Block(states, d_v, plan, backward=True)
    P_all, D_all = kept.pairs.unbind(0)
    group_row = group_state = 0
    for group in plan.groups:
        b, heads = group_shape(group)
        width, n_all = b * heads, plan.n_chunks
        q_, k_, v_, h_, h_grad_, q_grad_, k_grad_, v_grad_ = (
            Chunked(x[group], plan) for x in (q, k, v, h, h_grad, q_grad, k_grad, v_grad)
        )
        gates = vectors[:, :, *group, :, None]
        parts, floor = gates.split(plan.block_chunks, 1), gates[4]
        decays = gates[-1, :, :, :, :1].unbind(0)
        dots_ = dots[:, :, *group].split(plan.block_chunks, 1)
        state_dot_ = state_dot[:, *group]
        dot = kept.dot[group_row : group_row + n_all * width].view(floor.shape)
        inverses = _denominator(dot, floor, eps).reciprocal_().split(plan.block_chunks)
        # Of the denominator over s q . n, with the sign of a gradient through 1 / denominator.
        slopes = dot.sign().mul_(dot.abs() > floor).neg_().split(plan.block_chunks)
        for index in reversed(range(len(parts))):
            n_chunks, first = parts[index].shape[1], index * plan.block_chunks
            r = n_chunks * width
            row, state_row = group_row + first * width, group_state + first * width
            # The first chunk has no state before it, the last one of the last block nothing behind.
            has_behind, ends = index + 1 < len(parts), nothing_behind and index + 1 == len(parts)
            skip, end = 1 if empty and index == 0 else 0, n_chunks - 1 if ends else n_chunks
            skip_r, end_r = skip * width, end * width
            S = states[state_row : state_row + r + width]
            P, D = P_all[row : row + r], D_all[row : row + r]
            gate, (q_dot, k_dot, r_dot) = block_gates(parts[index]), dots_[index].unbind(0)
            block.take(n_chunks, b, heads)
            here, dS, steps = block.chunks, block.dS, block.dS_steps.unbind(0)
            # G1: gradients of the numerator and, in the column of ones, of the product s q . n.
            h_grad_.load(here.G, index, times=inverses[index])
            if normalizer_gradient:
                h_.load(here.dV, index, times=here.G)
                torch.sum(here.dV, -1, out=r_dot)
                torch.mul(slopes[index], r_dot[..., None], out=here.G_dot)
            # To states, from the end of the block back.
            block.load_q(q_, index, gate)
            if has_behind:
                steps[-1].copy_(steps[0])  # where the block behind left it
            elif not nothing_behind:
                C_, n_ = (x if x is None else x[group] for x in (C_grad, n_grad))
                _joined(C_, n_, steps[-1], d_v)
            QkT, G1, dQ, before = block.QkT, block.G1, block.dQ, S[:r]
            if skip:
                QkT, G1, dQ, before = (x[skip_r:] for x in (QkT, G1, dQ, before))
            if skip < n_chunks:
                torch.bmm(QkT, G1, out=dS[skip_r:r])
            for at in reversed(range(skip, end)):
                steps[at].addcmul_(steps[at + 1], decays[first + at])
            S_steps = S.view(block.dS_steps.shape)
            for at in range(0, end, block.products.shape[0]):
                upto = min(at + block.products.shape[0], end)
                product = block.products[: upto - at]
                S_, dS_ = S_steps[at + 1 : upto + 1], block.dS_steps[at + 1 : upto + 1]
                torch.mul(S_, dS_, out=product)
                torch.sum(product, (-1, -2), out=state_dot_[first + at : first + upto])
            # To values: in the chunk, and through its end state.
            block.load_kv(k_, v_, index, gate)
            torch.bmm(P.mT, block.G, out=block.dV)
            Kw, V1, dV, dK, dS_end = block.Kw, block.V1, block.dV, block.dK, dS[width:]
            if ends:
                Kw, V1, dV, dK, dS_end = (x[:end_r] for x in (Kw, V1, dV, dK, dS_end))
            dV.baddbmm_(Kw, dS_end[..., :d_v])
            v_grad_.store(here.dV, index)
            # To queries and keys: the way through the states, then pairs inside the chunk.
            dP = torch.bmm(block.G1, block.V1T, out=block.dP).mul_(D)
            torch.bmm(G1, before.mT, out=dQ)
            torch.bmm(V1, dS_end.mT, out=dK)
            if skip:
                block.dQ[:skip_r].zero_()
            if ends:
                block.dK[end_r:].zero_()
            here.dQ.mul_(gate.keep)
            here.dK.mul_(gate.write)
            block.dQ.baddbmm_(dP, block.K)
            block.dK.baddbmm_(block.dPT, block.Q)
            q_grad_.store(here.dQ, index, times=gate.q_fix)
            k_grad_.store(here.dK, index, times=gate.k_fix)
            torch.sum(here.dQ.mul_(here.Q), -1, out=q_dot)
            torch.sum(here.dK.mul_(here.K), -1, out=k_dot)
        if not empty:
            start_grad = block.dS_steps[0]
            C_start[group], n_start[group] = start_grad[..., :d_v], start_grad[..., d_v]
            start = states[group_state : group_state + width].view(start_grad.shape)
            m_start_grad_C[group] = (start * start_grad).sum((-1, -2))
        group_row, group_state = group_row + n_all * width, group_state + (n_all + 1) * width
    i_grad, f_grad, m_start_grad = gate_gradients(
        f, attained_at, dots=dots, state_dot=state_dot, eps=eps, m_last_grad=m_grad
    )
    i_grad, f_grad = i_grad.to(i.dtype), f_grad.to(f.dtype)
    if empty:
        return q_grad, k_grad, v_grad, i_grad, f_grad, C_start, n_start, m_start.new_empty(0)
    m_start_grad = (m_start_grad + m_start_grad_C).to(m_start.dtype)
    return q_grad, k_grad, v_grad, i_grad, f_grad, C_start, n_start, m_start_grad


def _denominator(dot: Tensor, floor: Tensor, eps: float) -> Tensor:
    return torch.maximum(dot.abs(), floor).add_(eps)
