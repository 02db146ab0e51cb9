"""Accounting: an architecture and a context length to params, FLOPs, bytes and state size."""

from allometry.accounting.shapes import (
    VOCAB_SIZE,
    Shape,
    TransformerShape,
    XLSTMShape,
    feed_forward_width,
)

__all__ = ["VOCAB_SIZE", "Shape", "TransformerShape", "XLSTMShape", "feed_forward_width"]
