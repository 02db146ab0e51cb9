"""Commands that ask a posterior: summary, allocate, growth, predict, compare."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from allometry.cli.asking import (
    EVERY_GROUP,
    STUDY_VOCAB,
    Budgets,
    Cost,
    Groups,
    VocabSize,
    answered,
    check_picture,
    check_shapes,
    notes,
    open_posterior,
    other_cost,
    write_picture,
)
from allometry.cli.pairs import parse_pairs


def summary_command(
    posterior: Path,
    *,
    provenance: Annotated[bool, Parameter(negative=())] = False,
    json: bool = False,
) -> int:
    """Posterior of every parameter, group by group.

    E, A, B, alpha, beta (and gamma) have params and tokens in units of one and the table's unit of
    loss; intervals are equal-tailed, 50 and 90 %. r_hat and ess are those of the row; whether a fit
    converged is judged by what was sampled, of which these are functions, and a row that chains
    agree less on is told on stderr. So are imported priors.

    Parameters
    ----------
    posterior
        File written by ``allometry fit``.
    provenance
        Instead: the runs' file and sha256, the fit's settings, seed and versions.
    json
        Print one JSON document.
    """
    from allometry.cli.output import emit, stderr
    from allometry.inference import Posterior
    from allometry.inference.summary import doubtful_rows
    from allometry.priors import library_line

    loaded = Posterior.load(posterior)
    if provenance:
        emit(loaded.record.provenance(), as_json=json)
        return 0
    imported = loaded.record.imported
    told = [library_line(imported), *(o.words for o in imported if not o.by_default)]
    for line in filter(None, told):
        stderr.print(line, markup=False, highlight=False, soft_wrap=True)
    table = loaded.summary()
    for line in doubtful_rows(table, loaded.record):
        stderr.print(f"note: {line}", markup=False, highlight=False, soft_wrap=True)
    emit(table, as_json=json)
    return 0


def allocate_command(
    posterior: Path,
    *,
    flops: Budgets,
    groups: Groups = EVERY_GROUP,
    cost: Cost | None = None,
    buildable: Annotated[bool, Parameter(negative=())] = False,
    vocab_size: VocabSize = STUDY_VOCAB,
    json: bool = False,
) -> int:
    """Compute-optimal params and tokens for training budgets.

    Parameters
    ----------
    posterior
        File written by ``allometry fit``.
    flops
        Training budgets in FLOPs, such as ``--flops 1e22 1e23``.
    cost
        Another cost model than the posterior's own.
    buildable
        Also the shape to build: of the family's near the median, that of least expected regret.
    vocab_size
        Rows of embedding and head of the shapes to build: the tokenizer's vocabulary.
    json
        Print one JSON document.
    """
    from allometry.decisions.buildable import buildable as snap

    loaded = open_posterior(posterior)
    if buildable:
        check_shapes(loaded, groups)
    with notes():
        model = other_cost(loaded, cost)
        table = loaded.allocate(flops, cost=model, **groups.which())
        if buildable:
            table = snap(
                loaded,
                table,
                params="params_median",
                vocab_size=vocab_size,
                cost=model,
                **groups.which(),
            )
    return answered(table, as_json=json)


def growth_command(
    posterior: Path,
    *,
    flops_low: float | None = None,
    flops_high: float | None = None,
    groups: Groups = EVERY_GROUP,
    json: bool = False,
) -> int:
    """Growth laws: N* as C to the params exponent, D* as C to the tokens exponent.

    Parameters
    ----------
    posterior
        File written by ``allometry fit``.
    flops_low
        Lower end of the range of budgets; by default each group's smallest run.
    flops_high
        Upper end; by default each group's largest run.
    json
        Print one JSON document.
    """
    loaded = open_posterior(posterior)
    with notes():
        table = loaded.growth_law(flops_low=flops_low, flops_high=flops_high, **groups.which())
    return answered(table, as_json=json)


def predict_command(
    posterior: Path,
    *,
    params: Budgets | None = None,
    tokens: Budgets | None = None,
    at: Path | None = None,
    alias: list[str] | None = None,
    groups: Groups = EVERY_GROUP,
    json: bool = False,
) -> int:
    """Loss of runs that have not been made.

    ``loss`` is the law with its discrepancy; ``run_loss`` adds the noise of one run.

    Parameters
    ----------
    posterior
        File written by ``allometry fit``.
    params
        Params of the runs (with ``--tokens``, one for each).
    tokens
        Training tokens of the runs.
    at
        Or a table with params, tokens and, if wanted, the group columns.
    alias
        A column of that table to read as another: ``size=params``; repeatable.
    json
        Print one JSON document.
    """
    import pandas as pd

    from allometry.errors import InputError
    from allometry.observations.points import check_points, read_points

    if (at is None) == (params is None and tokens is None):
        hint = "Give --params and --tokens, or --at TABLE."
        raise InputError("no point to predict, or two kinds of them", where="predict", hint=hint)
    if at is not None:
        points = read_points(at, aliases=parse_pairs(alias, option="--alias"))
    elif len(params or []) != len(tokens or []):
        what = f"{len(params or [])} params and {len(tokens or [])} tokens"
        raise InputError(what, where="predict", hint="Give one token count for each params.")
    else:
        points = pd.DataFrame({"params": params, "tokens": tokens})
        check_points(points)
    loaded = open_posterior(posterior)
    with notes():
        table = loaded.predict(points, **groups.which())
    return answered(table, as_json=json)


def compare_command(
    posterior: Path,
    a: str,
    b: str,
    *,
    flops: Budgets,
    context_length: int | None = None,
    group: str | None = None,
    speedup: Annotated[bool, Parameter(negative=())] = False,
    plot: Path | None = None,
    unseen: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    json: bool = False,
) -> int:
    """Probability that A has less loss than B when both are trained compute-optimally.

    Parameters
    ----------
    posterior
        File written by ``allometry fit``.
    a
        An architecture.
    b
        Another one.
    flops
        Training budgets in FLOPs.
    context_length
        Only this context length; where A or B was never run there, it is predicted.
    group
        Values of further group columns: ``--group data=c4``.
    speedup
        Also how many times A's compute B needs for the same loss.
    plot
        Picture of the speed-up over the budgets: .png, .pdf or .svg.
    unseen
        Allow an architecture that was never run.
    force
        Answer although the fit did not converge.
    json
        Print one JSON document.
    """
    check_picture(plot)
    loaded = open_posterior(posterior)
    asked = Groups(context_length=context_length, group=group, unseen=unseen, force=force)
    with notes():
        table = loaded.compare(a, b, flops, **asked.which())
        if speedup or plot:
            more = loaded.effective_speedup(a, b, flops, **asked.which())
            table = table.assign(**{n: more[n] for n in more.columns.difference(table.columns)})
    if plot:
        from allometry.plots.decisions import draw_speedup

        write_picture(draw_speedup(table), plot)
    return answered(table, as_json=json)
