"""A Ray cluster: one task a run; Ray chooses the node, and starts the task again if a node dies."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from allometry.errors import InputError, KernelError, RunError
from allometry.harness.sweep.executors import (
    Executor,
    Watch,
    raise_what_stops_all,
    require_workers,
)
from allometry.harness.sweep.folder import SweepFolder
from allometry.harness.sweep.worker import cheapest_first, is_open, make_run_when_free


@final
@dataclass(frozen=True, kw_only=True)
class RayExecutor(Executor):
    """Tasks on a Ray cluster whose nodes all see the sweep's folder and the corpus.

    Attributes
    ----------
    address : str
        Of the cluster, as `ray.init` takes it; empty: the one that is connected, else a new local
        one.
    workers : int
        Most runs at a time; 0: as many as the cluster has room for.
    gpus : float
        GPUs a run; CPUs are the sweep's threads.
    """

    address: str = ""
    workers: int = 0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        require_workers(self.workers)

    def execute(self, folder: SweepFolder, *, watch: Watch) -> None:
        """See `Executor.execute`."""
        try:
            import ray
        except ImportError as error:
            hint = "Install it: pip install 'allometry[ray]'."
            raise InputError("the ray package is not installed", hint=hint) from error
        ours = not ray.is_initialized()
        if ours:
            ray.init(address=self.address or None, log_to_driver=False, include_dashboard=False)
        try:
            self._execute(ray, folder, watch)
        finally:
            if ours:
                ray.shutdown()

    def _execute(self, ray: Any, folder: SweepFolder, watch: Watch) -> None:
        task = ray.remote(
            num_cpus=max(1, folder.config().threads), num_gpus=self.gpus, max_retries=-1
        )(_make)
        waiting = cheapest_first(folder)
        going: dict[Any, Mapping[str, Any]] = {}
        try:
            while waiting or going:
                while waiting and (not self.workers or len(going) < self.workers):
                    row = waiting.pop(0)
                    going[task.remote(str(folder.path.resolve()), dict(row))] = row
                ended, _ = ray.wait(list(going), num_returns=1, timeout=1.0)
                for reference in ended:
                    row = going.pop(reference)
                    raise_what_stops_all(*ray.get(reference))
                    if is_open(folder, row):
                        waiting.append(row)
                watch()
        except BaseException:
            for reference in going:
                with contextlib.suppress(Exception):  # the task may be gone with its node
                    ray.cancel(reference, force=True)
            raise


def _make(path: str, row: Mapping[str, Any]) -> tuple[str, str]:
    # On a node: wait out a dead holder's claim, make the run, and say what would stop every run.
    try:
        make_run_when_free(SweepFolder(Path(path)), row)
    except (KernelError, RunError) as error:
        return type(error).__name__, str(error)
    return "", ""
