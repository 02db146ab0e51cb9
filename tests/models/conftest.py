from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from allometry.accounting import Shape, TransformerShape, XLSTMShape
from allometry.models import Model, build

SHAPES: dict[str, Shape] = {
    "transformer": TransformerShape(d_model=32, n_layers=2, n_heads=4, vocab_size=64),
    "transformer-gqa": TransformerShape(
        d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=12, vocab_size=64
    ),
    "xlstm": XLSTMShape(d_model=32, n_layers=2, n_heads=2, vocab_size=64),
    "xlstm-odd": XLSTMShape(
        d_model=40, n_layers=3, n_heads=5, head_dim_v=12, head_dim_qk=7, d_ff=30, vocab_size=64
    ),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> Shape:
    return SHAPES[request.param]


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(11)


@pytest.fixture
def lively() -> Callable[..., Model]:
    """Model of a shape whose gates and residuals are far from their quiet start."""

    def model_of(shape: Shape, *, dtype: torch.dtype = torch.float64) -> Model:
        model = build(shape, seed=3, dtype=dtype)
        generator = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=dtype)
                if name.endswith("gates.bias"):
                    parameter.copy_(2 * noise)  # at -10 the memory hardly speaks
                else:
                    parameter.add_(0.2 * noise)
        return model

    return model_of


@pytest.fixture
def tokens_of() -> Callable[..., Tensor]:
    """Random tokens of a shape's vocabulary, (batch, time)."""

    def tokens(shape: Shape, batch: int, time: int, generator: torch.Generator) -> Tensor:
        return torch.randint(0, shape.vocab_size, (batch, time), generator=generator)

    return tokens
