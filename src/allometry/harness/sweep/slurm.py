"""A Slurm cluster, through submitit: an array of jobs, each a worker on the sweep's folder."""

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, final

from allometry.errors import InputError, KernelError, RunError
from allometry.harness.sweep.executors import (
    Executor,
    Watch,
    raise_what_stops_all,
    require_workers,
)
from allometry.harness.sweep.folder import SweepFolder
from allometry.harness.sweep.worker import work

Cluster = Literal["slurm", "local", "debug"]


@final
@dataclass(frozen=True, kw_only=True)
class SlurmExecutor(Executor):
    """Jobs of a Slurm cluster.

    Attributes
    ----------
    workers : int
        Jobs; each makes runs until none is left or its time is over. A job that is preempted or
        timed out is put back into the queue, and its run goes on from the last checkpoint.
    minutes : int
        Time limit of a job.
    gpus : int
        GPUs a job; CPUs are the sweep's threads.
    options : dict
        Parameters of submitit, such as ``slurm_partition``; those above give way to them.
    cluster : {"slurm", "local", "debug"}
        ``local`` runs the jobs as processes here, ``debug`` inside this one.
    """

    workers: int = 1
    minutes: int = 24 * 60
    gpus: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    cluster: Cluster = "slurm"

    def __post_init__(self) -> None:
        require_workers(self.workers, least=1)

    def _parameters(self, threads: int) -> dict[str, Any]:
        own = {
            "name": "allometry-sweep",
            "timeout_min": self.minutes,
            "cpus_per_task": max(1, threads),
            "gpus_per_node": self.gpus,
        }
        return {**own, **self.options}

    def execute(self, folder: SweepFolder, *, watch: Watch) -> None:
        """See `Executor.execute`."""
        try:
            import submitit
        except ImportError as error:
            hint = "Install it: pip install 'allometry[slurm]'."
            raise InputError("the submitit package is not installed", hint=hint) from error
        jobs_folder = folder.path / "slurm"
        try:
            executor = submitit.AutoExecutor(folder=jobs_folder, cluster=self.cluster)
            executor.update_parameters(**self._parameters(folder.config().threads))
            with executor.batch():
                task = SweepJob(str(folder.path.resolve()))
                jobs = [executor.submit(task) for _ in range(self.workers)]
        except (RuntimeError, ValueError, NameError, TypeError, AssertionError) as error:
            raise InputError(f"Slurm refuses: {' '.join(str(error).split())}") from error
        try:
            while not all(job.done() for job in jobs):
                watch()
                time.sleep(1.0)
        except BaseException:
            for job in jobs:
                with contextlib.suppress(Exception):  # it may be over by now
                    job.cancel()
            raise
        watch()
        for job in jobs:
            raise_what_stops_all(*job.result())


class SweepJob:
    """What a job does; submitit calls `checkpoint` when the job is about to be preempted."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self) -> tuple[str, str]:
        """Work; return what would stop every run, as kind and message."""
        try:
            work(SweepFolder(Path(self.folder)))
        except (KernelError, RunError) as error:
            return type(error).__name__, str(error)
        return "", ""

    def checkpoint(self) -> Any:
        """Put the job back into the queue as it is: the folder knows what is done."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(SweepJob(self.folder))
