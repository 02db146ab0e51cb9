"""ArviZ's statistics of draws, imported when they are first asked for.

`arviz_stats` takes as long to import as a small fit takes to run, and most commands ask it nothing.
"""

from functools import cache
from threading import Thread
from typing import Any


@cache
def array_stats() -> Any:
    """The array functions of arviz-stats: rhat, ess, psislw and more."""
    from arviz_stats.base import array_stats  # type: ignore[attr-defined]

    return array_stats


def import_ahead() -> None:
    """Import them in a thread, while compiled code leaves the interpreter idle."""
    Thread(target=array_stats, daemon=True).start()
