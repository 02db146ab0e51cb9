"""``allometry report``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def report_command(
    posterior: Path,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    also_context: Annotated[list[int] | None, Parameter(consume_multiple=True)] = None,
    title: str = "",
    force: Annotated[bool, Parameter(negative=())] = False,
    json: bool = False,
) -> int:
    """Write the planner's page: one HTML file that opens anywhere, with nothing fetched.

    The answer in words, a slider over the training budget from the smallest run to a thousand times
    the largest, plots of the fit, and tables with the provenance.

    Parameters
    ----------
    posterior
        File written by ``allometry fit``.
    output
        Page to write: .html.
    also_context
        Context lengths that were never run, to choose from as well: predicted from the population
        of groups, and marked.
    title
        Heading of the page.
    force
        Make a page although the fit did not converge; it opens with a warning.
    json
        Print one JSON document.
    """
    import shlex

    from allometry.cli.asking import notes, open_posterior
    from allometry.cli.output import emit, stderr
    from allometry.cli.runtime import stages
    from allometry.report import check_page, report, with_contexts, write_report

    check_page(output)
    loaded = open_posterior(posterior)
    words = ["allometry", "report", posterior.name, "-o", output.name]  # nobody's folders
    if also_context:
        words += ["--also-context", *map(str, also_context)]
        with notes():
            loaded = with_contexts(loaded, also_context)
    with stages() as bar:
        page = report(loaded, title=title, command=shlex.join(words), force=force, progress=bar)
    write_report(page, output)
    for sentence in page.left_out:
        stderr.print(f"left out: {sentence}", markup=False, highlight=False, soft_wrap=True)
    answer = {
        "output": str(output),
        "bytes": len(page.html.encode()),
        "groups": len(loaded.groups),
        "budgets": list(page.budgets),
        "left_out": list(page.left_out),
    }
    if not json:
        answer |= {"budgets": len(page.budgets), "left_out": len(page.left_out)}
    emit(answer, as_json=json)
    return 0
