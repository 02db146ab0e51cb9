"""The xLSTM of the study: pre-norm mLSTM blocks with SwiGLU, untied embedding, capped logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from allometry.accounting import XLSTMShape
from allometry.kernels import State
from allometry.models.inputs import check_prompt, check_step, check_tokens, last_real
from allometry.models.layers import RMSNorm, SwiGLU, soft_cap
from allometry.models.mixer import MLSTM


@dataclass(frozen=True, kw_only=True, slots=True)
class RecurrentState:
    """What the xLSTM remembers: of the same size however much it has read.

    Attributes
    ----------
    layers : tuple of State
        (C, n, m) of each block, of shapes (batch, n_heads, head_dim_qk, head_dim_v),
        (batch, n_heads, head_dim_qk) and (batch, n_heads), float32. Not stacked: a step would
        copy them all.
    """

    layers: tuple[State, ...]


class XLSTMBlock(nn.Module):
    """x + MLSTM(norm(x)), then x + SwiGLU(norm(x))."""

    def __init__(self, shape: XLSTMShape) -> None:
        super().__init__()
        self.mixer_norm = RMSNorm(shape.d_model, shape.norm_eps)
        self.mixer = MLSTM(shape)
        self.feed_forward_norm = RMSNorm(shape.d_model, shape.norm_eps)
        self.feed_forward = SwiGLU(shape.d_model, shape.d_ff)

    def forward(self, x: Tensor, document_starts: Tensor | None) -> Tensor:
        """Shape of `x`, (batch, time, d_model)."""
        mixed = self.mixer(self.mixer_norm(x), document_starts=document_starts)
        return self.finish(x + mixed)

    def finish(self, x: Tensor) -> Tensor:
        """Apply what follows the mixer: the feed-forward and its residual."""
        out: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return out


class XLSTM(nn.Module):
    """The xLSTM of an `XLSTMShape`; build one with `allometry.models.build`.

    Parameters
    ----------
    shape : XLSTMShape
        Widths; also what `allometry.accounting` counts.
    """

    def __init__(self, shape: XLSTMShape) -> None:
        super().__init__()
        self.shape = shape
        self.logit_soft_cap: float | None = shape.logit_soft_cap
        self.embedding = nn.Embedding(shape.vocab_size, shape.d_model)
        blocks = nn.ModuleList(XLSTMBlock(shape) for _ in range(shape.n_layers))
        self.blocks = cast(
            Sequence[XLSTMBlock], blocks
        )  # a ModuleList forgets the type of its modules
        self.final_norm = RMSNorm(shape.d_model, shape.norm_eps)
        self.head = nn.Linear(shape.d_model, shape.vocab_size, bias=False)

    def hidden(self, tokens: Tensor, *, document_starts: Tensor | None = None) -> Tensor:
        """Normed last hidden states, what the head reads.

        Parameters
        ----------
        tokens : Tensor of int64, shape (batch, time)
        document_starts : Tensor of bool, shape (batch, time), optional
            True at the first token of each packed document; the state is reset there, as in the
            study: scaled by e^-25, so that 1.4e-11 of what was written before is left.

        Returns
        -------
        Tensor, shape (batch, time, d_model)
        """
        check_tokens(tokens, document_starts)
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, document_starts)
        out: Tensor = self.final_norm(x)
        return out

    def forward(self, tokens: Tensor, *, document_starts: Tensor | None = None) -> Tensor:
        """Logits (batch, time, vocab_size) of each next token; arguments as in `hidden`."""
        return self.logits(self.hidden(tokens, document_starts=document_starts))

    def logits(self, hidden: Tensor) -> Tensor:
        """Capped logits (..., vocab_size) of hidden states (..., d_model)."""
        return soft_cap(self.head(hidden), self.shape.logit_soft_cap)

    @torch.no_grad()
    def prefill(
        self, tokens: Tensor, lengths: Tensor | None = None, *, max_length: int | None = None
    ) -> tuple[Tensor, RecurrentState]:
        """Read prompts; logits of the token after each, and the state to go on from.

        Parameters
        ----------
        tokens : Tensor of int64, shape (batch, time)
            Prompts, padded on the right with any token.
        lengths : Tensor of int64, shape (batch,), optional
            Tokens of each prompt, 1 to time. Default: all of them.
        max_length : int, optional
            Changes nothing: the state has one size. Taken so that both models are called alike.

        Returns
        -------
        logits : Tensor, shape (batch, vocab_size)
        state : RecurrentState

        Raises
        ------
        InputError
            If a length is out of range.
        """
        check_prompt(tokens, lengths)
        padding = None
        if lengths is not None:
            places = torch.arange(tokens.shape[1], device=tokens.device)
            padding = places >= lengths.to(tokens.device)[:, None]  # [B, T]
        x = self.embedding(tokens)
        states = []
        for block in self.blocks:
            mixed, state = block.mixer.prefill(block.mixer_norm(x), padding)
            states.append(state)
            x = block.finish(x + mixed)
        return self.logits(self.final_norm(last_real(x, lengths))), RecurrentState(
            layers=tuple(states)
        )

    @torch.no_grad()
    def step(self, token: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """Read one more token in each row; logits of the token after it.

        Parameters
        ----------
        token : Tensor of int64, shape (batch,)
        state : RecurrentState
            From `prefill` or the step before; left as it is.

        Returns
        -------
        logits : Tensor, shape (batch, vocab_size)
        state : RecurrentState
        """
        check_step(token, state.layers[0][2].shape[0])
        x = self.embedding(token[:, None])
        states = []
        for block, before in zip(self.blocks, state.layers, strict=True):
            mixed, after = block.mixer.step(block.mixer_norm(x), before)
            states.append(after)
            x = block.finish(x + mixed)
        return self.logits(self.final_norm(x[:, 0])), RecurrentState(layers=tuple(states))
