"""``allometry prior export|list|show``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from allometry.cli.asking import Seed

if TYPE_CHECKING:
    import pandas as pd

    from allometry.inference import Posterior
    from allometry.priors import PriorFile


def export_command(
    posterior: Path,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    kind: Literal["new-group", "groups"] = "new-group",
    discount: Annotated[float, Parameter(validator=Number(gt=0, lte=1))] = 1.0,
    architecture: str | None = None,
    context_length: float | None = None,
    name: str = "",
    tokenizer: str = "",
    bytes_per_token: Annotated[float | None, Parameter(validator=Number(gt=0, lte=1000))] = None,
    params: Literal["with embeddings", "without embeddings", "unknown"] = "with embeddings",
    plot: Path | None = None,
    seed: Seed = 0,
    force: bool = False,
    json: bool = False,
) -> int:
    """Write what a posterior knows as a prior file for the next study.

    The file is JSON: a mixture of normal or Student-t distributions with its units, reference run
    and where it comes from. Use it with ``allometry fit --prior FILE``.

    Parameters
    ----------
    posterior
        NetCDF file written by ``allometry fit``.
    output
        Prior file to write (JSON).
    kind
        new-group: the prediction for a group that was never run, which a new study wants; groups:
        the posterior of these groups, to go on with the same study.
    discount
        Power of the runs' likelihood, above 0 and at most 1: .5 counts each run half.
    architecture
        Only of this architecture.
    context_length
        At this context length.
    name
        Name of the prior; by default from the posterior's source.
    tokenizer
        Name of the study's tokenizer.
    bytes_per_token
        Mean bytes of text in one of its tokens, so that others can convert.
    params
        What the study's params count.
    plot
        Draw the mixture over the posterior's draws into this file (PNG, PDF or SVG).
    seed
        Seed of everything random.
    force
        Export although the fit did not converge.
    json
        Print the prior as one JSON document.
    """
    from allometry.cli.asking import check_output, check_picture, write_picture
    from allometry.cli.output import emit, stderr
    from allometry.cli.runtime import prepare_jax, stages
    from allometry.inference import Posterior
    from allometry.priors import Units, as_prior

    check_output(output, (".json",))
    check_picture(plot)
    prepare_jax()
    found = Posterior.load(posterior)
    if architecture and (known := _other_names(found, architecture)):
        text = f"note: {architecture} was never run: a group of it is predicted from {known}"
        stderr.print(text, soft_wrap=True, markup=False, highlight=False)
    units = Units(
        params=params,
        loss=found.record.loss_unit,
        tokenizer=tokenizer,
        bytes_per_token=bytes_per_token,
    )
    with stages() as bar:
        bar("describing the draws", 0, 0)
        file = as_prior(
            found,
            kind=kind,
            discount=discount,
            architecture=architecture,
            context_length=context_length,
            name=name,
            units=units,
            seed=seed,
            force=force,
        )
        file.save(output)
        if plot is not None:
            from allometry.plots.priors import plot_overlay
            from allometry.priors.tables import overlay_table

            bar("drawing", 0, 0)
            figure = plot_overlay(overlay_table(found, file, seed=seed))
    if plot is not None:
        write_picture(figure, plot)
    emit(file.to_document() if json else _short(file, output), as_json=json)
    return 0


def _other_names(posterior: "Posterior", architecture: str) -> str:
    """The architectures that were run, if this is none of them."""
    groups = posterior.groups
    if "architecture" not in groups:
        return ""
    names = groups["architecture"].astype(str).unique()
    return "" if architecture in names else ", ".join(names)


def list_command(*, json: bool = False) -> int:
    """Priors that come with the package, with the terms of their sources.

    Parameters
    ----------
    json
        Print one JSON document.
    """
    from allometry.cli.output import emit
    from allometry.priors import library_table

    table = library_table()
    if not json:  # for people: what is long goes on in prior show
        import textwrap

        for name, width in (("licences", 44), ("description", 72)):
            table[name] = [textwrap.shorten(t, width, placeholder=" ...") for t in table[name]]
    emit(table, as_json=json)
    return 0


def show_command(
    prior: str,
    *,
    plot: Path | None = None,
    beside: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    json: bool = False,
) -> int:
    """What a prior says: every quantity with its interval, units and provenance.

    Checks the file on the way: exit code 2 and one line if any rule is broken.

    Parameters
    ----------
    prior
        A prior file, or a name that ``allometry prior list`` shows.
    plot
        Forest plot of its groups, quantity by quantity: .png, .pdf or .svg.
    beside
        Priors for a new group to draw (and list) beside it, moved to its reference run:
        ``prior show xlstm-study-groups --beside xlstm typical --plot forest.png``.
    json
        Print the prior as one JSON document.
    """
    from allometry.cli.asking import check_picture, write_picture
    from allometry.cli.output import emit
    from allometry.errors import InputError
    from allometry.priors import find_prior, forest_table, prior_table

    check_picture(plot)
    if beside is not None and not beside:
        hint = "Name one or several, such as --beside xlstm typical."
        raise InputError("no prior is named", where="--beside", hint=hint)
    file = find_prior(prior)
    others = [find_prior(name) for name in beside or []]
    table = forest_table(file, others) if plot or others else prior_table(file)
    if plot is not None:
        from allometry.plots.priors import plot_forests

        write_picture(plot_forests(table), plot)
    if json:
        emit(file.to_document(), as_json=True)
        return 0
    emit(_fields(_short(file, None)), as_json=False)
    emit(table.drop(columns="meaning"), as_json=False)
    return 0


CELL_WIDTH = 88


def _fields(document: "dict[str, object]") -> "pd.DataFrame":
    """One row a field; long texts go on in the rows below, and lists have a row each."""
    import textwrap

    import pandas as pd

    rows: list[tuple[str, object]] = []
    for name, value in document.items():
        if isinstance(value, dict):
            value = [f"{key}: {part}" for key, part in value.items()]
        parts = value if isinstance(value, list) else [value]
        if name.endswith("sha256"):
            parts = [f"{str(part)[:12]}..." for part in parts]
        lines: list[object] = []
        for part in parts or ["none"]:
            long = isinstance(part, str) and len(part) > CELL_WIDTH
            lines += textwrap.wrap(str(part), CELL_WIDTH) if long else [part]
        rows += [(name if i == 0 else "", line) for i, line in enumerate(lines)]
    return pd.DataFrame(rows, columns=["field", "value"], dtype=object)


def _short(file: "PriorFile", path: Path | None) -> dict[str, object]:
    """A prior in a few fields."""
    from allometry.priors.sources import MARKS

    mixture, scale, units = file.mixture, file.reference, file.units
    family = "normal" if mixture.df is None else f"Student-t ({mixture.df:g})"
    written = {} if path is None else {"prior": str(path)}
    return {
        **written,
        "name": file.name,
        "description": file.description,
        "kind": file.kind,
        "law": file.law,
        "groups": ["/".join(map(str, group.values())) for group in file.groups],
        "reference": f"{scale.params:.4g} params, {scale.tokens:.4g} tokens",
        "units": f"params {units.params}; loss {units.loss}",
        "distribution": f"{len(mixture.weights)} {family} of {mixture.size} quantities",
        "fitted_over": _fitted_over(file),
        "discount": file.discount,
        "worth_runs": file.worth_runs,
        **file.goodness,
        **{f"source {k}": v for k, v in file.provenance.items() if k not in ("versions", MARKS)},
    }


def _fitted_over(file: "PriorFile") -> str:
    """Where the runs lay that its laws were fitted to."""
    if not file.fitted_over:
        return "not said"
    c, r, _ = zip(*file.fitted_over, strict=True)
    low, high = (6.0 * 10.0**end for end in (min(c), max(c)))
    ratios = f"{10.0 ** min(r):.2g} to {10.0 ** max(r):.2g} tokens a param"
    return f"6 N D of {low:.1g} to {high:.1g} FLOPs at {ratios}"
