"""A live line for a training run on stderr: loss, tokens a second, MFU and time left."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from allometry.harness.training.result import Listener, StepReport


@contextmanager
def progress_bar(*, steps: int, console: Console | None = None) -> Iterator[Listener]:
    """Show a progress bar, on a terminal only; gives the listener to hand to `train`.

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
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=steps)
        validation = "-"

        def show(report: StepReport) -> None:
            nonlocal validation
            if report.val_loss is not None:
                validation = f"{report.val_loss:.4f}"
            line = _line(report, validation)
            bar.update(task, total=report.steps, completed=report.step, description=line)

        yield show


def _line(report: StepReport, validation: str) -> str:
    return (
        f"loss {report.train_loss:.4f} val {validation} "
        f"{report.tokens_per_second:,.0f} tokens/s MFU {report.mfu:.0%} "
        f"{_duration(report.seconds_left)} left"
    )


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
