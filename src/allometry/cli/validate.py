"""``allometry validate``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from allometry.cli.asking import Seed
from allometry.cli.pairs import parse_pairs

if TYPE_CHECKING:
    import pandas as pd


ROUGH = 1.05
"""R-hat of two short chains above which their scores are not to be relied on."""


def validate_command(
    runs: str | None = None,
    *,
    scorecard: bool = False,
    folder: Annotated[Path | None, Parameter(name=["--folder", "-o"])] = None,
    table: list[str] | None = None,
    holdout: str = "largest",
    law: list[str] | None = None,
    by: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    exclude: list[str] | None = None,
    alias: list[str] | None = None,
    method: Literal["laplace", "nuts"] = "laplace",
    bootstraps: int = 50,
    seed: Seed = 0,
    law_module: list[str] | None = None,
    json: bool = False,
) -> int:
    """Hide the largest runs, fit the others, and score the predictions of what was hidden.

    Beside it stands the practice on the same runs: the additive law by L-BFGS on a Huber loss, with
    bootstrap intervals. RMSE and CRPS are in percent of loss. Coverages should equal their levels
    over many cuts: errors of a law share their sign, so that one cut's 90 % intervals hold between
    `honest_90_low` and `honest_90_high` of its runs in nine of ten right forecasts.

    Parameters
    ----------
    runs
        CSV, Parquet or JSON lines with params, tokens and loss; or the name of a known table.
    scorecard
        Score every cutoff of the table, or of every known table, and the sizes that would have
        been recommended beside those of the parabola method and of approach 3.
    folder
        Where the scorecard keeps its fits (default ``scorecard``); given again, it goes on from
        there.
    table
        Further table of the scorecard, known or a file; repeatable. Default, without RUNS, all
        known ones that are on this machine.
    holdout
        ``largest``: each group's largest budget; ``every``: all runs above each of up to five
        budgets; or a condition such as ``flops>1e20``.
    law
        Law to fit; repeatable. Default pnorm.
    by
        Columns whose cells are groups; default architecture and context_length.
    exclude
        Rows to leave out, as a condition such as ``loss > 5``, or ``outliers``, or
        ``beaten`` (by a run of the same params and tokens), ``duplicates``; repeatable.
    alias
        A column to read as another: ``eval/loss=loss``; repeatable.
    method
        laplace (falls through to nuts where it would be wrong), or nuts: two chains, 300 draws.
    bootstraps
        Resampled tables that the practice is refitted to.
    seed
        Seed of everything random.
    law_module
        Python module to import first, which registers your own law.
    json
        Print one JSON document.
    """
    from allometry.errors import InputError

    if scorecard and (law or law_module or holdout != "largest"):
        hint = "It fits the default law at every cutoff; leave out --law, --law-module, --holdout."
        raise InputError("a scorecard chooses law and holdout itself", hint=hint)
    if table and not scorecard:
        raise InputError("--table is for --scorecard", hint="Give the table by itself.")
    if folder and not scorecard:
        hint = "Its answer is printed; --json prints all of it."
        raise InputError("--folder is for --scorecard", hint=hint)
    reading: dict[str, Any] = {
        "aliases": parse_pairs(alias, option="--alias"), "exclude": exclude or None, "by": by,
    }  # fmt: skip
    if scorecard:
        tables = [*([runs] if runs else []), *(table or [])]
        kept = folder or Path("scorecard")
        return _scorecard(kept, tables, method, bootstraps, seed, json, reading)
    if runs is None:
        hint = "Give a runs table, or --scorecard for all known ones."
        raise InputError("no runs to validate", hint=hint)
    from dataclasses import replace

    from allometry.cli.output import emit
    from allometry.cli.runtime import import_law, prepare_jax, stages
    from allometry.criticism import validate
    from allometry.criticism.validate import QUICK
    from allometry.observations import read_runs

    prepare_jax()
    for module in law_module or []:
        import_law(module)
    checked = read_runs(runs, **reading)
    with stages() as bar:
        scores = validate(
            checked,
            holdout=holdout,
            laws=tuple(law or ("pnorm",)),
            sampler=replace(QUICK, method=method),
            bootstraps=bootstraps,
            seed=seed,
            progress=bar,
        )
    emit(_nested(scores) if json else scores.drop(columns="baseline_name"), as_json=json)
    rough = scores.loc[scores["max_rhat"] > ROUGH, "max_rhat"]
    if len(rough):
        what = f"chains of a fit do not agree (R-hat {max(rough):.2f})"
        print(f"warning: {what}: its scores would change with the seed.", file=sys.stderr)
    return 0


def _scorecard(
    folder: Path,
    tables: list[str],
    method: Literal["laplace", "nuts"],
    bootstraps: int,
    seed: int,
    json: bool,
    reading: dict[str, Any],
) -> int:
    """Print the scorecard's two tables."""
    from dataclasses import replace

    from allometry.cli.output import emit
    from allometry.cli.output import stderr as console
    from allometry.cli.runtime import prepare_jax, stages
    from allometry.criticism.score_summary import regret_rows, score_rows
    from allometry.criticism.scorecard import scorecard
    from allometry.criticism.validate import QUICK

    prepare_jax()
    with stages() as bar:
        card = scorecard(
            folder,
            tables=tables or None,
            sampler=replace(QUICK, method=method),
            bootstraps=bootstraps,
            seed=seed,
            progress=bar,
            **reading,
        )
    scores, regrets = score_rows(card.runs), regret_rows(card.decisions)
    if json:
        parts = {"scores": scores.to_dict("records"), "regrets": regrets.to_dict("records")}
        emit(parts | {"cpu_seconds": card.cpu_seconds}, as_json=True)
        return 0
    emit(scores, as_json=False)
    emit(regrets, as_json=False)
    console.print(f"{card.cpu_seconds:.0f} CPU seconds of fits and baselines, kept in {folder}")
    return 0


def _nested(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Records with the baseline's scores in an object of their own."""
    documents = []
    for record in table.to_dict("records"):
        plain = {str(k): v for k, v in record.items() if not str(k).startswith("baseline_")}
        baseline = {
            str(k).removeprefix("baseline_"): v
            for k, v in record.items()
            if str(k).startswith("baseline_")
        }
        documents.append(plain | {"baseline": baseline})
    return documents
