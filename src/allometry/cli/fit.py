"""``allometry fit``."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def fit_command(
    runs: str,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    law: str = "pnorm",
    by: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    exclude: list[str] | None = None,
    alias: list[str] | None = None,
    cost: Literal["auto", "accounting", "table", "6nd"] = "auto",
    method: Literal["nuts", "laplace"] = "nuts",
    noise: Literal["valley", "constant"] = "valley",
    holdout: Literal["largest"] | None = None,
    chains: int = 4,
    draws: int = 500,
    warmup: int = 200,
    target: float = 0.9,
    seed: int = 0,
    law_module: list[str] | None = None,
    json: bool = False,
) -> int:
    """Fit a loss law to a table of finished runs and write its posterior.

    Groups (architecture and context length, where the table has them) share a population, so that
    each learns from the others. Exit code 1: written, but not converged.

    Parameters
    ----------
    runs
        CSV, Parquet or JSON lines with params, tokens and loss; or the name of a known table
        (``allometry data list``).
    output
        Posterior file to write (NetCDF).
    law
        pnorm (default), chinchilla, gamma, kaplan, repetition, interaction, or your own.
    by
        Columns whose cells are groups; default architecture and context_length.
    exclude
        Rows to leave out, as a condition such as ``loss > 5``, or ``outliers``; repeatable.
    alias
        A column to read as another: ``eval/loss=loss``; repeatable.
    cost
        Where FLOPs of unseen runs come from: shapes, the table's own flops, or 6 N D.
    method
        nuts, or laplace (a second; falls through to nuts where it would be wrong).
    noise
        valley: runs far from the compute-optimal line scatter more; constant: all alike.
    holdout
        ``largest``: leave out each group's largest budget, to validate on it.
    chains
        Markov chains.
    draws
        Kept draws of each chain.
    warmup
        Adaptation iterations of each chain.
    target
        Acceptance probability; raise it if there are divergences.
    seed
        Seed of everything random.
    law_module
        Python module to import first, which registers your own law.
    json
        Print one JSON document.
    """
    from dataclasses import replace
    from importlib import import_module

    from allometry.cli.output import emit, stderr
    from allometry.cli.runtime import prepare_jax, stages
    from allometry.inference import (
        NO_OFF_VALLEY,
        Sampler,
        default_priors,
        fit,
        group_names,
    )
    from allometry.inference.holdout import without_largest
    from allometry.laws import get_law
    from allometry.observations import read_runs

    prepare_jax()
    for module in law_module or []:
        import_module(module)
    priors = default_priors(get_law(law))
    if noise == "constant":
        priors = replace(priors, off_valley=NO_OFF_VALLEY)
    sampler = Sampler(method=method, chains=chains, draws=draws, warmup=warmup, target=target)
    checked = read_runs(runs, aliases=_pairs(alias or []), exclude=exclude or None, by=by)
    if holdout == "largest":
        checked = without_largest(checked, by=by)
    with stages() as bar:
        posterior = fit(
            checked,
            law=law,
            by=by,
            priors=priors,
            cost=cost,
            sampler=sampler,
            seed=seed,
            progress=bar,
        )
    posterior.save(output)
    record = posterior.record
    convergence = record.convergence
    for warning in record.warnings:
        stderr.print(f"warning: {warning}", markup=False, highlight=False)
    if not convergence.converged:
        reasons, advice = "; ".join(convergence.reasons), "; ".join(convergence.advice)
        stderr.print(f"not converged: {reasons}\nhint: {advice}", markup=False, highlight=False)
    answer = {
        "posterior": str(output),
        "law": record.law,
        "method": record.method,
        "runs": len(checked.table),
        "excluded": [{"row": e["row"], "reason": e["reason"]} for e in record.excluded],
        "warnings": list(record.warnings),
        "groups": list(group_names(posterior)),
        "converged": convergence.converged,
        "diagnostics": {
            "divergences": convergence.divergences,
            "max_rhat": convergence.max_rhat,
            "min_ess_bulk": convergence.min_ess_bulk,
            "min_ess_tail": convergence.min_ess_tail,
            "seconds": convergence.seconds,
        },
    }
    emit(answer if json else answer | {"excluded": len(record.excluded)}, as_json=json)
    return 0 if convergence.converged else 1


def _pairs(texts: list[str]) -> dict[str, str]:
    from allometry.errors import InputError

    pairs = {}
    for text in texts:
        left, equals, right = text.rpartition("=")
        if not (left and equals and right):
            raise InputError(f"{text!r} is not COLUMN=NAME", where="--alias")
        pairs[left] = right
    return pairs
