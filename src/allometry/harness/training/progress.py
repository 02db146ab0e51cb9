"""A live line for a training run on stderr: loss, tokens a second, MFU and time left."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from allometry.harness.training.result import Listener, StepReport

_PLAIN_SECONDS = 60.0


@contextmanager
def progress_bar(*, steps: int, console: Console | None = None) -> Iterator[Listener]:
    """Show a progress bar, or a line a minute where there is no terminal.

    Gives the listener to hand to `train`.

    Parameters
    ----------
    steps : int
        Steps of the run.
    console : Console, optional
        By default stderr.
    """
    columns = (
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TextColumn("{task.description}"),
    )
    console = console or Console(stderr=True)
    describe = _describer()
    if not console.is_terminal:
        last = time.monotonic()

        def line(report: StepReport) -> None:
            nonlocal last
            said = f"step {report.step}/{report.steps} {describe(report)}"
            if time.monotonic() - last >= _PLAIN_SECONDS:
                last = time.monotonic()
                console.print(said, soft_wrap=True, markup=False, highlight=False)

        yield line
        return
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("starting", total=steps)

        def show(report: StepReport) -> None:
            said = describe(report)
            bar.update(task, total=report.steps, completed=report.step, description=said)

        yield show


def _describer() -> Callable[[StepReport], str]:
    # Keeps the last validation loss: most rows have none.
    validation = "-"

    def describe(report: StepReport) -> str:
        nonlocal validation
        if report.val_loss is not None:
            validation = f"{report.val_loss:.4f}"
        return _line(report, validation)

    return describe


def _line(report: StepReport, validation: str) -> str:
    return (
        f"loss {report.train_loss:.4f} val {validation} "
        f"{report.tokens_per_second:,.0f} tokens/s MFU {report.mfu:.0%} "
        f"{_duration(report.seconds_left)} left"
    )


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
