"""One model in several processes: copies (DDP) or shards (FSDP2), as PyTorch makes them."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from allometry.harness.training.config import TrainConfig
from allometry.harness.training.device import World


@dataclass(frozen=True, kw_only=True, slots=True)
class Forward:
    """The model to call in training, and when its gradients are shared.

    Attributes
    ----------
    model : Module
        The model, wrapped and compiled as configured.
    ddp : DistributedDataParallel or None
        The wrapper whose gradients are shared on the last micro-batch only.
    """

    model: nn.Module
    ddp: DistributedDataParallel | None

    def accumulating(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Context of a micro-batch: only the last one shares gradients between processes."""
        if self.ddp is None or last:
            return contextlib.nullcontext()
        return cast("contextlib.AbstractContextManager[None]", self.ddp.no_sync())


def spread_over(world: World, model: nn.Module, config: TrainConfig) -> Forward:
    """Spread a model over the processes of `world` and compile it, as configured.

    Sharding happens in place, block by block: afterwards `model` itself holds this process's part.
    """
    wrapped: nn.Module = model
    ddp = None
    if world.size > 1 and config.parallel == "fsdp":
        for block in cast("Iterator[nn.Module]", model.blocks):
            fully_shard(block)
        fully_shard(model)
    elif world.size > 1:
        wrapped = ddp = DistributedDataParallel(model)
    if config.compile:
        wrapped = cast(nn.Module, torch.compile(wrapped))
    return Forward(model=wrapped, ddp=ddp)
