"""Pick the fastest of a few tiles by running them once, and remember it on disk."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import torch
import triton
from triton.compiler.errors import CompilationError
from triton.runtime.cache import get_cache_manager
from triton.runtime.errors import OutOfResources, PTXASError

from allometry.errors import KernelError
from allometry.kernels.tiles import PairTiles, StateTiles

LARGE = 1 << 15
"""Tokens times heads from which tiles are measured. Smaller calls take the first candidate that
runs, so that a call's tiles, and with them its last bits, depend on its own shape only."""
REPEATS = 5
_FILE = "tiles.json"

Tiles = TypeVar("Tiles", PairTiles, StateTiles)


class Tuner:
    """Choices of this process, and of earlier ones on disk.

    The disk cache is triton's own: TRITON_CACHE_DIR, or ~/.triton/cache.

    Parameters
    ----------
    measure : callable
        Seconds of a launch; replaced in tests.
    """

    def __init__(self, measure: Callable[[Callable[[], object]], float] | None = None) -> None:
        self.measure = measure or cuda_seconds
        self.chosen: dict[tuple[Any, ...], PairTiles | StateTiles] = {}

    def choose(
        self,
        key: tuple[Any, ...],
        candidates: Sequence[Tiles],
        launch: Callable[[Tiles], object],
        *,
        large: bool,
    ) -> Tiles:
        """Tiles for `launch`: the fastest of `candidates` for a large call, else the first to run.

        Parameters
        ----------
        key : tuple
            What the choice depends on: kernel, widths, chunk, dtype, device; not batch or time.
        candidates : sequence of tiles
            In order of preference; of one type.
        launch : callable
            Runs the kernel on the caller's buffers. Running it again must be harmless.
        large : bool
            Whether the call is worth measuring for.

        Raises
        ------
        KernelError
            If the device can run none of the candidates.
        """
        key = (*key, large)
        if key not in self.chosen:
            if len(candidates) == 1:
                self.chosen[key] = candidates[0]
            elif large:
                self.chosen[key] = self._measured(key, candidates, launch)
            else:
                self.chosen[key] = _first_that_runs(key, candidates, launch)
        return self.chosen[key]  # type: ignore[return-value]

    def _measured(
        self,
        key: tuple[Any, ...],
        candidates: Sequence[Tiles],
        launch: Callable[[Tiles], object],
    ) -> Tiles:
        text = json.dumps([triton.__version__, list(key), [asdict(x) for x in candidates]])
        cache = get_cache_manager(hashlib.sha256(text.encode()).hexdigest())
        if path := cache.get_file(_FILE):
            with open(path) as file:  # noqa: PTH123  # triton hands out a string
                return candidates[int(json.load(file)["best"])]
        seconds = [self._seconds(launch, tiles) for tiles in candidates]
        best = min(range(len(candidates)), key=seconds.__getitem__)
        if seconds[best] == float("inf"):
            raise _none_runs(key)
        cache.put(json.dumps({"key": text, "best": best, "seconds": seconds}), _FILE, binary=False)
        return candidates[best]

    def _seconds(self, launch: Callable[[Tiles], object], tiles: Tiles) -> float:
        try:
            return self.measure(lambda: launch(tiles))
        except (OutOfResources, PTXASError, CompilationError):
            return float("inf")


def _first_that_runs(
    key: tuple[Any, ...], candidates: Sequence[Tiles], launch: Callable[[Tiles], object]
) -> Tiles:
    for tiles in candidates:
        try:
            launch(tiles)
        except (OutOfResources, PTXASError, CompilationError):
            continue
        return tiles
    raise _none_runs(key)


def _none_runs(key: tuple[Any, ...]) -> KernelError:
    return KernelError(
        "no tile of this kernel runs on this device",
        where=" ".join(str(part) for part in key),
        hint='Use backend="chunkwise", and report the device and these widths.',
    )


def cuda_seconds(launch: Callable[[], object]) -> float:
    """Shortest of some runs, by the device's clock; the first run, which compiles, is left out."""
    launch()
    best = float("inf")
    for _ in range(REPEATS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        launch()
        end.record()
        end.synchronize()
        best = min(best, begin.elapsed_time(end) / 1e3)
    return best
