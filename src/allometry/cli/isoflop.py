"""``allometry isoflop``."""

from typing import Annotated, Literal

from cyclopts import Parameter

from allometry.cli.asking import Seed
from allometry.cli.pairs import parse_pairs


def isoflop_command(
    runs: str,
    *,
    resource: Literal["params", "tokens"] = "params",
    by: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    exclude: list[str] | None = None,
    alias: list[str] | None = None,
    minima: bool = False,
    draws: int = 500,
    seed: Seed = 0,
    force: bool = False,
    json: bool = False,
) -> int:
    """Growth laws from IsoFLOP valleys alone, all budgets and groups in one model.

    The minima of the valleys carry their uncertainty into the exponents; compare with ``growth``,
    which asks a whole loss law.

    Parameters
    ----------
    runs
        Table of runs, or the name of a known one; budgets are found by their FLOPs.
    resource
        Valleys against params or against tokens.
    by
        Columns whose cells are groups; default architecture and context_length.
    exclude
        Rows to leave out, as a condition; repeatable.
    alias
        A column to read as another: ``eval/loss=loss``; repeatable.
    minima
        Print the minimum of every valley instead of the growth laws.
    draws
        Kept draws of each of four chains.
    seed
        Seed of everything random.
    force
        Answer although the fit did not converge.
    json
        Print one JSON document.
    """
    from allometry.cli.output import emit
    from allometry.cli.runtime import prepare_jax, stages
    from allometry.inference import Sampler
    from allometry.inference.valleys import fit_valleys
    from allometry.observations import read_runs

    prepare_jax()
    aliases = parse_pairs(alias, option="--alias")
    checked = read_runs(runs, aliases=aliases, exclude=exclude or None, by=by)
    with stages() as bar:
        posterior = fit_valleys(
            checked, resource=resource, by=by, sampler=Sampler(draws=draws), seed=seed, progress=bar
        )
    table = posterior.minima(force=force) if minima else posterior.growth_law(force=force)
    emit(table, as_json=json)
    return 0
