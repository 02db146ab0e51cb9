"""Forward and backward pass of the chunkwise form: loops over blocks, matrix products inside.

Letters as in `chunkwise_blocks`: r rows, L tokens a chunk, a = d_qk, c' columns. Where the sequence
starts from the empty state nothing is read from it, and where nothing comes back from the final
state nothing is carried from there: of a short sequence that is a good part of the products.
"""

import torch
from torch import Tensor

from allometry.kernels.chunkwise_blocks import KeptSize, Rows, operands
from allometry.kernels.chunkwise_plan import Block, Plan
from allometry.kernels.contract import State
from allometry.kernels.gates import BlockGates, chunk_gates, gate_gradients


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
    return_state: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return h, the final C, n, m; for `backward_pass` vectors, `attained_at`, memory of `Kept`.

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
        Whether a backward pass will follow; if not, nothing is kept.
    return_state : bool
        Whether the final state is asked for; if not, C and n are without elements.
    """
    (batch, heads, _, a), d_v, dtype = q.shape, v.shape[-1], state[0].dtype
    L, c1 = plan.chunk, d_v + 1
    vectors, m_last, attained_at = chunk_gates(i, f, state[2], L, a**-0.5, dtype)
    gates, h = vectors.flatten(1, 3)[..., None], torch.empty_like(v)
    flat = (batch, heads) if return_state else (0, heads)
    C, n = (q.new_empty((*flat, a, *w), dtype=dtype) for w in ((d_v,), ()))
    size = KeptSize(
        starts=0 if empty else batch * heads,
        rows=batch * heads * plan.n_chunks if keep else plan.most_rows,
        chunk=L,
        d_qk=a,
        d_v=d_v,
    )
    memory = q.new_empty(size.total(), dtype=dtype)
    kept = size.fields(memory)
    if not empty:
        _join(state[0], state[1], d_v, kept.start)
    carried = memory.new_empty((1, a, c1))  # across blocks, where nothing is kept
    q_, k_, v_, h_ = (Rows(x, plan, dtype) for x in (q, k, v, h))
    room = operands(memory, plan, a, a, c1, c1)
    for block in plan.blocks:
        r = block.n_heads * block.n_chunks
        S, P, D, dot = (x[block.rows] if keep else x[:r] for x in kept[1:])
        gate = BlockGates(*gates[:, block.rows].unbind(0))
        Kw, Qk, V1, H1 = (x[:r] for x in room)
        before = None if empty else kept.start[block.line]
        if not block.starts:
            before = kept.states[block.rows.start - 1 : block.rows.start] if keep else carried
        _load_values(v_, block, gate.fix, V1, d_v)
        K = k_.rows(block)
        torch.mul(K, gate.write, out=Kw)
        ends = block.ends and not return_state  # nobody reads the state behind the last chunk
        for mine in _stretches(block, block.n_chunks - 1) if ends else [slice(None)]:
            torch.bmm(Kw[mine].mT, V1[mine], out=S[mine])
        steps, decays = _steps(S, block.n_heads), _decays(gate, block)
        for at in range(block.n_chunks - 1 if ends else block.n_chunks):
            of = steps[at - 1] if at else before
            if of is not None:
                steps[at].addcmul_(of, decays[at])
        # At most 0 but for the future, which the mask removes, as it does what padding writes.
        # Not -inf before exp2: that takes three times as long.
        torch.add(gate.w.mT, gate.N, out=D).exp2_().tril_()
        Q = q_.rows(block)
        torch.bmm(Q, K.mT, out=P).mul_(D)
        torch.bmm(P, V1, out=H1)
        torch.mul(Q, gate.keep, out=Qk)
        for mine, states in _read(block, S, before):
            H1[mine].baddbmm_(Qk[mine], states)
        dot.copy_(H1[..., d_v : d_v + 1])
        h_.write(block, H1[..., :d_v], times=_denominator(dot, gate.floor, eps).reciprocal_())
        end = steps[-1]
        if block.ends and return_state:
            C.flatten(0, 1)[block.line], n.flatten(0, 1)[block.line] = end[..., :d_v], end[..., d_v]
        elif not block.ends and not keep:
            carried.copy_(end)
    return h, C, n, m_last, vectors, attained_at, memory if keep else memory.new_empty(0)


def backward_pass(
    inputs: tuple[Tensor, ...],
    saved: tuple[Tensor, Tensor, Tensor, Tensor],
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
        h, and of `forward_pass` the gate vectors, `attained_at` and the memory.
    out_grads
        Gradients of h and the final C, n, m; None where there is none.
    plan, eps, empty
        As in `forward_pass`; if `empty`, the gradients of the initial C, n, m are not computed and
        without elements.
    normalizer_gradient
        Whether the denominator counts.
    """
    q, k, v, i, f, m_start = inputs
    h, vectors, attained_at, memory = saved
    h_grad, C_grad, n_grad, m_grad = out_grads
    (batch, heads, _, a), d_v, dtype = q.shape, v.shape[-1], memory.dtype
    L, c1, line = plan.chunk, d_v + 1, batch * heads
    kept = KeptSize(0 if empty else line, line * plan.n_chunks, L, a, d_v).fields(memory)
    if h_grad is None:
        h_grad = v.new_zeros(()).expand(v.shape)
    gates = vectors.flatten(1, 3)[..., None]
    q_grad, k_grad, v_grad = (torch.empty_like(x) for x in (q, k, v))
    start_grad = torch.empty_like(kept.start)
    behind = None
    if C_grad is not None or n_grad is not None:
        behind = _join(C_grad, n_grad, d_v, memory.new_empty((line, a, c1)))
    # Products of gradients and what they are of: q . dq, k . dk, r = h . g, states.
    dots = vectors.new_zeros((3, *vectors.shape[1:]))
    state_dot = vectors.new_zeros((line, plan.n_chunks))
    q_, k_, v_, h_, h_grad_, q_grad_, k_grad_, v_grad_ = (
        Rows(x, plan, dtype) for x in (q, k, v, h, h_grad, q_grad, k_grad, v_grad)
    )
    room = operands(memory, plan, a, a, c1, c1, d_v, L)
    if not normalizer_gradient:
        room[3].zero_()  # its column of ones
    dS_room = memory.new_empty(plan.most_states * a * c1)
    product = memory.new_empty((min(line, plan.most_rows), a, c1))
    for block in reversed(plan.blocks):
        m, r = block.n_chunks, block.n_heads * block.n_chunks
        S, P, D, dot = (x[block.rows] for x in kept[1:])
        gate = BlockGates(*gates[:, block.rows].unbind(0))
        q_dot, k_dot, r_dot = dots.flatten(1, 3)[:, block.rows].unbind(0)
        Kw, Qk, V1, G1, spare, dP = (x[:r] for x in room)
        G, decays = G1[..., :d_v], _decays(gate, block)
        before = None if empty else kept.start[block.line]
        if not block.starts:
            before = kept.states[block.rows.start - 1 : block.rows.start]
        # G1: gradients of the numerator and, in the column of ones, of the product s q . n.
        denominator = _denominator(dot, gate.floor, eps)
        h_grad_.read(block, G, times=denominator.reciprocal_())
        if normalizer_gradient:
            h_.read(block, V1[..., :d_v], times=G)
            torch.sum(V1[..., :d_v], -1, out=r_dot)
            # Of the denominator over s q . n, with the sign of a gradient through 1 / denominator.
            slope = dot.sign().mul_(dot.abs() > gate.floor).neg_()
            torch.mul(slope, r_dot[..., None], out=G1[..., d_v : d_v + 1])
        # To states, from the end of the block back: dS is that of the state before every chunk, and
        # behind the last, if anything comes back from there.
        Q, K = q_.rows(block), k_.rows(block)
        torch.mul(Q, gate.keep, out=Qk)
        dS = dS_room[: block.n_heads * (m + 1) * a * c1].view(block.n_heads, m + 1, a, c1)
        steps, last = dS.unbind(1), m if behind is not None or not block.ends else m - 1
        if not block.ends:
            steps[m].copy_(steps[0])  # where the block behind left it
        elif behind is not None:
            steps[m].copy_(behind[block.line])
        reads = _read(block, S, before)
        for mine, _ in reads:
            head, at = divmod(mine.start, m)
            to = dS[head, at : at + mine.stop - mine.start]
            torch.bmm(Qk[mine].mT, G1[mine], out=to)
        ends, dots_ = _steps(S, block.n_heads), state_dot[block.line, block.chunks].unbind(1)
        for at in reversed(range(last)):
            torch.mul(ends[at], steps[at + 1], out=product[: block.n_heads])
            torch.sum(product[: block.n_heads], (-1, -2), out=dots_[at])
            if at or before is not None:
                steps[at].addcmul_(steps[at + 1], decays[at])
        writes = [(mine, dS[g, 1 : last + 1]) for g, mine in enumerate(_stretches(block, last))]
        # To values: in the chunk, and through its end state.
        _load_values(v_, block, gate.fix, V1, d_v)
        torch.mul(K, gate.write, out=Kw)
        dV = v_grad_.room(block, spare)
        torch.bmm(P.mT, G, out=dV)
        for mine, states in writes:
            dV[mine].baddbmm_(Kw[mine], states[..., :d_v])
        v_grad_.close(block, dV.mul_(gate.fix))
        # To queries and keys: the way through the states, then pairs inside the chunk.
        torch.bmm(G1, V1.mT, out=dP).mul_(D)
        dQ, dK = q_grad_.room(block, Qk), k_grad_.room(block, Kw)
        if empty and block.starts:
            dQ.view(block.n_heads, m, L, a)[:, 0].zero_()
        for mine, states in reads:
            torch.bmm(G1[mine], states.mT, out=dQ[mine])
        if last < m:
            dK.view(block.n_heads, m, L, a)[:, last].zero_()
        for mine, states in writes:
            torch.bmm(V1[mine], states.mT, out=dK[mine])
        dQ.mul_(gate.keep).baddbmm_(dP, K)
        dK.mul_(gate.write).baddbmm_(dP.mT, Q)
        q_grad_.close(block, dQ)
        k_grad_.close(block, dK)
        torch.sum(torch.mul(dQ, Q, out=Qk), -1, out=q_dot)
        torch.sum(torch.mul(dK, K, out=Kw), -1, out=k_dot)
        if block.starts and not empty:
            start_grad[block.line] = steps[0]
    i_grad, f_grad, m_start_grad = gate_gradients(
        f,
        attained_at,
        dots=dots,
        state_dot=state_dot.view(vectors.shape[1:-1]),
        eps=eps,
        m_last_grad=m_grad,
    )
    i_grad, f_grad = i_grad.to(i.dtype), f_grad.to(f.dtype)
    if empty:
        C_start, n_start, m_start_grad = (m_start.new_empty(0) for _ in range(3))
        return q_grad, k_grad, v_grad, i_grad, f_grad, C_start, n_start, m_start_grad
    m_start_grad += (kept.start * start_grad).sum((-1, -2)).view(m_start.shape)
    start_grad = start_grad.view(batch, heads, a, c1)
    C_start, n_start = start_grad[..., :d_v].contiguous(), start_grad[..., d_v].contiguous()
    m_start_grad = m_start_grad.to(m_start.dtype)
    return q_grad, k_grad, v_grad, i_grad, f_grad, C_start, n_start, m_start_grad


