"""``allometry plot``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def plot_command(
    posterior: Path,
    kind: str,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    architecture: str | None = None,
    context_length: int | None = None,
    flops: Annotated[list[float] | None, Parameter(consume_multiple=True)] = None,
    pair: tuple[str, str] | None = None,
    held_out: str | None = None,
    dpi: int = 200,
    force: bool = False,
    json: bool = False,
) -> int:
    """Draw a posterior as PNG, PDF or SVG, by the output's suffix.

    Kinds: valleys (loss against params at each isoflop budget), surface (loss over params and
    tokens), growth (compute-optimal params and tokens against compute), allocations (intervals at
    budgets), exponents (by group), fan (loss beyond the data), ppc (observed against replicated),
    residuals, prior (before any run is seen), probability (that one architecture beats another),
    rank and trace (of the chains).

    Parameters
    ----------
    posterior
        File written by ``allometry fit``.
    kind
        What to draw.
    output
        Picture to write: .png, .pdf or .svg.
    architecture
        Only this architecture.
    context_length
        Only this context length.
    flops
        Budgets of growth, allocations, fan and probability.
    pair
        Two architectures, for probability: ``--pair xlstm transformer``.
    held_out
        Table of runs (a file or a known name), for fan: those that the fit has not seen are drawn
        beside their predictions.
    dpi
        Dots per inch of a PNG.
    force
        Draw although the fit did not converge.
    json
        Print one JSON document.
    """
    from allometry.cli.asking import check_picture
    from allometry.cli.output import emit
    from allometry.cli.runtime import prepare_jax, stages
    from allometry.inference import Posterior
    from allometry.observations import read_runs
    from allometry.plots import Request, draw_figure
    from allometry.plots.writing import save_figure

    check_picture(output)
    prepare_jax()
    loaded = Posterior.load(posterior)
    request = Request(
        architecture=architecture,
        context_length=context_length,
        flops=tuple(flops or ()),
        pair=pair,
        held_out=read_runs(held_out).table if held_out else None,
        force=force,
    )
    with stages() as bar:
        bar(f"drawing {kind}", 0, 0)
        figure = draw_figure(loaded, kind, request)
        save_figure(figure, output, dpi=dpi)
    emit({"kind": kind, "output": str(output)}, as_json=json)
    return 0
