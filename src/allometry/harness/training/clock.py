"""Where the time of a run goes: speed, MFU, the loader's share, and when to save."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from allometry.accounting import training_flops_per_token
from allometry.harness.training.config import TrainConfig
from allometry.harness.training.device import World, peak_flops


class Clock:
    """Measures one session of a run.

    Parameters
    ----------
    config : TrainConfig
        The run.
    world : World
        Processes that share it; the peak of one is measured here.
    seconds_before : float
        Wall time of earlier sessions.
    """

    def __init__(self, config: TrainConfig, world: World, *, seconds_before: float) -> None:
        self._step_tokens = config.batch_size * config.context_length
        self._flops_per_token = training_flops_per_token(config.shape, config.context_length).total
        self._peak = peak_flops(world) * world.size
        self._checkpoint_seconds = config.checkpoint_seconds
        self._before = seconds_before
        self._start = self._saved = time.perf_counter()
        self._train_seconds = self._load_seconds = 0.0
        self._steps = 0

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Time the block as reading of data."""
        start = time.perf_counter()
        yield
        self._load_seconds += time.perf_counter() - start

    @contextmanager
    def training(self) -> Iterator[None]:
        """Time the block as one step."""
        start = time.perf_counter()
        yield
        self._train_seconds += time.perf_counter() - start
        self._steps += 1

    def seconds(self) -> float:
        """Wall time of the run so far, earlier sessions and validation included."""
        return self._before + time.perf_counter() - self._start

    def seconds_left(self, steps: int) -> float:
        """Wall time of `steps` more steps at the pace of this session."""
        return (time.perf_counter() - self._start) / max(1, self._steps) * steps

    def tokens_per_second(self) -> float:
        """Training speed of this session, reading of data included, validation not."""
        busy = self._train_seconds + self._load_seconds
        return self._steps * self._step_tokens / busy if busy else 0.0

    def mfu(self) -> float:
        """Model FLOPs a second over the peak of all processes (`peak_flops`)."""
        return self.tokens_per_second() * self._flops_per_token / self._peak

    def loader_share(self) -> float:
        """Share of the training time spent on reading data."""
        busy = self._train_seconds + self._load_seconds
        return self._load_seconds / busy if busy else 0.0

    def checkpoint_is_due(self) -> bool:
        """Whether the last checkpoint of this session is old enough."""
        return time.perf_counter() - self._saved >= self._checkpoint_seconds

    def checkpoint_was_made(self) -> None:
        """Start waiting for the next."""
        self._saved = time.perf_counter()
