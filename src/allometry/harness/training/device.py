"""Where a run computes: device, precision, peak, and the processes it shares the work with."""

import atexit
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.distributed as dist
from torch import Tensor

from allometry.accounting.devices import find_device
from allometry.errors import InputError
from allometry.harness.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """Place of this process among those that train one model.

    Attributes
    ----------
    device : torch.device
        Where it computes.
    bfloat16 : bool
        Autocast to bfloat16.
    rank, size : int
        Its number, from 0, and how many there are.
    """

    device: torch.device
    bfloat16: bool
    rank: int = 0
    size: int = 1

    def total(self, *values: float) -> list[float]:
        """Sums over all processes."""
        if self.size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return [float(value) for value in sums]

    def autocast(self) -> torch.autocast:
        """Context of the forward pass."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16)


@contextmanager
def joined(config: TrainConfig) -> Iterator[World]:
    """Join the processes that ``torchrun`` started, if it did.

    They stay joined until the process ends: joining a second time through the same store can meet
    the addresses of the first.

    Raises
    ------
    InputError
        If the device does not exist or the batch cannot be shared by so many processes.
    """
    device = usable_device(config.device)
    if dist.is_torchelastic_launched():
        if device.type == "cuda":
            device = torch.device("cuda", dist.get_node_local_rank())
            torch.cuda.set_device(device)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
            atexit.register(_leave)
    size = dist.get_world_size() if dist.is_initialized() else 1
    rank = dist.get_rank() if dist.is_initialized() else 0
    with _threads(config.threads):
        yield _world(config, device, rank, size)


def _leave() -> None:
    """Leave the other processes while the interpreter is whole.

    What still holds tensors in flight would else be torn down with it, which can abort a process
    whose work is done.
    """
    gc.collect()
    dist.destroy_process_group()
    gc.collect()


def _world(config: TrainConfig, device: torch.device, rank: int, size: int) -> World:
    if config.batch_size % (size * config.accumulation):
        what = f"batch_size {config.batch_size} cannot be shared by {size} processes in "
        what += f"{config.accumulation} micro-batches"
        raise InputError(what, where="TrainConfig", hint="Make it a multiple of their product.")
    bfloat16 = config.precision == "bfloat16" or (
        config.precision == "auto" and device.type == "cuda"
    )
    return World(device=device, bfloat16=bfloat16, rank=rank, size=size)


def usable_device(name: str) -> torch.device:
    """Device of a name; ``auto`` is a GPU if there is one.

    Raises
    ------
    InputError
        If it does not exist here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"no device {name!r}; use auto, cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"cannot compute on {name!r}; use auto, cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no CUDA device here", hint="Use device auto or cpu.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"there is no {name}; CUDA devices here: {torch.cuda.device_count()}")
    return device


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count:
            torch.set_num_threads(before)


def device_name(device: torch.device) -> str:
    """Name of a device for a table of runs."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"


def peak_flops(world: World) -> float:
    """Peak FLOP/s of one process: the data sheet's for a known GPU, else of a measured product.

    Measured is the best of several square float32 or bfloat16 products, about a tenth of a second;
    an MFU against it can pass 1 only by the noise of the clock.
    """
    if world.device.type == "cuda" and world.bfloat16:
        known = find_device(torch.cuda.get_device_name(world.device))
        if known is not None:
            return known.flops
    dtype = torch.bfloat16 if world.bfloat16 else torch.float32
    return measured_peak(str(world.device), dtype, torch.get_num_threads())


@lru_cache(maxsize=8)
def measured_peak(device: str, dtype: torch.dtype, threads: int) -> float:
    """FLOP/s of square products on a device with so many threads, which the caller sets."""
    width = 512 if device == "cpu" else 8192
    matrix = torch.ones(width, width, device=device, dtype=dtype)
    best = min(_seconds(matrix) for _ in range(8))
    return 2.0 * width**3 / best


def _seconds(matrix: Tensor) -> float:
    if matrix.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    matrix @ matrix
    if matrix.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start
