"""Causal self-attention over a sequence, over documents packed into one, and over a cache."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from allometry.accounting import TransformerShape
from allometry.models.layers import rotary_angles, rotate

Mask = Tensor | BlockMask | None
"""Who sees whom: None is plain causal; bool (batch, 1, queries, keys); or a FlexAttention mask."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KVCache:
    """Keys and values of the tokens read so far, in memory allocated once.

    Attributes
    ----------
    keys, values : Tensor, shape (n_layers, batch, n_kv_heads, max_length, head_dim)
        Rotated keys, and values; only the first `lengths` positions of a row mean anything.
        A step writes the new token in place.
    lengths : Tensor of int64, shape (batch,)
        Tokens read in each row.
    longest : int
        Upper bound of `lengths`, known without asking the device.
    ragged : bool
        Whether rows may differ in length.
    """

    keys: Tensor
    values: Tensor
    lengths: Tensor
    longest: int
    ragged: bool


class Attention(nn.Module):
    """Multi-head attention with rotary positions; fewer key/value heads make it grouped-query.

    The rows of `qkv` are query heads, then key heads, then value heads. Query heads g * r to
    (g + 1) * r - 1 share key/value head g, where r is ``n_heads / n_kv_heads``.
    """

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.shape = shape
        heads = shape.n_heads + 2 * shape.n_kv_heads
        self.qkv = nn.Linear(shape.d_model, heads * shape.head_dim, bias=False)
        self.out = nn.Linear(shape.n_heads * shape.head_dim, shape.d_model, bias=False)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries and keys, and values, (batch, heads, time, head_dim) of (batch, time, d).

        `cos` and `sin` are (time or batch x time, 1, head_dim / 2): a head axis of one.
        """
        shape = self.shape
        heads = self.qkv(x).unflatten(-1, (-1, shape.head_dim))  # [B, T, H + 2 H_kv, a]
        qk, v = heads.split_with_sizes((shape.n_heads + shape.n_kv_heads, shape.n_kv_heads), 2)
        rotated = rotate(qk, cos, sin).transpose(1, 2)
        q, k = rotated.split_with_sizes((shape.n_heads, shape.n_kv_heads), 1)
        return q, k, v.transpose(1, 2)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Mask) -> Tensor:
        """Attention of every token over itself and those before it; shape of `x`."""
        q, k, v = self.project(x, cos, sin)
        return self.output(attend(q, k, v, mask))

    def output(self, heads: Tensor) -> Tensor:
        """Map heads (batch, n_heads, time, head_dim) back to (batch, time, d_model)."""
        out: Tensor = self.out(heads.transpose(1, 2).flatten(-2))
        return out


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    """Softmax attention, (batch, n_heads, time, head_dim); causal where `mask` is None."""
    grouped = q.shape[1] != k.shape[1]
    if isinstance(mask, BlockMask):
        flexed: Tensor = _flex()(q, k, v, block_mask=mask, enable_gqa=grouped)
        return flexed
    return functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=grouped
    )


def attend_cache(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of one query a row over cached keys, all of them or those where `mask` is true."""
    grouped = q.shape[1] != keys.shape[1]
    return functional.scaled_dot_product_attention(
        q, keys, values, attn_mask=mask, enable_gqa=grouped
    )


def document_mask(document_starts: Tensor | None) -> Mask:
    """Mask under which a token sees the tokens of its own document up to itself.

    Parameters
    ----------
    document_starts : Tensor of bool, shape (batch, time), or None
        True at the first token of each document; the first token of a row always starts one.

    Returns
    -------
    Mask
        A FlexAttention block mask on a CUDA device, which skips blocks between documents; a bool
        tensor (batch, 1, time, time) elsewhere. None for None.
    """
    if document_starts is None:
        return None
    documents = document_starts.cumsum(1)  # [B, T]
    if documents.is_cuda:
        return flex_document_mask(documents)
    same = documents[:, None, :, None] == documents[:, None, None, :]  # [B, 1, T, T]
    return same.tril()


def flex_document_mask(documents: Tensor) -> BlockMask:
    """FlexAttention mask of document numbers (batch, time)."""

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (documents[batch, query] == documents[batch, key])

    batch, time = documents.shape
    return create_block_mask(sees, batch, None, time, time, device=documents.device)


def rotary_for_heads(
    positions: Tensor, shape: TransformerShape, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cosine and sine for `Attention.project`, with a head axis of one.

    For a model of `dtype`, but float32 at least.
    """
    dtype = torch.promote_types(dtype, torch.float32)
    cos, sin = rotary_angles(positions, shape.head_dim, shape.rope_base, dtype)
    return cos[..., None, :], sin[..., None, :]


@lru_cache(maxsize=1)
def _compiled_flex() -> Any:
    return torch.compile(flex_attention)


def _flex() -> Any:
    # Uncompiled, FlexAttention computes all pairs; inside an outer compile it is compiled anyway.
    return flex_attention if torch.compiler.is_compiling() else _compiled_flex()
