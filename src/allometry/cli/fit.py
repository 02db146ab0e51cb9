"""``allometry fit``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from allometry.cli.asking import POSTERIOR_FORMATS, Seed, check_output
from allometry.cli.pairs import parse_pairs

if TYPE_CHECKING:
    from allometry.inference import Posterior
    from allometry.inference.record import Record


def fit_command(
    runs: str,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    law: str = "pnorm",
    by: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    prior: list[str] | None = None,
    library: bool = True,
    prior_vague: Annotated[float | None, Parameter(validator=Number(gte=0, lt=1))] = None,
    prior_parts: Annotated[
        list[Literal["law", "noise", "drift"]] | None, Parameter(consume_multiple=True)
    ] = None,
    prior_level: bool = False,
    bytes_per_token: Annotated[float | None, Parameter(validator=Number(gt=0, lte=1000))] = None,
    exclude: list[str] | None = None,
    alias: list[str] | None = None,
    cost: Literal["auto", "accounting", "table", "6nd"] = "auto",
    method: Literal["nuts", "laplace", "svi"] = "nuts",
    noise: Literal["valley", "constant"] = "valley",
    holdout: Literal["largest"] | None = None,
    chains: int = 4,
    draws: int = 400,
    warmup: int = 200,
    target: float = 0.9,
    seed: Seed = 0,
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
    prior
        Prior of another study: a file that ``allometry prior export`` wrote, or a name that
        ``allometry prior list`` shows; repeatable. Runs that contradict it set it aside.
        ``typical:law``, ``ours.json:noise``: a part of it alone (see --prior-parts).
    library
        Begin with the bundled prior of a typical language-model law (``prior show typical``) where
        runs are few and no other prior is given. It is said when it is used; --no-library: never.
    prior_vague
        Prior weight of the default prior beside the imported ones, 0 to below 1; default 0.2.
    prior_parts
        What of those that do not say so themselves is used: law, noise, drift; default all.
    prior_level
        Use the absolute level of their loss too: for the same corpus and tokenizer only.
    bytes_per_token
        Of this study's tokenizer, to convert priors of another one.
    exclude
        Rows to leave out, as a condition such as ``loss > 5``, or ``outliers``, or
        ``beaten`` (by a run of the same params and tokens), ``duplicates``; repeatable.
    alias
        A column to read as another: ``eval/loss=loss``; repeatable.
    cost
        Where FLOPs of unseen runs come from: shapes, the table's own flops, or 6 N D.
    method
        nuts; laplace (a second for one group, minutes for 100,000 runs); or svi, a fitted Gaussian.
        Both are weighed by the posterior and fall through to nuts where they do not stand for it.
    noise
        valley: runs far from the compute-optimal line scatter more; constant: all alike.
    holdout
        ``largest``: leave out each group's largest budget, to validate on it.
    chains
        Markov chains.
    draws
        Kept draws of each chain. Chains go on, up to five times as long (twenty times for one
        group of at most 64 runs), while R-hat or the effective draws fall short.
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
    import warnings
    from dataclasses import replace

    from allometry.cli.output import emit
    from allometry.cli.runtime import import_law, prepare_jax, stages
    from allometry.inference import (
        NO_OFF_VALLEY,
        Sampler,
        default_priors,
        fit,
    )
    from allometry.inference.holdout import without_largest
    from allometry.laws import get_law
    from allometry.observations import read_runs
    from allometry.priors import LibraryPriorWarning, PriorUse, find_prior
    from allometry.priors.sources import shared_source
    from allometry.priors.use import PARTS, VAGUE, name_and_parts

    check_output(output, POSTERIOR_FORMATS)
    if not prior:
        _require_no(
            {
                "--prior-vague": prior_vague is not None,
                "--prior-parts": bool(prior_parts),
                "--prior-level": prior_level,
                "--bytes-per-token": bytes_per_token is not None,
            }
        )
    prepare_jax()
    for module in law_module or []:
        import_law(module)
    priors = None
    if noise == "constant":
        priors = replace(default_priors(get_law(law)), off_valley=NO_OFF_VALLEY)
    wanted = [name_and_parts(text, tuple(prior_parts or PARTS)) for text in prior or []]
    imported = [
        PriorUse(
            file=find_prior(name),
            vague=VAGUE if prior_vague is None else prior_vague,
            parts=parts,
            level=prior_level,
            bytes_per_token=bytes_per_token,
        )
        for name, parts in wanted
    ]
    sampler = Sampler(method=method, chains=chains, draws=draws, warmup=warmup, target=target)
    checked = read_runs(
        runs, aliases=parse_pairs(alias, option="--alias"), exclude=exclude or None, by=by
    )
    if holdout == "largest":
        checked = without_largest(checked, by=by)
    with stages() as bar, warnings.catch_warnings():
        warnings.simplefilter("ignore", LibraryPriorWarning)  # told below, in one line
        posterior = fit(
            checked,
            law=law,
            by=by,
            priors=priors,
            prior=imported,
            library=library,
            cost=cost,
            sampler=sampler,
            seed=seed,
            progress=bar,
        )
    asked: dict[str, Any] = {
        "noise": noise,
        "exclude": exclude or [],
        "alias": alias or [],
        "holdout": holdout,
        "law_module": law_module or [],
    }
    if prior:
        asked |= {
            "prior": [Path(name).name for name, _ in wanted],
            "prior_vague": imported[0].vague,
            "prior_parts": [list(parts) for _, parts in wanted],
            "prior_level": prior_level,
            "bytes_per_token": bytes_per_token,
        }
    twice = [
        f"prior {use.file.name}: {shared}: runs that both have count twice"
        for use in imported
        if (shared := shared_source(use.file, checked))
    ]
    record = replace(
        posterior.record,
        settings=posterior.record.settings | asked,
        warnings=(*posterior.record.warnings, *twice),
    )
    posterior = replace(posterior, record=record)
    posterior.save(output)
    _tell_outcome(record, own_prior=bool(prior))
    answer = {"posterior": str(output)} | _answer(posterior)
    short = {
        "excluded": len(record.excluded),
        "imported": [outcome.words for outcome in record.imported],
    }
    emit(answer | ({"settings": record.settings} if json else short), as_json=json)
    return 0 if record.convergence.converged else 1


def _tell_outcome(record: "Record", *, own_prior: bool) -> None:
    """Print on stderr what stands but may surprise, and a verdict that is a no."""
    from allometry.cli.output import stderr
    from allometry.priors import library_line

    for warning in record.warnings:
        stderr.print(f"warning: {warning}", markup=False, highlight=False)
    if line := library_line(record.imported):
        stderr.print(line, markup=False, highlight=False, soft_wrap=True)
    for outcome in record.imported if own_prior else ():
        for line in (*outcome.notes, outcome.words):
            stderr.print(line, markup=False, highlight=False)
    convergence = record.convergence
    if not convergence.converged:
        reasons, advice = "; ".join(convergence.reasons), "; ".join(convergence.advice)
        stderr.print(f"not converged: {reasons}\nhint: {advice}", markup=False, highlight=False)


def _answer(posterior: "Posterior") -> dict[str, Any]:
    """What a fit came to, as JSON types."""
    from dataclasses import asdict

    from allometry.inference import group_names

    record, convergence = posterior.record, posterior.record.convergence
    return {
        "law": record.law,
        "method": record.method,
        "runs": posterior.idata["constant_data"].sizes["run"],
        "excluded": [{"row": e["row"], "reason": e["reason"]} for e in record.excluded],
        "warnings": list(record.warnings),
        "groups": list(group_names(posterior)),
        "imported": [asdict(outcome) for outcome in record.imported],
        "converged": convergence.converged,
        "diagnostics": {
            "divergences": convergence.divergences,
            "max_rhat": convergence.max_rhat,
            "min_ess_bulk": convergence.min_ess_bulk,
            "min_ess_tail": convergence.min_ess_tail,
            "seconds": convergence.seconds,
        },
    }


def _require_no(given: dict[str, bool]) -> None:
    """Refuse options of an imported prior where there is none."""
    from allometry.errors import InputError

    if idle := [option for option, is_there in given.items() if is_there]:
        what = "says how to use the prior of another study, and none is given"
        hint = "Add --prior FILE, or the name of one that allometry prior list shows."
        raise InputError(what, where=", ".join(idle), hint=hint)
