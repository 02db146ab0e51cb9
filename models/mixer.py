"""The mLSTM layer: projections, gates in float32, the cell, per-head norm and output gate."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from allometry.accounting import XLSTMShape
from allometry.kernels import State, mlstm, mlstm_step
from allometry.models.layers import HeadNorm, soft_cap

RESET = -25.0  # arXiv:2510.02228: the old state is scaled by e^-25 = 1.4e-11
"""Forget pre-activation that the study sets at the first token of a document."""

NOTHING = 1e3  # exp(-1e3) is 0 and log sigmoid(1e3) is 0, in float64 too
"""Gates of padding: an input gate of -1e3 writes nothing, a forget gate of 1e3 keeps all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellInputs:
    """What the cell reads, (batch, heads, time, width) and (batch, heads, time), and the gate o.

    Attributes
    ----------
    q, k, v : Tensor
        In the compute dtype.
    i, f : Tensor
        Pre-activations after the soft cap, float32 at least.
    o : Tensor, shape (batch, time, n_heads * head_dim_v)
        Output gate before its sigmoid.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    i: Tensor
    f: Tensor
    o: Tensor


class MLSTM(nn.Module):
    """The mLSTM layer of xLSTM 7B.

    The rows of `qkvo` are all heads of q, of k, of v, then the output gate; those of `gates` are
    the input gates of all heads, then the forget gates.
    """

    def __init__(self, shape: XLSTMShape) -> None:
        super().__init__()
        self.shape = shape
        qk, v = shape.n_heads * shape.head_dim_qk, shape.n_heads * shape.head_dim_v
        self.widths = (qk, qk, v, v)
        self.qkvo = nn.Linear(shape.d_model, sum(self.widths), bias=False)
        self.gates = nn.Linear(shape.d_model, 2 * shape.n_heads)
        self.head_norm = HeadNorm(shape.n_heads, shape.head_dim_v, shape.norm_eps)
        self.out = nn.Linear(v, shape.d_model, bias=False)

    def forward(self, x: Tensor, *, document_starts: Tensor | None = None) -> Tensor:
        """Output of the layer, shape of `x` (batch, time, d_model).

        Parameters
        ----------
        x : Tensor, shape (batch, time, d_model)
        document_starts : Tensor of bool, shape (batch, time), optional
            Where the state is reset before the token.
        """
        cell = self.cell_inputs(x)
        f = cell.f
        if document_starts is not None:
            f = f.masked_fill(document_starts[:, None], RESET)
        h, _ = mlstm(cell.q, cell.k, cell.v, cell.i, f, return_state=False)
        return self.output(h.transpose(1, 2), cell.o)

    def prefill(self, x: Tensor, padding: Tensor | None) -> tuple[Tensor, State]:
        """Output of the layer and the state after `x`.

        Parameters
        ----------
        x : Tensor, shape (batch, time, d_model)
        padding : Tensor of bool, shape (batch, time), or None
            Where a token leaves the state as it is.
        """
        cell = self.cell_inputs(x)
        i, f = cell.i, cell.f
        if padding is not None:
            i = i.masked_fill(padding[:, None], -NOTHING)
            f = f.masked_fill(padding[:, None], NOTHING)
        h, state = mlstm(cell.q, cell.k, cell.v, i, f)
        return self.output(h.transpose(1, 2), cell.o), state

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One token a row, `x` (batch, 1, d_model); the given state is left as it is."""
        cell = self.cell_inputs(x)
        inputs = (part[:, :, 0] for part in (cell.q, cell.k, cell.v, cell.i, cell.f))
        h, state = mlstm_step(*inputs, state=state)
        return self.output(h[:, None], cell.o), state

    def cell_inputs(self, x: Tensor) -> CellInputs:
        """Project `x` (batch, time, d_model) to what the cell reads."""
        q, k, v, o = self.qkvo(x).split(self.widths, -1)
        q, k, v = (
            part.unflatten(-1, (self.shape.n_heads, -1)).transpose(1, 2) for part in (q, k, v)
        )
        i, f = self._gates(x).transpose(1, 2).chunk(2, 1)  # [B, H, T]
        return CellInputs(q=q, k=k, v=v, i=i, f=f, o=o)

    def output(self, h: Tensor, o: Tensor) -> Tensor:
        """Norm each head of `h` (batch, time, heads, head_dim_v), gate it, map to d_model."""
        out: Tensor = self.out(torch.sigmoid(o) * self.head_norm(h))
        return out

    def _gates(self, x: Tensor) -> Tensor:
        # Exponential gates: bfloat16's 8 bits at |x| = 10 are errors of e^0.03: no autocast.
        dtype = torch.promote_types(x.dtype, torch.float32)
        weight, bias = self.gates.weight.to(dtype), self.gates.bias.to(dtype)
        with torch.autocast(x.device.type, enabled=False):
            return soft_cap(functional.linear(x.to(dtype), weight, bias), self.shape.gate_soft_cap)
