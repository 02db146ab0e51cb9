import pytest
import torch
from torch.nn import functional

from allometry.models.norm import rms_norm


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 7), (0, 7)])
def test_value_and_gradient_are_those_of_torch(shape):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, dtype=torch.float64, requires_grad=True)
    theirs = functional.rms_norm(x, (7,), weight, 1e-3)
    ours = rms_norm(x, weight, 1e-3)
    out_grad = torch.randn_like(ours)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, (x, weight), out_grad),
        torch.autograd.grad(theirs, (x, weight), out_grad),
    )


def test_rows_of_zeros_have_a_finite_gradient():
    x = torch.zeros(2, 5, requires_grad=True)
    weight = torch.ones(5)
    (x_grad,) = torch.autograd.grad(rms_norm(x, weight, 1e-6).sum(), x)
    torch.testing.assert_close(x_grad, torch.full((2, 5), 1e3))


def test_other_dtypes_and_calls_without_gradient_keep_their_dtype():
    x, weight = torch.randn(2, 8, dtype=torch.bfloat16), torch.ones(8, requires_grad=True)
    assert rms_norm(x, weight.bfloat16(), 1e-6).dtype == torch.bfloat16
    with torch.no_grad():
        assert rms_norm(x.float(), weight, 1e-6).dtype == torch.float32
