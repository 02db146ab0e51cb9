"""A Llama-style Transformer: pre-norm, rotary positions, SwiGLU, untied embedding and head."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from allometry.accounting import TransformerShape
from allometry.errors import InputError
from allometry.models.attention import (
    Attention,
    KVCache,
    Mask,
    attend,
    attend_cache,
    document_mask,
    rotary_for_heads,
)
from allometry.models.inputs import (
    check_prompt,
    check_step,
    check_tokens,
    last_real,
    prompt_lengths,
)
from allometry.models.layers import RMSNorm, SwiGLU


class TransformerBlock(nn.Module):
    """x + Attention(norm(x)), then x + SwiGLU(norm(x))."""

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.mixer_norm = RMSNorm(shape.d_model, shape.norm_eps)
        self.mixer = Attention(shape)
        self.feed_forward_norm = RMSNorm(shape.d_model, shape.norm_eps)
        self.feed_forward = SwiGLU(shape.d_model, shape.d_ff)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Mask) -> Tensor:
        """Shape of `x`, (batch, time, d_model)."""
        return self.finish(x + self.mixer(self.mixer_norm(x), cos, sin, mask))

    def finish(self, x: Tensor) -> Tensor:
        """Apply what follows the attention: the feed-forward and its residual."""
        out: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return out


class Transformer(nn.Module):
    """The Transformer of a `TransformerShape`; build one with `allometry.models.build`.

    Parameters
    ----------
    shape : TransformerShape
        Widths; also what `allometry.accounting` counts.
    """

    logit_soft_cap: float | None = None

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab_size, shape.d_model)
        blocks = nn.ModuleList(TransformerBlock(shape) for _ in range(shape.n_layers))
        self.blocks = cast(
            Sequence[TransformerBlock], blocks
        )  # a ModuleList forgets the type of its modules
        self.final_norm = RMSNorm(shape.d_model, shape.norm_eps)
        self.head = nn.Linear(shape.d_model, shape.vocab_size, bias=False)

    def hidden(self, tokens: Tensor, *, document_starts: Tensor | None = None) -> Tensor:
        """Normed last hidden states, what the head reads.

        Parameters
        ----------
        tokens : Tensor of int64, shape (batch, time)
        document_starts : Tensor of bool, shape (batch, time), optional
            True at the first token of each packed document; a token then sees its own document
            only. Positions go on counting: rotary attention depends on distances alone.

        Returns
        -------
        Tensor, shape (batch, time, d_model)
        """
        check_tokens(tokens, document_starts)
        cos, sin = self._rotary(torch.arange(tokens.shape[1], device=tokens.device))
        mask = document_mask(document_starts)
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, cos, sin, mask)
        out: Tensor = self.final_norm(x)
        return out

    def forward(self, tokens: Tensor, *, document_starts: Tensor | None = None) -> Tensor:
        """Logits (batch, time, vocab_size) of each next token; arguments as in `hidden`."""
        return self.logits(self.hidden(tokens, document_starts=document_starts))

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., vocab_size) of hidden states (..., d_model)."""
        out: Tensor = self.head(hidden)
        return out

    @torch.no_grad()
    def prefill(
        self, tokens: Tensor, lengths: Tensor | None = None, *, max_length: int | None = None
    ) -> tuple[Tensor, KVCache]:
        """Read prompts; logits of the token after each, and the cache to go on from.

        Parameters
        ----------
        tokens : Tensor of int64, shape (batch, time)
            Prompts, padded on the right with any token.
        lengths : Tensor of int64, shape (batch,), optional
            Tokens of each prompt, 1 to time. Default: all of them.
        max_length : int, optional
            Tokens that the cache has room for, prompt included. Default: the prompt's, no more.

        Returns
        -------
        logits : Tensor, shape (batch, vocab_size)
        state : KVCache

        Raises
        ------
        InputError
            If a length is out of range or `max_length` is below the prompt's.
        """
        check_prompt(tokens, lengths)
        time = tokens.shape[1]
        room = time if max_length is None else max_length
        if room < time:
            raise InputError(f"max_length {room} is below the prompt's {time} tokens")
        cos, sin = self._rotary(torch.arange(time, device=tokens.device))
        x = self.embedding(tokens)
        cached: tuple[Tensor, ...] = ()
        for layer, block in enumerate(self.blocks):
            q, k, v = block.mixer.project(block.mixer_norm(x), cos, sin)
            cached = cached or _allocate(k, v, self.shape.n_layers, room)
            cached[0][layer, :, :, :time] = k
            cached[1][layer, :, :, :time] = v
            x = block.finish(x + block.mixer.output(attend(q, k, v, None)))
        state = KVCache(
            keys=cached[0],
            values=cached[1],
            lengths=prompt_lengths(tokens, lengths),
            longest=time,
            ragged=lengths is not None,
        )
        return self.logits(self.final_norm(last_real(x, lengths))), state

    @torch.no_grad()
    def step(self, token: Tensor, state: KVCache) -> tuple[Tensor, KVCache]:
        """Read one more token in each row; logits of the token after it.

        Parameters
        ----------
        token : Tensor of int64, shape (batch,)
        state : KVCache
            From `prefill` or the step before. Its memory is written in place and shared with the
            returned cache, so one cache cannot go on in two ways; clone it for that.

        Returns
        -------
        logits : Tensor, shape (batch, vocab_size)
        state : KVCache

        Raises
        ------
        InputError
            If the cache is full.
        """
        check_step(token, state.lengths.shape[0])
        used, room = state.longest + 1, state.keys.shape[3]
        if used > room:
            hint = "Give prefill a max_length of prompt plus generated tokens."
            raise InputError(f"the cache is full: {room} tokens", hint=hint)
        cos, sin = self._rotary(state.lengths[:, None])  # [B, 1, 1, a / 2]
        rows = torch.arange(token.shape[0], device=token.device)
        mask = None
        if state.ragged:
            mask = torch.arange(used, device=token.device) <= state.lengths[:, None]
            mask = mask[:, None, None]  # [B, 1, 1, used]
        x = self.embedding(token[:, None])
        for layer, block in enumerate(self.blocks):
            q, k, v = block.mixer.project(block.mixer_norm(x), cos, sin)
            state.keys[layer, rows, :, state.lengths] = k[:, :, 0]
            state.values[layer, rows, :, state.lengths] = v[:, :, 0]
            keys, values = state.keys[layer, :, :, :used], state.values[layer, :, :, :used]
            x = block.finish(x + block.mixer.output(attend_cache(q, keys, values, mask)))
        logits = self.logits(self.final_norm(x[:, 0]))
        return logits, replace(state, lengths=state.lengths + 1, longest=used)

    def _rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return rotary_for_heads(positions, self.shape, self.embedding.weight.dtype)


def _allocate(k: Tensor, v: Tensor, n_layers: int, room: int) -> tuple[Tensor, Tensor]:
    batch, heads, _, width = k.shape
    size = (n_layers, batch, heads, room, width)
    return k.new_empty(size), v.new_empty(size)
