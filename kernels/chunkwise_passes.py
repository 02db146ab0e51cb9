"""Forward and backward pass of the chunkwise form: loops over blocks, matrix products inside.

Letters as in `chunkwise_blocks`: r rows, L tokens a chunk, a = d_qk, c = d_v. Where the sequence
starts from the empty state nothing is read from it, and where nothing comes back from the final
state nothing is carried from there: of a short sequence that is a good part of the products.
"""

import torch
from torch import Tensor

from allometry.kernels.chunkwise_blocks import Kept, KeptSize, Rows, operands
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
    L = plan.chunk
    vectors, m_last, attained_at = chunk_gates(i, f, state[2], L, a**-0.5, dtype)
    gates, h = vectors.flatten(1, 3)[..., None], torch.empty_like(v)
    flat = (batch, heads) if return_state else (0, heads)
    C_end, n_end = (q.new_empty((*flat, a, *w), dtype=dtype) for w in ((d_v,), ()))
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
        kept.C_start.copy_(state[0].flatten(0, 1))
        kept.n_start.copy_(state[1].flatten(0, 1))
    # Across blocks, where nothing is kept.
    carried = memory.new_empty((1, a, d_v)), memory.new_empty((1, a))
    q_, k_, v_, h_ = (Rows(x, plan, dtype) for x in (q, k, v, h))
    room = operands(memory, plan, a, a, d_v)
    for block in plan.blocks:
        r = block.n_heads * block.n_chunks
        C, n, P, D, dot = (x[block.rows] if keep else x[:r] for x in kept[2:])
        gate = BlockGates(*gates[:, block.rows].unbind(0))
        Kw, Qk, spare = (x[:r] for x in room)
        before = None
        if not block.starts:
            before = _behind(kept, block.rows.start - 1) if keep else carried
        elif not empty:
            before = kept.C_start[block.line], kept.n_start[block.line]
        Q, K, V = q_.rows(block), k_.rows(block), v_.rows(block)
        torch.mul(K, gate.write, out=Kw)
        ends = block.ends and not return_state  # nobody reads the state behind the last chunk
        for mine in _stretches(block, block.n_chunks - 1) if ends else [slice(None)]:
            torch.bmm(Kw[mine].mT, V[mine], out=C[mine])
        torch.sum(Kw, 1, out=n)
        decays, last = _decays(gate, block), block.n_chunks - 1 if ends else block.n_chunks
        for x, x_before in zip((C, n), before or (None, None), strict=True):
            steps = _steps(x, block.n_heads)
            for at in range(last):
                of = steps[at - 1] if at else x_before
                if of is not None:
                    steps[at].addcmul_(of, decays[at] if of.ndim == 3 else decays[at][..., 0])
        # At most 0 but for the future, which the mask removes, as it does what padding writes.
        # Not -inf before exp2: that takes three times as long.
        torch.add(gate.w.mT, gate.N, out=D).exp2_().tril_().mul_(gate.fix.mT)
        torch.bmm(Q, K.mT, out=P).mul_(D)
        torch.sum(P, -1, keepdim=True, out=dot)
        H = h_.room(block, spare)
        torch.bmm(P, V, out=H)
        torch.mul(Q, gate.keep, out=Qk)
        for mine, of_C, of_n in _read(block, C, n, before):
            H[mine].baddbmm_(Qk[mine], of_C)
            dot[mine].baddbmm_(Qk[mine], of_n[..., None])
        h_.close(block, H.mul_(_denominator(dot, gate.floor, eps).reciprocal_()))
        if block.ends and return_state:
            for to, x in ((C_end, C), (n_end, n)):
                to.flatten(0, 1)[block.line] = _steps(x, block.n_heads)[-1]
        elif not block.ends and not keep:
            carried[0].copy_(C[-1:])
            carried[1].copy_(n[-1:])
    return h, C_end, n_end, m_last, vectors, attained_at, memory if keep else memory.new_empty(0)


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
    L, line = plan.chunk, batch * heads
    kept = KeptSize(0 if empty else line, line * plan.n_chunks, L, a, d_v).fields(memory)
    if h_grad is None:
        h_grad = v.new_zeros(()).expand(v.shape)
    gates = vectors.flatten(1, 3)[..., None]
    q_grad, k_grad, v_grad = (torch.empty_like(x) for x in (q, k, v))
    C_start_grad, n_start_grad = torch.empty_like(kept.C_start), torch.empty_like(kept.n_start)
    behind = None
    if C_grad is not None or n_grad is not None:
        behind = tuple(
            memory.new_zeros((line, *w)) if x is None else x.flatten(0, 1).to(dtype)
            for x, w in ((C_grad, (a, d_v)), (n_grad, (a,)))
        )
    # Products of gradients and what they are of: q . dq, k . dk, r = h . g, states.
    dots = vectors.new_zeros((3, *vectors.shape[1:]))
    state_dot = vectors.new_zeros((line, plan.n_chunks))
    q_, k_, v_, h_, h_grad_, q_grad_, k_grad_, v_grad_ = (
        Rows(x, plan, dtype) for x in (q, k, v, h, h_grad, q_grad, k_grad, v_grad)
    )
    room = operands(memory, plan, a, a, d_v, d_v, L)
    dC_room = memory.new_empty(plan.most_states * a * d_v)
    dn_room = memory.new_zeros(plan.most_states * a)
    product = memory.new_empty((min(line, plan.most_rows), a, d_v))
    for block in reversed(plan.blocks):
        m, r = block.n_chunks, block.n_heads * block.n_chunks
        C, n, P, D, dot = (x[block.rows] for x in kept[2:])
        gate = BlockGates(*gates[:, block.rows].unbind(0))
        q_dot, k_dot, r_dot = dots.flatten(1, 3)[:, block.rows].unbind(0)
        Kw, Qk, G, spare, dP = (x[:r] for x in room)
        before = None
        if not block.starts:
            before = _behind(kept, block.rows.start - 1)
        elif not empty:
            before = kept.C_start[block.line], kept.n_start[block.line]
        # Gradients of the numerator, G, and of the product s q . n, u.
        denominator = _denominator(dot, gate.floor, eps)
        h_grad_.read(block, G, times=denominator.reciprocal_())
        u = None
        if normalizer_gradient:
            h_.read(block, spare, times=G)
            torch.sum(spare, -1, out=r_dot)
            # Of the denominator over s q . n, with the sign of a gradient through 1 / denominator.
            slope = dot.sign().mul_(dot.abs() > gate.floor).neg_()
            u = slope.mul_(r_dot[..., None])
        # To states, from the end of the block back: dC is that of the state before every chunk, and
        # behind the last, if anything comes back from there.
        Q, K, V = q_.rows(block), k_.rows(block), v_.rows(block)
        torch.mul(Q, gate.keep, out=Qk)
        states = block.n_heads * (m + 1)
        dC = dC_room[: states * a * d_v].view(block.n_heads, m + 1, a, d_v)
        dn = dn_room[: states * a].view(block.n_heads, m + 1, a)
        last = m if behind is not None or not block.ends else m - 1
        for at, x in enumerate((dC, dn)):
            if not block.ends:
                x[:, m].copy_(x[:, 0])  # where the block behind left it
            elif behind is not None:
                x[:, m].copy_(behind[at][block.line])
        reads = _read(block, C, n, before)
        for mine, _, _ in reads:
            head, at = divmod(mine.start, m)
            to = slice(at, at + mine.stop - mine.start)
            torch.bmm(Qk[mine].mT, G[mine], out=dC[head, to])
            if u is None:
                dn[head, to].zero_()
            else:
                torch.bmm(Qk[mine].mT, u[mine], out=dn[head, to, :, None])
        ends, decays = _steps(C, block.n_heads), _decays(gate, block)
        dCs, dns, dots_ = dC.unbind(1), dn.unbind(1), state_dot[block.line, block.chunks].unbind(1)
        for at in reversed(range(last)):
            torch.mul(ends[at], dCs[at + 1], out=product[: block.n_heads])
            torch.sum(product[: block.n_heads], (-1, -2), out=dots_[at])
            if at or before is not None:
                dCs[at].addcmul_(dCs[at + 1], decays[at])
                dns[at].addcmul_(dns[at + 1], decays[at][..., 0])
        if last:
            of_n = n.unflatten(0, (-1, m))[:, :last] * dn[:, 1 : last + 1]
            state_dot[block.line, block.chunks][:, :last] += of_n.sum(-1)
        writes = [
            (mine, dC[g, 1 : last + 1], dn[g, 1 : last + 1, None])
            for g, mine in enumerate(_stretches(block, last))
        ]
        # To values: in the chunk, and through its end state.
        torch.mul(K, gate.write, out=Kw)
        dV = v_grad_.room(block, spare)
        torch.bmm(P.mT, G, out=dV)
        for mine, of_C, _ in writes:
            dV[mine].baddbmm_(Kw[mine], of_C)
        v_grad_.close(block, dV)
        # To queries and keys: the way through the states, then pairs inside the chunk.
        torch.bmm(G, V.mT, out=dP)
        if u is not None:
            dP.add_(u)
        dP.mul_(D)
        dQ, dK = q_grad_.room(block, Qk), k_grad_.room(block, Kw)
        if empty and block.starts:
            dQ.view(block.n_heads, m, L, a)[:, 0].zero_()
        for mine, of_C, of_n in reads:
            torch.bmm(G[mine], of_C.mT, out=dQ[mine])
            if u is not None:
                dQ[mine].addcmul_(u[mine], of_n[:, None])
        if last < m:
            dK.view(block.n_heads, m, L, a)[:, last].zero_()
        for mine, of_C, of_n in writes:
            torch.bmm(V[mine], of_C.mT, out=dK[mine]).add_(of_n)
        dQ.mul_(gate.keep).baddbmm_(dP, K)
        dK.mul_(gate.write).baddbmm_(dP.mT, Q)
        q_grad_.close(block, dQ)
        k_grad_.close(block, dK)
        torch.sum(torch.mul(dQ, Q, out=Qk), -1, out=q_dot)
        torch.sum(torch.mul(dK, K, out=Kw), -1, out=k_dot)
        if block.starts and not empty:
            C_start_grad[block.line], n_start_grad[block.line] = dC[:, 0], dn[:, 0]
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
        C_start_grad, n_start_grad, m_start_grad = (m_start.new_empty(0) for _ in range(3))
        return q_grad, k_grad, v_grad, i_grad, f_grad, C_start_grad, n_start_grad, m_start_grad
    of_m = (kept.C_start * C_start_grad).sum((-1, -2)) + (kept.n_start * n_start_grad).sum(-1)
    m_start_grad = (m_start_grad + of_m.view(m_start.shape)).to(m_start.dtype)
    C_start_grad, n_start_grad = (
        x.unflatten(0, (batch, heads)) for x in (C_start_grad, n_start_grad)
    )
    return q_grad, k_grad, v_grad, i_grad, f_grad, C_start_grad, n_start_grad, m_start_grad


