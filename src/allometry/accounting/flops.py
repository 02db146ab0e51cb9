"""Training FLOPs of a sequence or a token, in named counting modes.

A multiply-add counts 2. Never counted: embedding look-up, norms, residual additions. The defaults
are the mode of the reference study (arXiv:2510.02228); derivations are in docs/accounting.md.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from allometry.accounting.mlstm import (
    MLSTMCount,
    mlstm_backward_flops,
    mlstm_forward_flops,
)
from allometry.accounting.params import count_params
from allometry.accounting.shapes import Shape, TransformerShape
from allometry.errors import InputError

AttentionCount = Literal["distill_scaling", "chinchilla", "exact_causal"]
"""How attention is counted, per head with softmax 5 a score: T^2 / 2 scores (the study), T^2
scores with softmax 3 a score (Hoffmann et al. 2022), or T (T + 1) / 2 scores (exact)."""

BackwardCount = Literal["twice", "exact_cell"]
"""Backward as 2 x forward of everything (the study), or the mLSTM cell by its own matrix products.
A Transformer has no cell, so both give the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingFlops:
    """FLOPs, forward plus backward, by kind of work.

    Attributes
    ----------
    linear : float
        Products with weight matrices, output head included; the xLSTM's output-gate sigmoid.
    sequence_mixing : float
        Attention scores, softmax and values; or the mLSTM cell.
    other : float
        Activation and gate product of the feed-forward.
    """

    linear: float
    sequence_mixing: float
    other: float

    @property
    def total(self) -> float:
        """All three."""
        return self.linear + self.sequence_mixing + self.other


def training_flops_per_sequence(
    shape: Shape,
    context_length: int,
    *,
    attention: AttentionCount = "distill_scaling",
    mlstm: MLSTMCount = "first",
    backward: BackwardCount = "twice",
) -> TrainingFlops:
    """Training FLOPs of one sequence, forward (1x) and backward.

    Parameters
    ----------
    shape : TransformerShape or XLSTMShape
        Widths of the model; an xLSTM's `chunk_size` is the one counted.
    context_length : int
        Tokens in the sequence, T >= 1.
    attention : {"distill_scaling", "chinchilla", "exact_causal"}
        Count of attention; see `AttentionCount`.
    mlstm : {"first", "tfla"}
        Count of the mLSTM cell; see `allometry.accounting.mlstm.MLSTMCount`.
    backward : {"twice", "exact_cell"}
        Count of the backward pass; see `BackwardCount`.

    Returns
    -------
    TrainingFlops
        Exact as long as it is below 2^53 (9e15).

    Raises
    ------
    InputError
        If `context_length` is below 1 or a mode is none of the above.

    Examples
    --------
    >>> shape = TransformerShape(d_model=768, n_layers=12, n_heads=12)
    >>> training_flops_per_sequence(shape, 8192).total
    9858157903872.0
    """
    require_context_length(context_length)
    _require_mode("backward", backward, get_args(BackwardCount))
    T = context_length
    linear = 3.0 * 2.0 * T * count_params(shape).multiplied_per_token
    feed_forward = 3.0 * 2.0 * T * shape.n_layers * shape.d_ff
    if isinstance(shape, TransformerShape):
        mixing = 3.0 * shape.n_layers * _attention_forward(shape, T, attention)
        return TrainingFlops(linear=linear, sequence_mixing=mixing, other=feed_forward)
    sigmoid = 3.0 * T * shape.n_layers * shape.n_heads * shape.head_dim_v
    forward = mlstm_forward_flops(shape, T, count=mlstm)
    back = 2.0 * forward
    if backward == "exact_cell":
        back = mlstm_backward_flops(shape, T, count=mlstm)
    return TrainingFlops(
        linear=linear + sigmoid,
        sequence_mixing=shape.n_layers * (forward + back),
        other=feed_forward,
    )


def training_flops_per_token(
    shape: Shape,
    context_length: int,
    *,
    attention: AttentionCount = "distill_scaling",
    mlstm: MLSTMCount = "first",
    backward: BackwardCount = "twice",
) -> TrainingFlops:
    """Training FLOPs of one token, averaged over its position in the context.

    Parameters and modes as in `training_flops_per_sequence`.

    Examples
    --------
    >>> from allometry.accounting import XLSTMShape
    >>> shape = XLSTMShape(d_model=4096, n_layers=32, n_heads=8)
    >>> round(training_flops_per_token(shape, 8192).total / 1e9, 2)
    40.44
    """
    sequence = training_flops_per_sequence(
        shape, context_length, attention=attention, mlstm=mlstm, backward=backward
    )
    return TrainingFlops(
        linear=sequence.linear / context_length,
        sequence_mixing=sequence.sequence_mixing / context_length,
        other=sequence.other / context_length,
    )


def training_flops(shape: Shape, *, context_length: int, tokens: float) -> float:
    """Training FLOPs of a whole run in the study's mode: `flops` in a table of runs.

    Parameters
    ----------
    shape : TransformerShape or XLSTMShape
        Widths of the model.
    context_length : int
        Tokens a sequence.
    tokens : float
        Tokens trained on, in all: batch size x context length x steps.

    Examples
    --------
    >>> shape = TransformerShape(d_model=768, n_layers=18, n_heads=12)
    >>> training_flops(shape, context_length=2048, tokens=5033164800)
    5.886895206275482e+18
    """
    if not tokens > 0:
        raise InputError(f"tokens must be positive, got {tokens}")
    per_sequence = training_flops_per_sequence(shape, context_length).total
    return per_sequence * (tokens / context_length)


def require_context_length(context_length: int) -> None:
    """Refuse a context length below one token."""
    if context_length < 1:
        raise InputError(f"context_length must be at least 1, got {context_length}")


def _attention_forward(shape: TransformerShape, T: int, count: AttentionCount) -> float:
    _require_mode("attention", count, get_args(AttentionCount))
    score_and_value = 4.0 * shape.head_dim  # per query-key pair: two products of head_dim
    if count == "chinchilla":
        return float(T * T) * shape.n_heads * (score_and_value + 3.0)
    pairs = T * T / 2.0 if count == "distill_scaling" else T * (T + 1) / 2.0
    return pairs * shape.n_heads * (score_and_value + 5.0)


def _require_mode(name: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise InputError(f"{name} must be one of {', '.join(valid)}, got {value!r}")