def _join(C: Tensor | None, n: Tensor | None, d_v: int, out: Tensor) -> Tensor:
    """Write C and n to states [heads, a, c']; None is zero."""
    out.zero_()
    if C is not None:
        out[..., :d_v] = C.flatten(0, 1)
    if n is not None:
        out[..., d_v] = n.flatten(0, 1)
    return out


def _load_values(v: Rows, block: Block, fix: Tensor, V1: Tensor, d_v: int) -> None:
    """Fill in values and the column of ones, each times the factor near 1 of its token."""
    v.read(block, V1[..., :d_v], times=fix)
    V1[..., d_v : d_v + 1] = fix


def _steps(states: Tensor, n_heads: int) -> tuple[Tensor, ...]:
    """States [r, a, c'] of all heads, chunk by chunk."""
    steps: tuple[Tensor, ...] = states.unflatten(0, (n_heads, -1)).unbind(1)
    return steps


def _decays(gate: BlockGates, block: Block) -> tuple[Tensor, ...]:
    """Weight of the state before every chunk in that behind it, to multiply states of all heads."""
    return _steps(gate.decay[:, :1], block.n_heads)


def _stretches(block: Block, n_chunks: int) -> list[slice]:
    """The first rows of each head of a block; none of no chunks."""
    m = block.n_chunks
    return [slice(g * m, g * m + n_chunks) for g in range(block.n_heads)] if n_chunks else []


def _read(block: Block, states: Tensor, before: Tensor | None) -> list[tuple[slice, Tensor]]:
    """Rows that have a state before them, and these: a stretch a head, and its first chunk apart.

    `before` are the states before the first chunk, [heads, a, c'], or None where they are empty;
    `states` those behind every chunk.
    """
    m, reads = block.n_chunks, []
    for g in range(block.n_heads):
        first, end = g * m, (g + 1) * m
        if before is not None:
            reads.append((slice(first, first + 1), before[g : g + 1]))
        if m > 1:
            reads.append((slice(first + 1, end), states[first : end - 1]))
    return reads


def _denominator(dot: Tensor, floor: Tensor, eps: float) -> Tensor:
    return torch.maximum(dot.abs(), floor).add_(eps)
