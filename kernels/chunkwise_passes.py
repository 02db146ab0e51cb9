"""Forward and backward pass of the chunkwise form: loops over blocks, matrix products inside.

Shapes in the comments: r rows (chunks of some heads, chunk-major), L tokens a chunk, a = d_qk, and
c' columns: d_v values, a one, zeros. Operands that meet the same matrix stand side by side, so that
two products are one: PQ = [P, Qk] of (L, L + a), VS = [V1; S] and its counterpart YS = [P^T G1; dS]
of (L + a, c'). VS and YS hold one chunk more than a block, so that start states and end states both
are a slice of the rows.
"""

import torch
from torch import Tensor

from allometry.kernels.chunkwise_plan import Chunked, Plan, by_chunk, group_size
from allometry.kernels.contract import State
from allometry.kernels.gates import BlockGates, block_gates, chunk_gates, gate_gradients


class _Block:
    """Operands and products of one block; rows are those of `n_chunks` chunks of some heads."""

    def __init__(self, like: Tensor, d_v: int, plan: Plan, heads: int, n_chunks: int) -> None:
        L, a, c1, r = plan.chunk, like.shape[-2], plan.columns, n_chunks * heads
        self.L, self.d_v, self.heads, self.n_chunks = L, d_v, heads, n_chunks
        self.Q, self.K, self.Kw, self.U, self.D, self.product, self.PQ, self.VS = (
            like.new_empty(shape)
            for shape in (
                *((r, L, a),) * 3,
                (r, a, c1),
                *((r, L, L),) * 2,
                (r, L, L + a),
                (r + heads, L + a, c1),
            )
        )
        self.VS[:, :L, d_v:] = 0.0
        self.VS[:, :L, d_v] = 1.0
        self.V1, self.V = self.VS[:r, :L], self.VS[:r, :L, :d_v]
        self.P, self.Qk = self.PQ[..., :L], self.PQ[..., L:]
        self.S, self.S_end = self.VS[:r, L:], self.VS[heads:, L:]
        self.states = by_chunk(
            self.VS[:, L:], heads
        )  # start state of every chunk, and the last end

    def weigh(self, gate: BlockGates) -> None:
        """Fill in S and Kw, K times its weight in the end state; then [P, Qk]."""
        torch.mul(self.K, gate.write, out=self.Kw)
        torch.bmm(self.Kw.mT, self.V1, out=self.U)
        for n, (written, decay) in enumerate(
            zip(by_chunk(self.U, self.heads), by_chunk(gate.decay, self.heads), strict=True)
        ):
            torch.addcmul(written, self.states[n], decay, out=self.states[n + 1])
        # At most 0 but for the future, which the mask removes, as it does what padding writes. Not
        # -inf before exp: that takes three times as long.
        torch.sub(gate.w, gate.M, out=self.D).clamp_(max=0.0).exp_().tril_()
        torch.bmm(self.Q, self.K.mT, out=self.product)
        torch.mul(self.product, self.D, out=self.P)
        torch.mul(self.Q, gate.keep, out=self.Qk)


class _BackwardBlock(_Block):
    """A block with what its gradients need besides."""

    def __init__(self, like: Tensor, d_v: int, plan: Plan, heads: int, n_chunks: int) -> None:
        super().__init__(like, d_v, plan, heads, n_chunks)
        L, r = self.L, n_chunks * heads
        self.G1 = like.new_zeros((r, L, plan.columns))
        self.G = self.G1[..., :d_v]
        self.dV, self.dQ, self.dK = like.new_empty((r, L, d_v)), *like.new_empty((2, *self.Q.shape))
        self.X = torch.empty_like(self.PQ)
        self.dP, self.dQk = self.X[..., :L], self.X[..., L:]
        self.YS = torch.empty_like(self.VS)
        self.Y, self.dS_end = self.YS[:r], self.YS[heads:, L:]
        self.state_grads = by_chunk(self.YS[:, L:], heads)


