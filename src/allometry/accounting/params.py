"""Parameter counts of a shape, term by term, under three names that say what they leave out."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from allometry.accounting.shapes import Shape, TransformerShape, XLSTMShape

# Every other term is a matrix that a token is multiplied with.
_SCALES_AND_BIASES = ("final_norm", "mixer_norm", "head_norm", "gate_bias", "feed_forward_norm")


@dataclass(frozen=True, kw_only=True, slots=True)
class ParamCounts:
    """How many parameters a shape has, and in which terms.

    Attributes
    ----------
    terms : Mapping[str, int]
        Parameters by term, summed over the blocks; read-only. Terms that an architecture does not
        have are absent.
    """

    terms: Mapping[str, int]

    @property
    def total(self) -> int:
        """Everything: embedding, head, matrices, norms, biases. This is N, `params` in a table."""
        return sum(self.terms.values())

    @property
    def without_embedding(self) -> int:
        """Everything but the input embedding; the output head is still counted."""
        return self.total - self.terms["embedding"]

    @property
    def without_embedding_and_head(self) -> int:
        """Blocks and final norm only: `params_non_embedding` in a table."""
        return self.without_embedding - self.terms["head"]

    @property
    def multiplied_per_token(self) -> int:
        """Matrix weights that one token is multiplied with: blocks and head.

        Not counted: the embedding (a look-up), norm scales, gate biases.
        """
        return self.without_embedding - self.scales_and_biases

    @property
    def scales_and_biases(self) -> int:
        """Norm scales and gate biases: parameters that are not in a matrix."""
        return sum(self.terms.get(name, 0) for name in _SCALES_AND_BIASES)


def count_params(shape: Shape) -> ParamCounts:
    """Parameters of a model of this shape, exact, with embedding and head untied.

    Parameters
    ----------
    shape : TransformerShape or XLSTMShape
        Widths of the model. No biases, except on the input and forget gates of the xLSTM.

    Returns
    -------
    ParamCounts
        Three named counts, and the terms they are made of.

    Examples
    --------
    >>> shape = TransformerShape(d_model=768, n_layers=12, n_heads=12)
    >>> counts = count_params(shape)
    >>> counts.total, counts.without_embedding_and_head
    (162220800, 84953856)
    >>> count_params(XLSTMShape(d_model=768, n_layers=12, n_heads=6)).terms["gate"]
    110592
    """
    per_block = _mixer_terms(shape) | {
        "mixer_norm": shape.d_model,
        "feed_forward_norm": shape.d_model,
        "feed_forward": 3 * shape.d_model * shape.d_ff,
    }
    terms = {name: shape.n_layers * count for name, count in per_block.items()} | {
        "embedding": shape.vocab_size * shape.d_model,
        "head": shape.vocab_size * shape.d_model,
        "final_norm": shape.d_model,
    }
    return ParamCounts(terms=MappingProxyType(terms))


def _mixer_terms(shape: Shape) -> dict[str, int]:
    if isinstance(shape, TransformerShape):
        return _attention_terms(shape)
    return _mlstm_terms(shape)


def _attention_terms(shape: TransformerShape) -> dict[str, int]:
    query_width = shape.n_heads * shape.head_dim
    return {
        "query_key_value": shape.d_model * (query_width + 2 * shape.n_kv_heads * shape.head_dim),
        # Query heads, not key/value heads: each query head has its own output.
        "output_projection": query_width * shape.d_model,
    }


def _mlstm_terms(shape: XLSTMShape) -> dict[str, int]:
    d, H = shape.d_model, shape.n_heads
    value_width = H * shape.head_dim_v
    return {
        "query_key_value": d * H * (2 * shape.head_dim_qk + shape.head_dim_v),
        "gate": 2 * d * H,
        "gate_bias": 2 * H,
        "output_gate": d * value_width,
        "head_norm": value_width,
        "output_projection": value_width * d,
    }
