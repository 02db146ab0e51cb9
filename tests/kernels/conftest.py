import pytest
import torch
from torch import Tensor

from allometry.kernels import State

torch.set_num_threads(1)

Case = tuple[tuple[Tensor, ...], State]


def draw_case(
    seed: int,
    shape: tuple[int, int, int, int, int],
    *,
    gates: str = "wide",
    dtype: torch.dtype = torch.float64,
) -> Case:
    """Inputs and an initial state of (batch, heads, time, d_qk, d_v); gates of one kind."""
    rng = torch.Generator().manual_seed(seed)
    batch, heads, time, d_qk, d_v = shape

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=rng, dtype=torch.float64)

    flat = (batch, heads, time)
    i, f = {
        "study": lambda: (normal(*flat) - 10, normal(*flat) + 4.5),
        "wide": lambda: (3 * normal(*flat), 3 * normal(*flat)),
        "input 20": lambda: (20 * normal(*flat).sign(), normal(*flat) + 3),
        "forget -120": lambda: (normal(*flat), normal(*flat).sign() * 60 - 60),
        "forget 50": lambda: (normal(*flat), normal(*flat) + 50),
        "resets": lambda: (normal(*flat), torch.where(normal(*flat) > 1, -25.0, 4.0).double()),
    }[gates]()
    inputs = (normal(*flat, d_qk), normal(*flat, d_qk), normal(*flat, d_v), i, f)
    state = (normal(batch, heads, d_qk, d_v), normal(batch, heads, d_qk), normal(batch, heads))
    C, n, m = (x.to(dtype) for x in state)
    return tuple(x.to(dtype) for x in inputs), (C, n, m)


def differentiate(form, inputs, state, seed=0):
    """Run `form`; return (h, e^m C, e^m n) and the gradients of a random sum of h, C, n and m."""
    rng = torch.Generator().manual_seed(seed)
    leaves = [x.detach().clone().requires_grad_() for x in (*inputs, *(state or ()))]
    given = tuple(leaves[5:]) or None
    h, (C, n, m) = form(*leaves[:5], given)
    loss = torch.zeros((), dtype=torch.float64)
    for x in (h, C, n, m):
        weight = torch.randn(x.shape, generator=rng, dtype=torch.float64)
        loss = loss + (x.double() * weight).sum()
    scale = m.detach().double().exp()
    outputs = (h, C.double() * scale[..., None, None], n.double() * scale[..., None])
    return [x.detach() for x in outputs], torch.autograd.grad(loss, leaves)


def relative_error(value: Tensor, truth: Tensor) -> float:
    """Largest error over the largest entry."""
    difference = (value.double() - truth.double()).abs().max()
    return float(difference / truth.double().abs().max().clamp_min(1e-30))


@pytest.fixture(scope="session")
def draw():
    return draw_case


@pytest.fixture(scope="session")
def run_with_gradients():
    return differentiate


@pytest.fixture(scope="session")
def error():
    return relative_error
