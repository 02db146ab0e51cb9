"""Accounting: an architecture and a context length to params, FLOPs, bytes and state size."""

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
    "SMALL_RANGE",
    "STUDY_RANGE",
    "VOCAB_SIZE",
    "ExtrapolationWarning",
    "ParamCounts",
    "Shape",
    "ShapeChoice",
    "TrainingFlops",
    "TransformerShape",
    "XLSTMShape",
    "causal_factor",
    "choose_shape",
    "count_params",
    "family_shapes",
    "feed_forward_width",
    "mlstm_backward_flops",
    "mlstm_bytes_per_token",
    "mlstm_flops_per_token",
    "mlstm_forward_flops",
    "mlstm_step_flops",
    "optimal_chunk_size",
    "preset",
    "preset_names",
    "shape_for",
    "shape_of",
    "training_flops",
    "training_flops_per_sequence",
    "training_flops_per_token",
]
