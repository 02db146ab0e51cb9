"""Bytes at inference: what a sequence keeps, and what a prefill or a decode step moves."""

from dataclasses import dataclass
from typing import Literal

from allometry.accounting.flops import require_context_length
from allometry.accounting.mlstm import mlstm_bytes_per_token
from allometry.accounting.params import count_params
from allometry.accounting.shapes import Shape, TransformerShape, XLSTMShape
from allometry.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberBytes:
    """Bytes of one number, by where it lives."""

    weight: float = 2
    """A weight, scale, bias or embedding entry; no whole number where weights share a scale."""
    activation: int = 2
    """An activation, or an entry of the KV cache."""
    state: int = 4
    """An entry of the mLSTM state, of its normaliser or of its running maximum."""

    def __post_init__(self) -> None:
        if not self.weight > 0 or min(self.activation, self.state) < 1:
            what = "bytes of a weight must be positive, of an activation and a state at least 1"
            raise InputError(f"{what}, got {self}")


BF16 = NumberBytes()
"""Weights, activations and KV cache of 2 bytes, recurrent state of 4: the reference study."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BytesMoved:
    """Bytes between memory and processor for one prefill or one decode step of a whole batch.

    Attributes
    ----------
    weights : float
        Matrix weights, read once whatever the batch.
    scales : float
        Norm scales and gate biases, read once.
    embedding : float
        Rows of the embedding that are looked up, one a token; never the whole matrix.
    cache_read, cache_write : float
        KV cache, or recurrent state, of all sequences.
    activations : float
        Inputs and outputs of every operation, as if none were fused.
    """

    weights: float
    scales: float
    embedding: float
    cache_read: float
    cache_write: float
    activations: float

    @property
    def cache(self) -> float:
        """Cache or state, read and written."""
        return self.cache_read + self.cache_write

    @property
    def total(self) -> float:
        """All of them."""
        return self.weights + self.scales + self.embedding + self.cache + self.activations


def kv_cache_bytes_per_token(shape: TransformerShape, *, numbers: NumberBytes = BF16) -> int:
    """Bytes by which the KV cache of a sequence grows with every token.

    Examples
    --------
    >>> from allometry.accounting import preset
    >>> kv_cache_bytes_per_token(preset("transformer-7b"))
    524288
    """
    return 2 * shape.n_layers * shape.n_kv_heads * shape.head_dim * numbers.activation


def kv_cache_bytes(
    shape: TransformerShape,
    context_length: int,
    *,
    batch_size: int = 1,
    numbers: NumberBytes = BF16,
) -> int:
    """Bytes of the KV cache of a batch whose sequences hold `context_length` tokens."""
    return batch_size * context_length * kv_cache_bytes_per_token(shape, numbers=numbers)


def state_bytes(shape: XLSTMShape, *, batch_size: int = 1, numbers: NumberBytes = BF16) -> int:
    """Bytes of the mLSTM state (C, n and m of every head) of a batch; context does not matter.

    Examples
    --------
    >>> from allometry.accounting import preset
    >>> state_bytes(preset("xlstm-7b"))
    134480896
    """
    return batch_size * shape.n_layers * shape.n_heads * _state_numbers(shape) * numbers.state


def cache_bytes(
    shape: Shape, context_length: int, *, batch_size: int = 1, numbers: NumberBytes = BF16
) -> int:
    """Bytes a batch keeps between steps: its KV cache, or its recurrent state."""
    require_context_length(context_length)
    if isinstance(shape, TransformerShape):
        return kv_cache_bytes(shape, context_length, batch_size=batch_size, numbers=numbers)
    return state_bytes(shape, batch_size=batch_size, numbers=numbers)


def decode_bytes(
    shape: Shape,
    context_length: int,
    *,
    batch_size: int = 1,
    numbers: NumberBytes = BF16,
) -> BytesMoved:
    """Bytes moved by one decode step of the whole batch.

    Parameters
    ----------
    shape : TransformerShape or XLSTMShape
        Widths of the model.
    context_length : int
        Keys that the new token sees, itself included: t are read, one is written. The xLSTM reads
        and writes its state instead.
    batch_size : int
        Sequences. Weights are read once for all of them.
    numbers : NumberBytes
        Width of weights, activations and state.

    Examples
    --------
    >>> from allometry.accounting import preset
    >>> moved = decode_bytes(preset("transformer-tiny"), 129, batch_size=2)
    >>> moved.weights + moved.cache_read
    473088.0
    >>> decode_bytes(preset("xlstm-tiny"), 129, batch_size=2).total
    380224.0
    """
    require_context_length(context_length)
    if isinstance(shape, TransformerShape):
        write = kv_cache_bytes_per_token(shape, numbers=numbers)
        read, cell = context_length * write, 0.0
    else:
        read = write = state_bytes(shape, numbers=numbers)
        per_head = 2 * shape.head_dim_qk + 2 * shape.head_dim_v + 2  # q, k, v, h, two gates
        cell = float(numbers.activation * shape.n_layers * shape.n_heads * per_head)
    return _moved(shape, 1, batch_size, numbers, read, write, cell)


def prefill_bytes(
    shape: Shape,
    prompt_length: int,
    *,
    batch_size: int = 1,
    numbers: NumberBytes = BF16,
) -> BytesMoved:
    """Bytes moved by reading a prompt, with logits for its last token only.

    Attention is taken as fused: keys and values are written and read once, scores never leave the
    processor. The mLSTM cell is chunkwise (`mlstm_bytes_per_token`): the states between chunks are
    ``cache``, what the cell reads and writes besides is in ``activations``.

    Parameters
    ----------
    shape : TransformerShape or XLSTMShape
        Widths of the model.
    prompt_length : int
        Tokens a sequence, T >= 1.
    batch_size : int
        Sequences.
    numbers : NumberBytes
        Width of weights, activations and state.
    """
    require_context_length(prompt_length)
    T = prompt_length
    if isinstance(shape, TransformerShape):
        cache = float(T * kv_cache_bytes_per_token(shape, numbers=numbers))
        cell = 0.0
    else:
        chunks = -(-T // shape.chunk_size)
        cache = float(chunks * state_bytes(shape, numbers=numbers))
        cell_per_token = mlstm_bytes_per_token(
            shape.head_dim_qk,
            shape.head_dim_v,
            chunk_size=None,
            activation_bytes=numbers.activation,
            state_bytes=numbers.state,
        )
        cell = shape.n_layers * shape.n_heads * T * cell_per_token
    return _moved(shape, T, batch_size, numbers, cache, cache, cell)


def break_even_context(
    transformer: TransformerShape,
    xlstm: XLSTMShape,
    *,
    quantity: Literal["size", "traffic"] = "size",
    numbers: NumberBytes = BF16,
) -> float:
    """Context length from which the KV cache outweighs the recurrent state.

    Parameters
    ----------
    transformer, xlstm : TransformerShape, XLSTMShape
        The two models to compare.
    quantity : {"size", "traffic"}
        Bytes kept; or bytes moved by a decode step, where the state is read and written.
    numbers : NumberBytes
        Width of cache and state entries.

    Examples
    --------
    >>> from allometry.accounting import preset
    >>> round(break_even_context(preset("transformer-7b"), preset("xlstm-7b")), 1)
    256.5
    """
    if quantity not in ("size", "traffic"):
        raise InputError(f"quantity must be size or traffic, got {quantity!r}")
    state = state_bytes(xlstm, numbers=numbers) * (2 if quantity == "traffic" else 1)
    return state / kv_cache_bytes_per_token(transformer, numbers=numbers)


def _state_numbers(shape: XLSTMShape) -> int:
    return shape.head_dim_qk * shape.head_dim_v + shape.head_dim_qk + 1


def _moved(
    shape: Shape,
    tokens: int,
    batch_size: int,
    numbers: NumberBytes,
    cache_read: float,
    cache_write: float,
    cell: float,
) -> BytesMoved:
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    counts = count_params(shape)
    outside_cell = tokens * shape.n_layers * _activations_per_token(shape)
    at_the_head = 2 * shape.d_model + shape.vocab_size  # final norm, head in and out; last token
    activations = numbers.activation * (outside_cell + at_the_head) + cell
    return BytesMoved(
        weights=float(numbers.weight * counts.multiplied_per_token),
        scales=float(numbers.weight * counts.scales_and_biases),
        embedding=float(numbers.weight * batch_size * tokens * shape.d_model),
        cache_read=float(batch_size * cache_read),
        cache_write=float(batch_size * cache_write),
        activations=float(batch_size * activations),
    )


def _activations_per_token(shape: Shape) -> int:
    # Numbers in and out of the operations of one block, mLSTM cell and KV cache left out.
    d, feed_forward = shape.d_model, 3 * shape.d_model + 3 * shape.d_ff  # norm, in, 2f + f, out
    if isinstance(shape, TransformerShape):
        query_width = shape.n_heads * shape.head_dim
        projected = query_width + 2 * shape.n_kv_heads * shape.head_dim
        attended = 2 * query_width  # written by attention, read by the output projection
        return 3 * d + projected + attended + feed_forward
    value_width = shape.n_heads * shape.head_dim_v
    projected = shape.n_heads * (2 * shape.head_dim_qk + shape.head_dim_v + 2)
    gated = 6 * value_width  # gate, head norm, product (2 in, 1 out), output projection
    return 4 * d + projected + gated + feed_forward
