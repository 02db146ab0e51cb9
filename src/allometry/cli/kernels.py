"""``allometry kernels``: check the mLSTM kernels on this device, and time them."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from allometry.cli.asking import Seed, check_picture
from allometry.cli.output import emit, stderr
from allometry.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Positive = Annotated[int, Parameter(validator=Number(gte=1))]


def _all_positive(_type: object, values: list[int] | None) -> None:
    if small := [value for value in values or () if value < 1]:
        raise ValueError(f"Must be at least 1, got {small[0]}.")


def check_command(
    *,
    device: str = "auto",
    backend: Annotated[list[str] | None, Parameter(negative=())] = None,
    dtype: Annotated[list[str] | None, Parameter(negative=())] = None,
    quick: bool = False,
    seed: Seed = 0,
    json: bool = False,
) -> int:
    """Compare the mLSTM kernels on this device with float64: outputs and every gradient.

    Exit code 1 if any differs by more than rounding explains. `worst` is the largest error of a row
    in units of what rounding explains for that row; `error` and `bound` are medians over rows.

    Parameters
    ----------
    device
        cuda, cpu, cuda:1 and so on; auto is a GPU if there is one.
    backend
        chunkwise or triton; default all that run on the device.
    dtype
        float32, bfloat16 or float16; default all three.
    quick
        Two small cases instead of all: what a sweep runs before its first run.
    seed
        Of the random inputs.
    json
        Print one JSON document instead of a table.
    """
    from allometry.harness.training.device import usable_device
    from allometry.kernels.check import DTYPES, available_backends, cases_for, check_kernels
    from allometry.kernels.check_cases import QUICK_CASES

    where = usable_device(device)
    possible = available_backends(where)
    for name, given, valid in (("backend", backend, possible), ("dtype", dtype, DTYPES)):
        if wrong := sorted(set(given or ()) - set(valid)):
            what = f"{name} must be one of {', '.join(valid)}, got {', '.join(wrong)}"
            raise InputError(what, where=f"kernels check on {where}")
    found = []
    with _progress() as report:
        for one in backend or possible:
            found += check_kernels(
                where,
                backends=[one],
                dtypes=dtype or DTYPES,
                cases=QUICK_CASES if quick else cases_for(one, where),
                seed=seed,
                report=report,
            )
    rows = [finding.record() for finding in found]
    if json:
        emit({"device": str(where), "ok": all(x.ok for x in found), "findings": rows}, as_json=True)
    else:
        emit(_worst(rows), as_json=False)
    bad = [x for x in found if not x.ok]
    for x in bad:
        text = f"{x.backend} {x.dtype}, {x.case}: {x.quantity} is off by {x.worst:.3g} x the bound"
        stderr.print(text, soft_wrap=True, markup=False)
    return 1 if bad else 0


def bench_command(
    *,
    device: str = "auto",
    time: Annotated[list[int] | None, Parameter(negative=(), validator=_all_positive)] = None,
    batch_size: Positive | None = None,
    heads: Positive | None = None,
    width: Annotated[list[str] | None, Parameter(negative=())] = None,
    chunk_size: Annotated[list[int] | None, Parameter(negative=(), validator=_all_positive)] = None,
    dtype: Literal["bfloat16", "float16", "float32"] | None = None,
    repeats: Positive = 10,
    output: Annotated[Path | None, Parameter(name=["-o", "--output"])] = None,
    json: bool = False,
) -> int:
    """Time the mLSTM cell, beside the device's measured peaks and the peers that are installed.

    Forward, forward + backward and one decode step. Without options: the study's shapes on a GPU,
    small ones on a CPU.

    Parameters
    ----------
    device
        cuda, cpu, cuda:1 and so on; auto is a GPU if there is one.
    time
        Tokens a sequence.
    batch_size, heads
        Sequences, and heads of each.
    width
        Widths of a query and a value head, as 128/256.
    chunk_size
        Tokens a chunk; default the backend's own.
    dtype
        Of q, k and v.
    repeats
        Timed calls a median.
    output
        Also draw the timings into this file (PNG, PDF or SVG).
    json
        Print one JSON document instead of a table.
    """
    import pandas as pd

    from allometry.harness.training.device import usable_device
    from allometry.kernels.bench import CPU_SHAPES, STUDY_SHAPES, bench_kernels

    check_picture(output)
    where = usable_device(device)
    base = STUDY_SHAPES if where.type == "cuda" else CPU_SHAPES
    options = {"batch": batch_size, "heads": heads, "dtype": dtype}
    shapes = _shapes(base, options, time, width, chunk_size)
    with _progress() as report:
        timings = bench_kernels(where, shapes, repeats=repeats, report=report)
    table = pd.DataFrame([timing.record() for timing in timings])
    if output is not None:
        _draw(table, output)
    emit(table if json else table.drop(columns=["bytes_per_second", "error"]), as_json=json)
    return 0


def _shapes(
    base: tuple[Any, ...],
    options: dict[str, Any],
    times: list[int] | None,
    widths: list[str] | None,
    chunks: list[int] | None,
) -> list[Any]:
    from dataclasses import replace

    shapes = [replace(x, **{name: v for name, v in options.items() if v is not None}) for x in base]
    if widths:
        pairs = [_width(text) for text in widths]
        shapes = [replace(shapes[0], d_qk=a, d_v=c) for a, c in pairs]
    if times:
        shapes = [replace(x, time=time) for x in shapes for time in times]
    if chunks:
        shapes = [replace(x, chunk=chunk) for x in shapes for chunk in chunks]
    return list(dict.fromkeys(shapes))


def _width(text: str) -> tuple[int, int]:
    first, _, second = text.partition("/")
    if not (first.isdigit() and second.isdigit()):
        raise InputError(f"width must look like 128/256, got {text!r}", where="--width")
    return int(first), int(second)


def _worst(rows: list[dict[str, Any]]) -> "pd.DataFrame":
    """One row a case: the quantity nearest to its bound, or farthest beyond it."""
    import pandas as pd

    table = pd.DataFrame(rows)
    worst = table.fillna({"worst": float("inf")})
    at = worst.groupby(["backend", "dtype", "case"], sort=False)["worst"].idxmax()
    return table.loc[at].reset_index(drop=True)


def _draw(table: "pd.DataFrame", output: Path) -> None:
    from allometry.plots.kernel_timings import plot_kernel_timings
    from allometry.plots.writing import save_figure

    figure = plot_kernel_timings(table).get_figure(root=True)
    assert figure is not None  # the axes were made just now
    save_figure(figure, output)
    stderr.print(f"wrote {output}", soft_wrap=True, markup=False)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task("starting", total=None)
        yield lambda text: progress.update(task, description=text)
