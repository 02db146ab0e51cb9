"""Next-token loss without the logits of a whole batch in memory."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from allometry.errors import InputError
from allometry.models.build import Model

IGNORED = -100  # as in torch.nn.functional.cross_entropy
"""Target of a position that has none: it adds nothing to the loss."""

LOGITS_AT_ONCE = 1 << 25  # 128 MiB in float32; below a few hundred positions products run slower
"""Default size of a chunk, positions times vocabulary."""


def next_token_loss(
    model: Model,
    tokens: Tensor,
    targets: Tensor,
    *,
    document_starts: Tensor | None = None,
    chunk_size: int | None = None,
) -> Tensor:
    """Mean cross-entropy of the targets, in nats per token, differentiable once.

    Parameters
    ----------
    model : Transformer or XLSTM
    tokens, targets : Tensor of int64, shape (batch, time)
        What is read, and what comes next: ``text[:, :-1]`` and ``text[:, 1:]``. `IGNORED` (-100)
        marks targets that do not count.
    document_starts : Tensor of bool, shape (batch, time), optional
        As the model takes it.
    chunk_size : int, optional
        Positions whose logits are in memory at once; changes speed and memory, not the loss.
        Default: `LOGITS_AT_ONCE` over the vocabulary.

    Returns
    -------
    Tensor, float32 (float64 for a float64 model), shape ()
        NaN if no target counts.

    Raises
    ------
    InputError
        If the shapes differ or `chunk_size` is below 1.
    """
    if targets.shape != tokens.shape:
        what = f"targets must be {tuple(tokens.shape)} as tokens, got {tuple(targets.shape)}"
        raise InputError(what)
    hidden = model.hidden(tokens, document_starts=document_starts).flatten(0, 1)
    weight = model.head.weight
    if torch.is_autocast_enabled(hidden.device.type):
        compute = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(compute), weight.to(compute)
    return linear_cross_entropy(
        hidden, weight, targets.flatten(), cap=model.logit_soft_cap, chunk_size=chunk_size
    )


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    cap: float | None = None,
    chunk_size: int | None = None,
) -> Tensor:
    """Mean cross-entropy of the logits ``cap tanh(hidden weight^T / cap)``, chunk by chunk.

    The gradients are found on the way forward, while a chunk's logits are at hand: nothing is
    computed twice, and the backward pass only scales them.

    Parameters
    ----------
    hidden : Tensor, shape (positions, d_model)
    weight : Tensor, shape (vocab_size, d_model), dtype of `hidden`
    targets : Tensor of int64, shape (positions,)
        `IGNORED` where there is none.
    cap : float, optional
        Soft cap of the logits; None for no cap.
    chunk_size : int, optional
        As in `next_token_loss`. In memory beside a chunk: one gradient like `hidden` and one like
        `weight`, the latter in float32.

    Returns
    -------
    Tensor, float32 (float64 if `hidden` is), shape ()
    """
    chunk = max(1, LOGITS_AT_ONCE // weight.shape[0]) if chunk_size is None else chunk_size
    if chunk < 1:
        raise InputError(f"chunk_size must be at least 1, got {chunk_size}")
    with_gradients = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    arguments = (hidden, weight, targets, cap, chunk, with_gradients)
    loss: Tensor = _LinearCrossEntropy.apply(*arguments)  # type: ignore[no-untyped-call]
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        cap: float | None,
        chunk: int,
        with_gradients: bool,
    ) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        total = torch.zeros((), dtype=wide, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if with_gradients else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if with_gradients else None
        for start in range(0, hidden.shape[0], chunk):
            part = hidden[start : start + chunk]
            target = targets[start : start + chunk, None]
            counts = target != IGNORED  # [L, 1]
            target = target.clamp(min=0)
            logits = (part @ weight.T).to(wide)  # [L, V]
            bent = None if cap is None else torch.tanh(logits / cap)
            capped = logits if cap is None or bent is None else bent * cap
            log_p = torch.log_softmax(capped, 1)
            total = total - (log_p.gather(1, target) * counts).sum()
            if grad_hidden is None or grad_weight is None:
                continue
            # d loss / d logits = (p - one hot), through the cap's 1 - tanh^2.
            grad = log_p.exp_().scatter_add_(1, target, -torch.ones_like(counts, dtype=wide))
            grad = grad.mul_(counts)
            if bent is not None:
                grad = grad.mul_(1 - bent.square())
            grad = grad.to(hidden.dtype)
            grad_hidden[start : start + chunk] = grad @ weight
            grad_weight += grad.T @ part
        count = (targets != IGNORED).sum()
        if grad_hidden is not None and grad_weight is not None:
            ctx.save_for_backward(grad_hidden, grad_weight, count)
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight, count = ctx.saved_tensors
        # Of the sum until here: divided by the count a float16 gradient would vanish.
        scale = grad / count
        of_hidden = (grad_hidden * scale).to(grad_hidden.dtype)
        of_weight = (grad_weight * scale).to(grad_hidden.dtype)
        return of_hidden, of_weight, None, None, None, None