def forward_pass(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, state: State, plan: Plan, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return h, the final C, n, m, and what `backward_pass` needs: gates, s q . n, kept states.

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
    vectors, m_last = chunk_gates(i, f, state[2], plan.chunk, q.shape[-1] ** -0.5, dtype)
    h, norm = v.new_empty(v.shape), torch.empty_like(vectors[0])
    kept = q.new_empty((plan.n_blocks + 1, *q.shape[:2], q.shape[-1], plan.columns), dtype=dtype)
    _joined(state[0], state[1], kept[0], d_v)
    blocks: dict[tuple[int, int], _Block] = {}
    for group in plan.groups:
        q_, k_, v_, h_ = (Chunked(x[group], plan.chunk) for x in (q, k, v, h))
        heads, kept_ = group_size(group), kept[:, *group].flatten(1, 2)
        norm_ = norm.new_empty((plan.n_chunks * heads, plan.chunk))
        vectors_ = vectors[:, :, *group].flatten(1, 3)
        for index, first, n_chunks in plan.blocks():
            key = (heads, n_chunks)
            if key not in blocks:
                blocks[key] = _Block(kept[0], d_v, plan, heads, n_chunks)
            block, at = blocks[key], slice(first * heads, (first + n_chunks) * heads)
            gate = block_gates(vectors_[:, at])
            q_.load(block.Q, first, n_chunks, times=gate.q_fix)
            k_.load(block.K, first, n_chunks, times=gate.k_fix)
            v_.load(block.V, first, n_chunks)
            block.states[0].copy_(kept_[index])
            block.weigh(gate)
            kept_[index + 1] = block.states[-1]
            H1 = torch.bmm(block.PQ, block.VS[: len(block.PQ)])
            dot = norm_[at].copy_(H1[..., d_v])
            inverse = _denominator(dot, gate.floor, eps).reciprocal_()
            h_.store(H1[..., :d_v], first, n_chunks, times=inverse)
        norm[:, *group] = norm_.view(norm[:, *group].shape)
    C, n = _parts(kept[-1], d_v)
    return h, C, n, m_last, vectors, norm, kept


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
    saved: tuple[Tensor, Tensor, Tensor, Tensor],
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
        h, gates, s q . n and the kept states of `forward_pass`.
    out_grads
        Gradients of h and the final C, n, m; None where there is none.
    plan, eps
        As in `forward_pass`.
    normalizer_gradient
        Whether the denominator counts.
    """
    q, k, v, i, f, m_start = inputs
    h, vectors, norm, kept = saved
    h_grad, C_grad, n_grad, m_grad = out_grads
    d_v = v.shape[-1]
    if h_grad is None:
        h_grad = v.new_zeros(()).expand(v.shape)
    q_grad, k_grad, v_grad = (x.new_empty(x.shape) for x in (q, k, v))
    # Products of gradients and what they are of: q . dq, k . dk, r = h . g.
    dots = norm.new_zeros((3, *norm.shape))
    state_dot = norm.new_empty(norm.shape[:-1])
    # Gradient of the state behind the block.
    carry = _joined(C_grad, n_grad, torch.empty_like(kept[0]), d_v)
    blocks: dict[tuple[int, int], _BackwardBlock] = {}
    for group in plan.groups:
        q_, k_, v_, h_, h_grad_, q_grad_, k_grad_, v_grad_ = (
            Chunked(x[group], plan.chunk) for x in (q, k, v, h, h_grad, q_grad, k_grad, v_grad)
        )
        heads, kept_, carry_ = group_size(group), kept[:, *group].flatten(1, 2), carry[group]
        vectors_, norm_ = vectors[:, :, *group].flatten(1, 3), norm[:, *group].flatten(0, 2)
        dots_, state_dot_ = norm.new_zeros((3, *norm_.shape)), norm.new_empty(len(norm_))
        for index, first, n_chunks in reversed(list(plan.blocks())):
            key = (heads, n_chunks)
            if key not in blocks:
                blocks[key] = _BackwardBlock(kept[0], d_v, plan, heads, n_chunks)
            block, at = blocks[key], slice(first * heads, (first + n_chunks) * heads)
            gate, (q_dot, k_dot, r_dot) = block_gates(vectors_[:, at]), dots_[:, at].unbind(0)
            q_.load(block.Q, first, n_chunks, times=gate.q_fix)
            k_.load(block.K, first, n_chunks, times=gate.k_fix)
            v_.load(block.V, first, n_chunks)
            block.states[0].copy_(kept_[index])
            block.weigh(gate)
            # G1: gradients of the numerator and, in the column of ones, of the product s q . n.
            dot = norm_[at]
            inverse = _denominator(dot, gate.floor, eps).reciprocal_()
            h_grad_.load(block.G, first, n_chunks, times=inverse)
            if normalizer_gradient:
                h_.load(block.dV, first, n_chunks).mul_(block.G)
                torch.sum(block.dV, -1, out=r_dot)
                block.G1[..., d_v] = torch.where(dot.abs() > gate.floor, -dot.sign() * r_dot, 0.0)
            # Through P and Qk to values and states; the latter from the end of the block back.
            torch.bmm(block.PQ.mT, block.G1, out=block.Y)
            block.state_grads[-1].copy_(carry_.view_as(block.state_grads[-1]))
            for n, decay in reversed(list(enumerate(by_chunk(gate.decay, heads)))):
                block.state_grads[n].addcmul_(block.state_grads[n + 1], decay)
            carry_.copy_(block.state_grads[0].view_as(carry_))
            end, end_grad = block.S_end.flatten(1), block.dS_end.flatten(1)
            torch.linalg.vecdot(end, end_grad, out=state_dot_[at])
            torch.bmm(block.Kw, block.dS_end[..., :d_v], out=block.dV)
            v_grad_.store(block.dV.add_(block.Y[:, : block.L, :d_v]), first, n_chunks)
            # To queries and keys: pairs inside the chunk, then the way through the states.
            torch.bmm(block.G1, block.VS[: len(block.Y)].mT, out=block.X)
            block.dP.mul_(block.D)
            torch.bmm(block.dP, block.K, out=block.dQ).addcmul_(block.dQk, gate.keep)
            through = torch.bmm(block.V1, block.dS_end.mT, out=block.Kw)
            torch.bmm(block.dP.mT, block.Q, out=block.dK).addcmul_(through, gate.write)
            q_grad_.store(block.dQ, first, n_chunks, times=gate.q_fix)
            k_grad_.store(block.dK, first, n_chunks, times=gate.k_fix)
            torch.sum(block.dQ.mul_(block.Q), -1, out=q_dot)
            torch.sum(block.dK.mul_(block.K), -1, out=k_dot)
        dots[:, :, *group] = dots_.view(dots[:, :, *group].shape)
        state_dot[:, *group] = state_dot_.view(state_dot[:, *group].shape)
    q_dot, k_dot, r_dot = dots.unbind(0)
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
    m_start_grad += (kept[0] * carry).sum((-1, -2))
    return (
        q_grad,
        k_grad,
        v_grad,
        i_grad.to(i.dtype),
        f_grad.to(f.dtype),
        *_parts(carry, d_v),
        m_start_grad.to(m_start.dtype),
    )


def _parts(state: Tensor, d_v: int) -> tuple[Tensor, Tensor]:
    """Copy C and n out of a state with columns c'; an op's results may not share memory."""
    return (
        state[..., :d_v].clone(memory_format=torch.contiguous_format),
        state[..., d_v].clone(memory_format=torch.contiguous_format),
    )


def _denominator(dot: Tensor, floor: Tensor, eps: float) -> Tensor:
    return torch.maximum(dot.abs(), floor).add_(eps)[..., None]
