"""Layers that both architectures use: norms, linear maps, feed-forward, soft cap, rotary angles."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from allometry.models.norm import rms_norm


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) over the last axis, times a learned scale; sums in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Shape and dtype of `x`, (..., width)."""
        return rms_norm(x, self.weight, self.eps)


class HeadNorm(nn.Module):
    """LayerNorm over each head by itself (mean removed), then one learned scale a channel.

    Sums are in float32 whatever the dtype of the input.
    """

    def __init__(self, n_heads: int, head_dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(n_heads * head_dim))

    def forward(self, h: Tensor) -> Tensor:
        """Take heads (..., n_heads, head_dim); return channels (..., n_heads * head_dim)."""
        normed = functional.layer_norm(h, h.shape[-1:], eps=self.eps)
        return normed.flatten(-2) * self.weight


class SwiGLU(nn.Module):
    """W_down (silu(W_gate x) * W_up x).

    Gate and up are two matrices: one of twice the width is no faster, and its gradient is a copy.
    """

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.gate = nn.Linear(d_model, d_ff, bias=False)
        self.up = nn.Linear(d_model, d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Shape of `x`, (..., d_model)."""
        down: Tensor = self.down(functional.silu(self.gate(x)) * self.up(x))
        return down


def soft_cap(x: Tensor, cap: float) -> Tensor:
    """Return ``cap * tanh(x / cap)``: the identity near zero, never beyond the cap."""
    return cap * torch.tanh(x / cap)


def rotary_angles(
    positions: Tensor, head_dim: int, base: float, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary angles, position / base^(2 j / head_dim).

    Parameters
    ----------
    positions : Tensor of int64, shape (...)
        Places in the sequence, from 0.
    head_dim : int
        Width of a head, even.
    base : float
        Base of the wave lengths.
    dtype : torch.dtype
        Of the result.

    Returns
    -------
    cos, sin : Tensor, shape (..., head_dim / 2)
        From float64 angles: a float32 angle is off by 5e-4 at position 8192.
    """
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float64)
    angles = positions[..., None].double() * base ** -(exponents / head_dim)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn channel pairs (j, j + head_dim / 2) by their rotary angle.

    Parameters
    ----------
    x : Tensor, shape (..., head_dim)
        Queries or keys.
    cos, sin : Tensor, broadcastable to (..., head_dim / 2)
        From `rotary_angles`.
    """
    left, right = x.chunk(2, -1)
    turned = (left * cos - right * sin, right * cos + left * sin)
    return torch.cat(turned, -1).to(x.dtype)
