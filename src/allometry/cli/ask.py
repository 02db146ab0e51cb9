"""Commands that ask a posterior: summary, allocate, growth, predict, compare."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    import pandas as pd

Budgets = Annotated[list[float], Parameter(consume_multiple=True)]


def summary_command(posterior: Path, *, json: bool = False) -> int:
    """Posterior of every parameter, group by group.

    E, A, B, alpha, beta (and gamma) have params and tokens in units of one and the table's unit of
    loss; intervals are equal-tailed, 50 and 90 %.

    Parameters
    ----------
    posterior
        File written by ``allometry fit``.
    json
        Print one JSON document.
    """
    from allometry.cli.output import emit
    from allometry.inference import Posterior

    emit(Posterior.load(posterior).summary(), as_json=json)
    return 0


def allocate_command(
    posterior: Path,
    *,
    flops: Budgets,
    architecture: str | None = None,
    context_length: int | None = None,
    cost: Literal["accounting", "table", "6nd"] | None = None,
    force: bool = False,
    json: bool = False,
) -> int:
    """Compute-optimal params and tokens for training budgets.

    Parameters
    ----------
    posterior
        File written by ``allometry fit``.
    flops
        Training budgets in FLOPs, such as ``--flops 1e22 1e23``.
    architecture
        Only this architecture.
    context_length
        Only this context length.
    cost
        Another cost model than the posterior's own.
    force
        Answer although the fit did not converge.
    json
        Print one JSON document.
    """
    from allometry.cli.output import emit
    from allometry.cli.runtime import prepare_jax
    from allometry.inference import Posterior
    from allometry.inference.costs import cost_of_posterior

    prepare_jax()
    loaded = Posterior.load(posterior)
    table = loaded.allocate(
        flops,
        architecture=architecture,
        context_length=context_length,
        cost=cost_of_posterior(loaded, cost) if cost else None,
        force=force,
    )
    emit(table if json else _short(table), as_json=json)
    return 0


def growth_command(
    posterior: Path,
    *,
    flops_low: float | None = None,
    flops_high: float | None = None,
    architecture: str | None = None,
    context_length: int | None = None,
    force: bool = False,
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
    architecture
        Only this architecture.
    context_length
        Only this context length.
    force
        Answer although the fit did not converge.
    json
        Print one JSON document.
    """
    from allometry.cli.output import emit
    from allometry.cli.runtime import prepare_jax
    from allometry.inference import Posterior

    prepare_jax()
    table = Posterior.load(posterior).growth_law(
        flops_low=flops_low,
        flops_high=flops_high,
        architecture=architecture,
        context_length=context_length,
        force=force,
    )
    emit(table if json else _short(table), as_json=json)
    return 0


def predict_command(
    posterior: Path,
    *,
    params: Budgets | None = None,
    tokens: Budgets | None = None,
    at: Path | None = None,
    architecture: str | None = None,
    context_length: int | None = None,
    force: bool = False,
    json: bool = False,
) -> int:
    """Loss of runs that have not been made.

    ``loss`` is the law with its drift beyond the data; ``run_loss`` adds the noise of one run.

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
    architecture
        Only this architecture.
    context_length
        Only this context length.
    force
        Answer although the fit did not converge.
    json
        Print one JSON document.
    """
    import pandas as pd

    from allometry.cli.output import emit
    from allometry.cli.runtime import prepare_jax
    from allometry.errors import InputError
    from allometry.inference import Posterior
    from allometry.observations.loading import load_table

    if (at is None) == (params is None and tokens is None):
        hint = "Give --params and --tokens, or --at TABLE."
        raise InputError("no point to predict, or two kinds of them", where="predict", hint=hint)
    if at is not None:
        points = load_table(at)[0]
    elif len(params or []) != len(tokens or []):
        what = f"{len(params or [])} params and {len(tokens or [])} tokens"
        raise InputError(what, where="predict", hint="Give one token count for each params.")
    else:
        points = pd.DataFrame({"params": params, "tokens": tokens})
    if architecture is not None:
        points = points.assign(architecture=architecture)
    if context_length is not None:
        points = points.assign(context_length=context_length)
    prepare_jax()
    table = Posterior.load(posterior).predict(points, force=force)
    emit(table if json else _short(table), as_json=json)
    return 0


def compare_command(
    posterior: Path,
    a: str,
    b: str,
    *,
    flops: Budgets,
    context_length: int | None = None,
    speedup: bool = False,
    force: bool = False,
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
        Only this context length.
    speedup
        Also how many times A's compute B needs for the same loss.
    force
        Answer although the fit did not converge.
    json
        Print one JSON document.
    """
    from allometry.cli.output import emit
    from allometry.cli.runtime import prepare_jax
    from allometry.inference import Posterior

    prepare_jax()
    loaded = Posterior.load(posterior)
    table = loaded.compare(a, b, flops, context_length=context_length, force=force)
    if speedup:
        more = loaded.effective_speedup(a, b, flops, context_length=context_length, force=force)
        table = table.assign(**{n: more[n] for n in more.columns.difference(table.columns)})
    emit(table if json else _short(table), as_json=json)
    return 0


def _short(table: "pd.DataFrame") -> "pd.DataFrame":
    """The table a person reads: medians and 90 % ends; --json has all."""
    return table[[name for name in table.columns if not name.endswith(("_q25", "_q75"))]]
