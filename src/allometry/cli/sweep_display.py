"""How a sweep looks in a terminal while it runs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd

    from allometry.harness.sweep import SweepStatus

_REFRESH_SECONDS = 1.0
_PLAIN_SECONDS = 60.0
_OVER = ("finished", "diverged", "failed")


@contextmanager
def sweep_display(status: "SweepStatus", console: Console) -> Iterator[Callable[[], None]]:
    """Show a sweep while the block runs: live in a terminal, a line a minute elsewhere.

    Yields
    ------
    Callable
        To be called about once a second.
    """
    last = 0.0
    if not console.is_terminal:

        def line() -> None:
            nonlocal last
            if time.monotonic() - last >= _PLAIN_SECONDS:
                last = time.monotonic()
                console.print(_sentence(status.summary(status.table())), soft_wrap=True)

        yield line
        return
    with Live(console=console, transient=True, auto_refresh=False) as live:

        def show() -> None:
            nonlocal last
            if time.monotonic() - last >= _REFRESH_SECONDS:
                last = time.monotonic()
                table = status.table()
                live.update(_screen(table, status.summary(table)), refresh=True)

        yield show


def rows_to_show(table: "pd.DataFrame") -> "pd.DataFrame":
    """Runs of a status table that a person looks for: all but the waiting ones."""
    return table[table.state != "waiting"].drop(columns="flops")


def _screen(table: "pd.DataFrame", summary: dict[str, Any]) -> Group:
    running = Table(box=None, pad_edge=False)
    for name in ("running", "done", "by"):
        running.add_column(name)
    for row in table[table.state == "running"].itertuples():
        running.add_row(str(row.run_id), f"{row.done:.0%}", str(row.holder))
    share = summary["flops_done"] / summary["flops"]
    return Group(
        ProgressBar(total=1.0, completed=share, width=60), Text(_sentence(summary)), running
    )


def _sentence(summary: dict[str, Any]) -> str:
    over = sum(summary[state] for state in _OVER)
    parts = [f"{over} of {summary['runs']} runs over"]
    parts += [
        f"{summary[state]} {state}" for state in ("running", "diverged", "failed") if summary[state]
    ]
    parts.append(f"{summary['flops_done']:.3g} of {summary['flops']:.3g} FLOPs")
    if summary["seconds_left"] is not None:
        parts.append(f"{_duration(summary['seconds_left'])} left")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
