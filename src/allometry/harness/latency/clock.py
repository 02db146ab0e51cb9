"""Time a function until its median is known: warm-up, adaptive repeats, own cost."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from allometry.harness.latency.drift import MEDIAN_OVER_MEAN

_IQR_OF_NORMAL = 1.349


class Clock(ABC):
    """Seconds that a device takes for the work a function gives it."""

    @abstractmethod
    def seconds(self, work: Callable[[], Any]) -> float:
        """Seconds of one call, from an idle device until it is idle again."""


class HostClock(Clock):
    """The monotonic clock, for work that is done when the call returns."""

    def seconds(self, work: Callable[[], Any]) -> float:
        """Seconds of one call."""
        start = time.perf_counter_ns()
        work()
        return (time.perf_counter_ns() - start) * 1e-9


class CudaClock(Clock):
    """Events on the current CUDA stream: the host's own time between them is not counted."""

    def __init__(self) -> None:
        # untyped in torch
        self._start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self._end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]

    def seconds(self, work: Callable[[], Any]) -> float:
        """Seconds between two events around the call."""
        torch.cuda.synchronize()
        self._start.record()
        work()
        self._end.record()
        self._end.synchronize()
        return float(self._start.elapsed_time(self._end)) * 1e-3


def clock_for(device: torch.device) -> Clock:
    """Clock of a device."""
    return CudaClock() if device.type == "cuda" else HostClock()


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """Timings of one piece of work.

    Attributes
    ----------
    samples : ndarray, shape (repeat,)
        Seconds of each repeat, in order.
    settled : bool
        The standard error of the median came below the target before time ran out.
    """

    samples: npt.NDArray[np.float64]
    settled: bool

    @property
    def median(self) -> float:
        """Median of the repeats, in seconds."""
        return float(np.median(self.samples))

    @property
    def relative_error(self) -> float:
        """Standard error of the median over it, from the interquartile range."""
        return relative_error(self.samples)

    @property
    def std(self) -> float:
        """Spread of one repeat, in seconds: that of a normal with this interquartile range."""
        low, high = np.quantile(self.samples, [0.25, 0.75])
        return float((high - low) / _IQR_OF_NORMAL)


def relative_error(samples: npt.NDArray[np.float64]) -> float:
    """Standard error of the median of samples over it; infinite with fewer than three."""
    if len(samples) < 3:
        return float("inf")
    low, middle, high = np.quantile(samples, [0.25, 0.5, 0.75])
    spread = (high - low) / _IQR_OF_NORMAL
    return float(MEDIAN_OVER_MEAN * spread / np.sqrt(len(samples)) / middle)


def measure(
    work: Callable[[], Any],
    clock: Clock,
    *,
    target: float = 0.01,
    min_repeats: int = 5,
    max_repeats: int = 200,
    max_seconds: float = 10.0,
    warmup: int = 2,
) -> Measurement:
    """Repeat work until the median of its time is known to `target`, or time has run out.

    Parameters
    ----------
    work : callable
        Does the same thing each time.
    clock : Clock
        Of the device that does it.
    target : float
        Relative standard error of the median to reach.
    min_repeats, max_repeats : int
        Repeats made in any case, and at most.
    max_seconds : float
        No repeat starts later than this, once there are three.
    warmup : int
        Calls made before, not timed: compilation, caches, allocator.
    """
    for _ in range(warmup):
        clock.seconds(work)
    began = time.perf_counter()
    samples: list[float] = []
    while len(samples) < max_repeats:
        samples.append(clock.seconds(work))
        known = len(samples) >= min_repeats and relative_error(np.asarray(samples)) <= target
        if known or (len(samples) >= 3 and time.perf_counter() - began > max_seconds):
            break
    found = np.asarray(samples)
    return Measurement(samples=found, settled=relative_error(found) <= target)


def own_overhead(clock: Clock) -> float:
    """Seconds that the clock reports for work that does nothing: its own share of every timing."""
    return measure(lambda: None, clock, max_repeats=1000, min_repeats=200, max_seconds=1.0).median
