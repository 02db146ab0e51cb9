"""Accounting: an architecture and a context length to params, FLOPs, bytes and state size."""

from allometry.accounting.cost import CostKind, CostModel, six_nd
from allometry.accounting.cost_fits import accounting_cost, table_cost
from allometry.accounting.family import (
    SMALL_RANGE,
    STUDY_RANGE,
    ExtrapolationWarning,
    ShapeChoice,
    choose_shape,
    family_shapes,
    shape_for,
    shape_of,
)
from allometry.accounting.flops import (
    TrainingFlops,
    training_flops,
    training_flops_per_sequence,
    training_flops_per_token,
)
from allometry.accounting.inference import InferenceFlops, decode_flops, prefill_flops
from allometry.accounting.memory import (
    BF16,
    BytesMoved,
    NumberBytes,
    break_even_context,
    cache_bytes,
    decode_bytes,
    kv_cache_bytes,
    kv_cache_bytes_per_token,
    prefill_bytes,
    state_bytes,
)
from allometry.accounting.mlstm import (
    causal_factor,
    mlstm_backward_flops,
    mlstm_bytes_per_token,
    mlstm_flops_per_token,
    mlstm_forward_flops,
    mlstm_step_flops,
    optimal_chunk_size,
)
from allometry.accounting.params import ParamCounts, count_params
from allometry.accounting.presets import preset, preset_names
from allometry.accounting.shapes import (
    VOCAB_SIZE,
    Shape,
    TransformerShape,
    XLSTMShape,
    feed_forward_width,
)

__all__ = [
    "BF16",
    "SMALL_RANGE",
    "STUDY_RANGE",
    "VOCAB_SIZE",
    "BytesMoved",
    "CostKind",
    "CostModel",
    "ExtrapolationWarning",
    "InferenceFlops",
    "NumberBytes",
    "ParamCounts",
    "Shape",
    "ShapeChoice",
    "TrainingFlops",
    "TransformerShape",
    "XLSTMShape",
    "accounting_cost",
    "break_even_context",
    "cache_bytes",
    "causal_factor",
    "choose_shape",
    "count_params",
    "decode_bytes",
    "decode_flops",
    "family_shapes",
    "feed_forward_width",
    "kv_cache_bytes",
    "kv_cache_bytes_per_token",
    "mlstm_backward_flops",
    "mlstm_bytes_per_token",
    "mlstm_flops_per_token",
    "mlstm_forward_flops",
    "mlstm_step_flops",
    "optimal_chunk_size",
    "prefill_bytes",
    "prefill_flops",
    "preset",
    "preset_names",
    "shape_for",
    "shape_of",
    "six_nd",
    "state_bytes",
    "table_cost",
    "training_flops",
    "training_flops_per_sequence",
    "training_flops_per_token",
]
