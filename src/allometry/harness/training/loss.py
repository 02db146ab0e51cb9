"""The loss: nats per token, of a batch to learn from and of the whole validation set."""

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.functional import cross_entropy, pad

from allometry.harness.training.data import ValidationWindows
from allometry.harness.training.device import World


def mean_loss(model: nn.Module, windows: Tensor, end_of_text: int | None) -> Tensor:
    """Mean cross entropy of a batch, nats per token.

    Parameters
    ----------
    model : Module
        From tokens (batch, time) to logits (batch, time, vocab_size).
    windows : Tensor of int64, shape (batch, time + 1)
    end_of_text : int or None
        Token after which a new document starts, that does not see the one before; None: no token.

    Returns
    -------
    Tensor, float32, without dimensions
    """
    logits, targets = _logits(model, windows, end_of_text)
    return cross_entropy(logits, targets)


@torch.no_grad()
def validation_loss(
    model: nn.Module,
    windows: ValidationWindows,
    end_of_text: int | None,
    world: World,
    batch_size: int,
) -> float:
    """Mean cross entropy over every token of every validation window, summed in float64.

    Parameters
    ----------
    batch_size : int
        Windows at a time in each process; changes the result by rounding only.
    """
    loss_sum, tokens = 0.0, 0.0
    for first in range(0, len(windows), batch_size * world.size):
        # Every process takes part in every round, for sharded models: without windows, on one that
        # counts nothing.
        own = first + world.rank * batch_size
        counts = own < len(windows)
        batch = windows.batch(own if counts else 0, batch_size if counts else 1)
        with world.autocast():
            logits, targets = _logits(model, batch.to(world.device), end_of_text)
        losses = cross_entropy(logits, targets, reduction="none")
        if counts:
            loss_sum += float(losses.double().sum())
            tokens += targets.numel()
    if isinstance(model, FSDPModule):
        model.reshard()  # without a backward pass it would go on showing whole parameters
    loss_sum, tokens = world.total(loss_sum, tokens)
    return loss_sum / tokens


def _logits(model: nn.Module, windows: Tensor, end_of_text: int | None) -> tuple[Tensor, Tensor]:
    inputs, targets = windows[:, :-1], windows[:, 1:]
    starts = document_starts(inputs, end_of_text)
    logits = model(inputs, document_starts=starts)  # [B, T, V]
    return logits.float().flatten(0, 1), targets.flatten()


def document_starts(tokens: Tensor, end_of_text: int | None) -> Tensor | None:
    """Mark the token after each end of text; None if there is none, which models do faster.

    Parameters
    ----------
    tokens : Tensor of int64, shape (batch, time)
    end_of_text : int or None

    Returns
    -------
    Tensor of bool, shape (batch, time), or None
    """
    if end_of_text is None:
        return None
    ends = tokens[:, :-1] == end_of_text
    if not bool(ends.any()):
        return None
    return pad(ends, (1, 0), value=False)
