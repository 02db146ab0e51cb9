"""RMSNorm with a gradient of few passes where torch has no kernel of its own for it."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return ``x / sqrt(mean(x^2) + eps) * weight`` over the last axis, shape and dtype of `x`.

    On a CPU torch computes it, and its gradient, pass by pass through memory; here both take half
    as many. Compilers fuse, a GPU has a kernel, and without a gradient there is little to save: all
    three take torch's.
    """
    plain = x.device.type == "cpu" and x.dtype == weight.dtype and torch.is_grad_enabled()
    if plain and not torch.compiler.is_compiling():
        return cast(Tensor, _RMSNorm.apply(x, weight, eps))  # type: ignore[no-untyped-call]
    return functional.rms_norm(x, weight.shape, weight, eps)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return torch.mul(x, scale).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, out_grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scale = ctx.saved_tensors
        normed = x * scale
        product = (out_grad * normed).reshape(-1, x.shape[-1])
        along = torch.mv(product, weight).view(scale.shape)  # of the gradient, along `normed`
        x_grad = torch.mul(out_grad, weight).mul_(scale)
        x_grad.addcmul_(normed, along.mul_(scale).div_(-x.shape[-1]))
        return x_grad, product.sum(0), None
