"""The two architectures as frozen shapes: counted here, built by `allometry.models`."""

from dataclasses import dataclass
from typing import ClassVar

from allometry.errors import InputError

VOCAB_SIZE = 50_304  # GPT-NeoX tokenizer, padded to a multiple of 128
"""Vocabulary rows of the reference study."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerShape:
    """A Llama-style Transformer: pre-norm, rotary positions, SwiGLU, untied embedding and head.

    Attributes
    ----------
    d_model, n_layers, n_heads : int
        Width of the residual stream; blocks; query heads.
    n_kv_heads : int
        Key/value heads (grouped-query attention if fewer than `n_heads`). 0 means `n_heads`.
    head_dim : int
        Width of a query, key and value head. 0 means ``d_model // n_heads``.
    d_ff : int
        Feed-forward width. 0 means the study's rule, `allometry.accounting.feed_forward_width`.
    vocab_size : int
        Rows of the embedding and of the head.
    rope_base, norm_eps : float
        Base of the rotary angles; epsilon inside every RMSNorm.
    """

    architecture: ClassVar[str] = "transformer"

    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int = 0
    head_dim: int = 0
    d_ff: int = 0
    vocab_size: int = VOCAB_SIZE
    rope_base: float = 500_000.0
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        _require_positive(self, "d_model", "n_layers", "n_heads", "vocab_size")
        if not self.head_dim:
            _require_divisible(self, "d_model", "n_heads")
        object.__setattr__(self, "n_kv_heads", self.n_kv_heads or self.n_heads)
        object.__setattr__(self, "head_dim", self.head_dim or self.d_model // self.n_heads)
        object.__setattr__(self, "d_ff", self.d_ff or feed_forward_width(self.d_model, "floor"))
        _require_positive(self, "n_kv_heads", "head_dim", "d_ff", "rope_base", "norm_eps")
        _require_divisible(self, "n_heads", "n_kv_heads")
        if self.head_dim % 2:
            raise InputError(f"head_dim must be even for rotary positions, got {self.head_dim}")


@dataclass(frozen=True, kw_only=True, slots=True)
class XLSTMShape:
    """An xLSTM of mLSTM blocks as in xLSTM 7B: pre-norm, SwiGLU, untied embedding and head.

    Attributes
    ----------
    d_model, n_layers, n_heads : int
        Width of the residual stream; blocks; mLSTM heads.
    head_dim_v : int
        Width of a value head. 0 means ``d_model // n_heads``.
    head_dim_qk : int
        Width of a query and key head. 0 means ``head_dim_v // 2``.
    d_ff : int
        Feed-forward width. 0 means the study's rule, `allometry.accounting.feed_forward_width`.
    vocab_size : int
        Rows of the embedding and of the head.
    chunk_size : int
        Tokens a chunk in the chunkwise form; changes FLOPs and bytes, never results.
    norm_eps, gate_soft_cap, logit_soft_cap : float
        Epsilon inside every norm; caps ``c tanh(x / c)`` of the gates and of the logits.
    """

    architecture: ClassVar[str] = "xlstm"

    d_model: int
    n_layers: int
    n_heads: int
    head_dim_v: int = 0
    head_dim_qk: int = 0
    d_ff: int = 0
    vocab_size: int = VOCAB_SIZE
    chunk_size: int = 64
    norm_eps: float = 1e-6
    gate_soft_cap: float = 15.0
    logit_soft_cap: float = 30.0

    def __post_init__(self) -> None:
        _require_positive(self, "d_model", "n_layers", "n_heads", "vocab_size", "chunk_size")
        if not self.head_dim_v:
            _require_divisible(self, "d_model", "n_heads")
        object.__setattr__(self, "head_dim_v", self.head_dim_v or self.d_model // self.n_heads)
        object.__setattr__(self, "head_dim_qk", self.head_dim_qk or self.head_dim_v // 2)
        object.__setattr__(self, "d_ff", self.d_ff or feed_forward_width(self.d_model, "ceil"))
        _require_positive(self, "head_dim_v", "head_dim_qk", "d_ff")
        _require_positive(self, "norm_eps", "gate_soft_cap", "logit_soft_cap")


Shape = TransformerShape | XLSTMShape


def feed_forward_width(d_model: int, rounding: str) -> int:
    """Feed-forward width of the study: 2.667 d, to a whole number, then up to a multiple of 64.

    Parameters
    ----------
    d_model : int
        Width of the residual stream.
    rounding : {"floor", "ceil"}
        The inner rounding: ``floor`` for the study's Transformers, ``ceil`` for its xLSTMs. They
        differ where 2.667 d just passes a multiple of 64 (d = 768: 2048 and 2112).

    Examples
    --------
    >>> feed_forward_width(768, "floor"), feed_forward_width(768, "ceil")
    (2048, 2112)
    """
    if rounding not in ("floor", "ceil"):
        raise InputError(f"rounding must be 'floor' or 'ceil', got {rounding!r}")
    thousandths = 2667 * d_model  # whole-number arithmetic: 2.667 has no exact float
    whole = thousandths // 1000 if rounding == "floor" else -(-thousandths // 1000)
    return -(-whole // 64) * 64


def _require_positive(shape: "Shape", *names: str) -> None:
    bad = [f"{name} {getattr(shape, name)!r}" for name in names if not getattr(shape, name) > 0]
    if bad:
        raise InputError(f"must be positive: {', '.join(bad)}", where=type(shape).__name__)


def _require_divisible(shape: "Shape", whole: str, part: str) -> None:
    a, b = getattr(shape, whole), getattr(shape, part)
    if a % b:
        what = f"{whole} {a} is not divisible by {part} {b}"
        raise InputError(what, where=type(shape).__name__, hint=f"Change {whole} or {part}.")
