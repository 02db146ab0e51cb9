"""FLOPs of inference: reading a prompt (prefill) and writing one token (decode), for a batch."""

from dataclasses import dataclass

from allometry.accounting.flops import require_context_length
from allometry.accounting.mlstm import (
    causal_factor,
    mlstm_flops_per_token,
    mlstm_step_flops,
    over_chunks,
)
from allometry.accounting.params import count_params
from allometry.accounting.shapes import Shape, TransformerShape
from allometry.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class InferenceFlops:
    """FLOPs of one prefill or one decode step of the whole batch, by kind of work.

    Attributes
    ----------
    linear : float
        Products with weight matrices; the output head once a sequence.
    sequence_mixing : float
        Score and value products of attention over exact causal pairs; or the mLSTM cell.
    elementwise : float
        Softmax (5 a score), norms (3 an element), residuals, activations, gate biases.
    """

    linear: float
    sequence_mixing: float
    elementwise: float

    @property
    def total(self) -> float:
        """Linear and sequence mixing: what runs on matrix units, plus the cell's gates."""
        return self.linear + self.sequence_mixing

    @property
    def with_elementwise(self) -> float:
        """All three."""
        return self.total + self.elementwise


def prefill_flops(
    shape: Shape,
    prompt_length: int,
    *,
    batch_size: int = 1,
    mlstm_causal_factor: float | None = None,
) -> InferenceFlops:
    """FLOPs of reading a prompt, with logits for its last token only.

    Parameters
    ----------
    shape : TransformerShape or XLSTMShape
        Widths of the model; an xLSTM runs chunkwise with its `chunk_size`.
    prompt_length : int
        Tokens a sequence, T >= 1. Attention is over T (T + 1) / 2 pairs.
    batch_size : int
        Sequences.
    mlstm_causal_factor : float, optional
        Share of a chunk's scores computed; by default that of 64-token tiles
        (`allometry.accounting.causal_factor`). A Transformer ignores it.

    Examples
    --------
    >>> from allometry.accounting import preset
    >>> f"{prefill_flops(preset('transformer-7b'), 2048).total:.3e}"
    '2.752e+13'
    """
    require_context_length(prompt_length)
    _require_batch(batch_size)
    T = prompt_length
    linear = _linear(shape, T)
    if isinstance(shape, TransformerShape):
        pairs = shape.n_layers * shape.n_heads * T * (T + 1) / 2
        mixing, elementwise = 4.0 * shape.head_dim * pairs, 5.0 * pairs
    else:
        a, c = shape.head_dim_qk, shape.head_dim_v

        def chunk(L: int) -> float:
            factor = causal_factor(L) if mlstm_causal_factor is None else mlstm_causal_factor
            return L * mlstm_flops_per_token(a, c, L, causal_factor=factor)

        cell = over_chunks(chunk, shape.chunk_size, T)
        mixing, elementwise = shape.n_layers * shape.n_heads * cell, 0.0
    elementwise += T * _elementwise_per_token(shape) + 3.0 * shape.d_model
    return _batch(batch_size, linear, mixing, elementwise)


def decode_flops(shape: Shape, context_length: int, *, batch_size: int = 1) -> InferenceFlops:
    """FLOPs of one decode step: one new token for every sequence of the batch.

    Parameters
    ----------
    shape : TransformerShape or XLSTMShape
        Widths of the model; an xLSTM takes a recurrent step.
    context_length : int
        Keys that the new token sees, itself included, t >= 1. The xLSTM's step does not depend
        on it.
    batch_size : int
        Sequences.

    Examples
    --------
    >>> from allometry.accounting import preset
    >>> decode_flops(preset("transformer-tiny"), 129, batch_size=2).total
    814080.0
    >>> decode_flops(preset("xlstm-7b"), 129) == decode_flops(preset("xlstm-7b"), 16384)
    True
    """
    require_context_length(context_length)
    _require_batch(batch_size)
    if isinstance(shape, TransformerShape):
        pairs = shape.n_layers * shape.n_heads * context_length
        mixing, elementwise = 4.0 * shape.head_dim * pairs, 5.0 * pairs
    else:
        step = mlstm_step_flops(shape.head_dim_qk, shape.head_dim_v)
        mixing, elementwise = float(shape.n_layers * shape.n_heads * step), 0.0
    elementwise += _elementwise_per_token(shape) + 3.0 * shape.d_model
    return _batch(batch_size, _linear(shape, 1), mixing, elementwise)


def _linear(shape: Shape, tokens: int) -> float:
    counts = count_params(shape)
    head = counts.terms["head"]
    return 2.0 * (counts.multiplied_per_token - head) * tokens + 2.0 * head


def _elementwise_per_token(shape: Shape) -> float:
    # A norm is 3 an element, a residual addition 1, swish and its product 1 each.
    per_block = 2 * (3 * shape.d_model + shape.d_model) + 2 * shape.d_ff
    if not isinstance(shape, TransformerShape):
        value_width = shape.n_heads * shape.head_dim_v
        per_block += 3 * value_width + value_width + 2 * shape.n_heads  # norm, sigmoid, biases
    return float(shape.n_layers * per_block)


def _batch(B: int, linear: float, mixing: float, elementwise: float) -> InferenceFlops:
    return InferenceFlops(
        linear=B * linear, sequence_mixing=B * mixing, elementwise=B * elementwise
    )


def _require_batch(batch_size: int) -> None:
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