def _behind(kept: Kept, row: int) -> tuple[Tensor, Tensor]:
    """State behind one row, [1, a, c] and [1, a]."""
    return kept.C[row : row + 1], kept.n[row : row + 1]


def _steps(states: Tensor, n_heads: int) -> tuple[Tensor, ...]:
    """States [r, ...] of all heads, chunk by chunk."""
    steps: tuple[Tensor, ...] = states.unflatten(0, (n_heads, -1)).unbind(1)
    return steps


def _decays(gate: BlockGates, block: Block) -> tuple[Tensor, ...]:
    """Weight of the state before every chunk in that behind it, to multiply states of all heads."""
    return _steps(gate.decay[:, :1], block.n_heads)


def _stretches(block: Block, n_chunks: int) -> list[slice]:
    """The first rows of each head of a block; none of no chunks."""
    m = block.n_chunks
    return [slice(g * m, g * m + n_chunks) for g in range(block.n_heads)] if n_chunks else []


def _read(
    block: Block, C: Tensor, n: Tensor, before: tuple[Tensor, Tensor] | None
) -> list[tuple[slice, Tensor, Tensor]]:
    """Rows that have a state before them, and these: a stretch a head, and its first chunk apart.

    `before` are the states before the first chunk, [heads, a, c] and [heads, a], or None where
    they are empty; C and n those behind every chunk.
    """
    m, reads = block.n_chunks, []
    for g in range(block.n_heads):
        first, end = g * m, (g + 1) * m
        if before is not None:
            reads.append((slice(first, first + 1), before[0][g : g + 1], before[1][g : g + 1]))
        if m > 1:
            reads.append((slice(first + 1, end), C[first : end - 1], n[first : end - 1]))
    return reads


def _denominator(dot: Tensor, floor: Tensor, eps: float) -> Tensor:
    return torch.maximum(dot.abs(), floor).add_(eps)
