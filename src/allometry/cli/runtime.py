"""What the command line sets for its own process, once: JAX's cache of compiled programs."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from allometry.cli.output import stderr
from allometry.errors import InputError

PLAIN_SECONDS = 60.0
"""Between lines of progress where there is no terminal."""


def prepare_jax() -> None:
    """Keep compiled programs between commands, in ``ALLOMETRY_CACHE`` or the user's cache folder.

    Called by commands only: in a library, the process belongs to the caller.
    """
    import jax
    import pooch

    folder = Path(os.environ.get("ALLOMETRY_CACHE") or pooch.os_cache("allometry")) / "programs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # a read-only home: compile again
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.1,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in settings.items():
        jax.config.update(name, value)  # type: ignore[no-untyped-call]


def import_law(module: str, *, where: str = "--law-module") -> None:
    """Import the module that registers a law, on Python's path or in the folder one stands in."""
    sys.path.append(str(Path.cwd()))
    try:
        import_module(module)
    except Exception as error:  # whatever the module of a user raises
        what = f"module {module!r} cannot be imported: {type(error).__name__}: {error}"
        hint = "Name it as Python imports it, without .py, from the folder that holds it."
        raise InputError(what, where=where, hint=hint) from error
    finally:
        sys.path.pop()


@contextmanager
def stages() -> Iterator["StageBar"]:
    """Progress of functions that tell their stages, on stderr.

    A bar, or a line a minute where there is no terminal.
    """
    plain = not stderr.is_terminal
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=stderr,
        transient=True,
        disable=plain,
    ) as progress:
        yield StageBar(progress, plain=plain)


class StageBar:
    """Shows what is being done and how far it is; pass it as ``progress=``."""

    def __init__(self, progress: Progress, *, plain: bool) -> None:
        self._progress = progress
        self._plain, self._last = plain, time.monotonic()
        self._task = progress.add_task("reading", total=None)

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show a stage; a total of zero means that its length is unknown."""
        self._progress.update(self._task, description=what, completed=done, total=total or None)
        if self._plain and time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last = time.monotonic()
            far = f" ({done} of {total})" if total else ""
            stderr.print(f"{what}{far}", soft_wrap=True, markup=False, highlight=False)
