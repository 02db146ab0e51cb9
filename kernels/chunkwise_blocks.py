"""Buffers of one block of the chunkwise form, and what the forward pass keeps for the backward.

Letters in the shapes: r rows (chunks of some heads, chunk-major), L tokens a chunk, a = d_qk, and
c' columns: d_v values, a one, zeros.
"""

import math
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
    """Operands of one block, in one allocation.

    One, because what is freed in many pieces goes back to the system and is fetched page by page at
    the next call.
    """

    def __init__(self, like: Tensor, d_v: int, plan: Plan, *, backward: bool) -> None:
        a, c1 = like.shape[-2], plan.columns
        self._tokens = [a, a, a, a, c1, c1] + ([d_v, plan.chunk] if backward else [])
        self._states = [1, 1] if backward else []
        self._L, self._a, self._c1, self._d_v = plan.chunk, a, c1, d_v
        most = plan.block_chunks * plan.width
        size = most * plan.chunk * sum(self._tokens)
        size += (most + plan.width) * a * c1 * len(self._states)
        self._memory = like.new_empty(size)
        self._rows = (0, 0)

    def take(self, n_chunks: int, heads: int) -> None:
        """Shape the buffers for a block of so many chunks and heads."""
        if self._rows == (n_chunks, heads):
            return
        self._rows, r = (n_chunks, heads), n_chunks * heads
        shapes = [(r, self._L, width) for width in self._tokens]
        shapes += [(r + heads, self._a, self._c1) for _ in self._states]
        sizes = [math.prod(shape) for shape in shapes]
        parts = self._memory[: sum(sizes)].split(sizes)
        buffers = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
        self.Q, self.K, self.Kw, self.Qk, self.V1, self.H1 = buffers[:6]
        self.V = self.V1[..., : self._d_v]
        self.V1[..., self._d_v :] = 0.0
        self.V1[..., self._d_v] = 1.0
        if not self._states:
            return
        self.dV, self.dP, self.dS, self.product = buffers[6:]
        # Gradients take the place of what is no longer needed by then.
        self.G1, self.dQ, self.dK = self.H1, self.Qk, self.Kw
        self.G = self.G1[..., : self._d_v]
        self.G1[..., self._d_v :] = 0.0

    def load(self, q: Chunked, k: Chunked, v: Chunked, first: int, gate: BlockGates) -> None:
        """Fill in Q, K and V, and what the state is read and written with, Qk and Kw."""
        n_chunks = self._rows[0]
        q.load(self.Q, first, n_chunks, times=gate.q_fix)
        k.load(self.K, first, n_chunks, times=gate.k_fix)
        v.load(self.V, first, n_chunks)
        torch.mul(self.K, gate.write, out=self.Kw)
        torch.mul(self.Q, gate.keep, out=self.Qk)
