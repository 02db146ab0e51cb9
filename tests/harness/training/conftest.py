"""Runs that take a second."""

import pytest

from allometry.accounting import TransformerShape, XLSTMShape
from allometry.harness.training import TrainConfig

SHAPES = {
    "transformer": TransformerShape(d_model=32, n_layers=2, n_heads=2, vocab_size=256),
    "xlstm": XLSTMShape(d_model=32, n_layers=2, n_heads=1, vocab_size=256, chunk_size=16),
}


@pytest.fixture
def config(corpus):
    """Function to a config of a tiny run; keywords replace its values."""

    def make(architecture="transformer", **changes):
        values = {
            "shape": SHAPES[architecture],
            "corpus": str(corpus),
            "context_length": 32,
            "batch_size": 4,
            "steps": 24,
            "learning_rate": 3e-3,
            "validation_tokens": 512,
            "validation_points": 3,
            "threads": 1,
        }
        return TrainConfig(**{**values, **changes})

    return make
