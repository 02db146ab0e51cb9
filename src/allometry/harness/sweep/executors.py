"""Where runs are made: an executor starts workers on a sweep's folder and minds them."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from allometry.errors import InputError, KernelError, RunError
from allometry.harness.sweep.folder import SweepFolder

Watch = Callable[[], None]
"""Called about once a second while a sweep runs: a progress bar."""


class Executor(ABC):
    """Makes the runs of a sweep. Claims in the folder keep executors from doing a run twice."""

    @abstractmethod
    def execute(self, folder: SweepFolder, *, watch: Watch) -> None:
        """Work until every run is over or has failed.

        Parameters
        ----------
        folder : SweepFolder
            On a disk that every worker sees.
        watch : Watch
            Called about once a second.

        Raises
        ------
        KernelError
            If the kernels are wrong on a device.
        RunError
            If no worker can go on.
        KeyboardInterrupt
            Passed on after the workers were stopped; the same call goes on later.
        """


def require_workers(count: int, *, least: int = 0) -> None:
    """Refuse a number of workers below `least`."""
    if count < least:
        raise InputError(f"workers must be {least} or more, got {count}")


def raise_what_stops_all(kind: str, what: str, *, hint: str = "") -> None:
    """Raise what a worker said ended it, if it said something; kind is the error's name."""
    if kind:
        raise (KernelError if kind == "KernelError" else RunError)(what, hint=hint)
