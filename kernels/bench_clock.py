"""How long a call takes on a device, and what the device reaches: the scale of a benchmark."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

_CPU_SAMPLE_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class Peaks:
    """What the device reaches: FLOP/s of a matrix product, bytes/s of a copy (read plus write)."""

    matmul_flops: float
    copy_bytes: float


def seconds_of(call: Callable[[], object], device: torch.device, *, repeats: int) -> float:
    """Median seconds of a call after one call that warms up; by the device's clock on a GPU."""
    call()
    sample = _gpu_seconds if device.type == "cuda" else _cpu_seconds
    return float(statistics.median(sample(call, device) for _ in range(repeats)))


def _gpu_seconds(call: Callable[[], object], device: torch.device) -> float:
    # Inputs come from memory, not from the L2 cache, as in a model's layer; and the call is queued
    # while the device is busy, so that a short call's launch on the host is not timed.
    torch.empty(1 << 28, dtype=torch.int8, device=device).zero_()
    torch.cuda._sleep(1_000_000)  # cycles, about half a millisecond
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def _cpu_seconds(call: Callable[[], object], device: torch.device) -> float:
    # Short calls many times: a turn that another program takes is longer than one of them.
    start, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - start < _CPU_SAMPLE_SECONDS:
        call()
        calls += 1
    return (time.perf_counter() - start) / calls


def measure_peaks(device: torch.device, dtype: torch.dtype, *, repeats: int = 20) -> Peaks:
    """Measure a square product (8192 wide on a GPU, 1024 on a CPU) and a copy (1 GiB, 64 MiB)."""
    size, length = (8192, 1 << 30) if device.type == "cuda" else (1024, 1 << 26)
    rng = torch.Generator(device).manual_seed(0)
    x = torch.randn(size, size, generator=rng, device=device).to(dtype)
    source = torch.zeros(length, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product = seconds_of(lambda: x @ x, device, repeats=repeats)
    copy = seconds_of(lambda: target.copy_(source), device, repeats=repeats)
    return Peaks(matmul_flops=2 * size**3 / product, copy_bytes=2 * length / copy)
