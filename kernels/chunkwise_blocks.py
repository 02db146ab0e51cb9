"""Buffers of one block of the chunkwise form, and what the forward pass keeps for the backward.

Letters in the shapes: n chunks of some heads (b rows of the batch, h of each), r = n b h rows,
chunk-major; L tokens a chunk, a = d_qk, and c' columns: d_v values, a one, zeros.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from allometry.kernels.chunkwise_plan import Chunked, Plan
from allometry.kernels.gates import BlockGates


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """What of the forward pass the backward pass reads; rows of one group follow another's.

    Without a backward pass it is room for one block, written over by the next.
    """

    states: (
        Tensor  # [r + heads, a, c']: state before every chunk, and behind the last of each group
    )
    pairs: Tensor  # [2, r, L, L]: P, and D, the weight of token s at t over that of their product
    dot: Tensor  # [r, L]: s q . n, of which the denominator is made


def kept_shapes(
    plan: Plan, batch: int, heads: int, d_qk: int, *, keep: bool
) -> tuple[tuple[int, ...], ...]:
    """Shapes of the fields of `Kept`, for all blocks or, unless `keep`, for one."""
    rows = plan.n_chunks * batch * heads if keep else plan.block_chunks * plan.width
    more = batch * heads if keep else plan.width
    states = (rows + more, d_qk, plan.columns)
    return states, (2, rows, plan.chunk, plan.chunk), (rows, plan.chunk)


class Block:
    """Operands of one block, in one allocation, with the buffers twice: as rows and by chunk.

    One, because what is freed in many pieces goes back to the system and is fetched page by page at
    the next call. Products take rows, [r, L, width]; for all else what is in `chunks` has the
    layout of gates and inputs, [n, b, h, L, width].
    """

    def __init__(self, like: Tensor, d_v: int, plan: Plan, *, backward: bool) -> None:
        a, c1 = like.shape[-2], plan.columns
        self._L, self._a, self._c1, self._d_v = plan.chunk, a, c1, d_v
        self._widths = [a, a, a, a, c1, c1] + ([d_v, plan.chunk] if backward else [])
        most = plan.block_chunks * plan.width
        size = most * plan.chunk * sum(self._widths)
        states = 0
        if backward:
            # dV and dP, last, are room for products of states before they are filled.
            size += max(plan.width * a * c1 - most * plan.chunk * sum(self._widths[6:]), 0)
            states = (most + plan.width) * a * c1
        self._states, self._memory = like.new_empty(states + size).split([states, size])
        self._lead = (0, 0, 0)

    def take(self, n: int, b: int, h: int) -> None:
        """Shape the buffers for a block of n chunks and b h heads."""
        if self._lead == (n, b, h):
            return
        self._lead, r, L, d_v = (n, b, h), n * b * h, self._L, self._d_v
        sizes = [r * L * width for width in self._widths]
        *parts, _ = self._memory.split([*sizes, self._memory.shape[0] - sum(sizes)])
        shaped = [part.view(r, L, -1) for part in parts]
        self.Q, self.K, self.Kw, self.Qk, self.V1, self.H1 = shaped[:6]
        self.QkT, self.KwT, self.KT = self.Qk.mT, self.Kw.mT, self.K.mT
        self.chunks = Chunks([x.view(n, b, h, L, -1) for x in shaped[:7]], d_v)
        tail = self.V1[..., d_v:].zero_()
        tail.select(-1, 0).fill_(1.0)
        if len(parts) == 6:
            return
        self.dV, self.dP = shaped[6:]
        # Gradients take the place of what is no longer needed by then.
        self.G1, self.dQ, self.dK = self.H1, self.Qk, self.Kw
        self.G, self.V1T, self.dPT = self.G1[..., :d_v], self.V1.mT, self.dP.mT
        self.G1[..., d_v:].zero_()  # the first of these columns is filled in where it counts
        # [n + 1, b, h, a, c']: gradients of the state before every chunk and behind the last. The
        # first chunk's is at the same place for every n.
        size = self._a * self._c1
        self.dS = self._states[: (r + b * h) * size].view(-1, self._a, self._c1)
        self.dS_steps = self.dS.view(n + 1, b, h, self._a, self._c1)
        scratch = self._memory[sum(sizes[:6]) :]
        at_once = min(n, scratch.shape[0] // (b * h * size))
        self.products = scratch[: at_once * b * h * size].view(at_once, b, h, self._a, self._c1)

    def load_q(self, q: Chunked, index: int, gate: BlockGates) -> None:
        """Fill in Q, and what the state is read with, Qk."""
        q.load(self.chunks.Q, index, times=gate.q_fix)
        torch.mul(self.chunks.Q, gate.keep, out=self.chunks.Qk)

    def load_kv(self, k: Chunked, v: Chunked, index: int, gate: BlockGates) -> None:
        """Fill in K and V, and what the state is written with, Kw."""
        v.load(self.chunks.V, index)
        k.load(self.chunks.K, index, times=gate.k_fix)
        torch.mul(self.chunks.K, gate.write, out=self.chunks.Kw)


class Chunks:
    """Buffers of a block by chunk, [n, b, h, L, width]; names as in `Block`."""

    def __init__(self, buffers: list[Tensor], d_v: int) -> None:
        self.Q, self.K, self.Kw, self.Qk, V1, H1, *more = buffers
        self.V, self.H, self.dot = V1[..., :d_v], H1[..., :d_v], H1[..., d_v : d_v + 1]
        self.dQ, self.dK, self.G, self.G_dot = self.Qk, self.Kw, self.H, self.dot
        if more:
            self.dV = more[0]
