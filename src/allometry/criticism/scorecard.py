"""The scorecard: every registered table, cut at every cutoff, scored beside the practice.

Each case (a table and a cutoff) is fitted once and kept in a folder; what is there is not fitted
again, so that an interrupted scorecard goes on, and scores can be made anew from the same fits.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from allometry.criticism.baseline import HuberFit
from allometry.criticism.cutoffs import Split, splits
from allometry.criticism.decision_score import decision_scores
from allometry.criticism.validate import (
    BOOTSTRAPS,
    QUICK,
    fit_baselines,
    score_baseline,
    score_split,
)
from allometry.errors import InputError
from allometry.files import writing
from allometry.inference import Posterior, Sampler, fit
from allometry.observations import TABLES, read_runs
from allometry.observations.registry import locate

Stage = Callable[[str, int, int], None]

HOLDOUTS = ("largest", "every")
SIMULATED = ("synthetic",)
"""Tables whose losses are a law plus noise: shown, but not among the pooled figures."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Case:
    """One cut of one table.

    Attributes
    ----------
    table, holdout : str
        Name in the registry, or of a file without its ending; ``largest`` or ``every``.
    number : int
        Which of the holdout's cutoffs.
    law : str
        Law that is fitted: ``repetition`` where the table knows its unique tokens.
    by : tuple of str
        Group columns.
    split : Split
    """

    table: str
    holdout: str
    number: int
    law: str
    by: tuple[str, ...]
    split: Split

    @property
    def name(self) -> str:
        """Name of the case's files."""
        return f"{self.table}-{self.holdout}-{self.number}"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scorecard:
    """Scores of all cases.

    Attributes
    ----------
    runs : DataFrame
        One row a case and hidden run: ``table, holdout, number`` and the columns of `predictions`.
    decisions : DataFrame
        One row a case, group and held-out budget: the columns of `decision_scores`.
    cpu_seconds : float
        Processor time of all fits and baselines, those of earlier calls included.
    """

    runs: pd.DataFrame
    decisions: pd.DataFrame
    cpu_seconds: float


def tables_here() -> list[str]:
    """Registered runs tables whose files are on this machine."""
    return [n for n, entry in TABLES.items() if entry.kind == "runs" and locate(entry) is not None]


def cases(tables: Sequence[str], **reading: Any) -> list[Case]:
    """All cuts of the tables, each a name in the registry or a file.

    Parameters
    ----------
    tables : sequence of str
    **reading
        Options of `read_runs`, the same for all tables.

    Raises
    ------
    InputError
        If a table cannot be read, two of them have one name, or none can be cut.
    """
    named: dict[str, str] = {}
    for table in tables:
        name = table if table in TABLES else Path(table).stem
        if name in named:
            what = f"two tables are named {name}: {named[name]} and {table}"
            raise InputError(what, where="scorecard", hint="Give one of the files another name.")
        named[name] = table
    found = []
    for name, table in named.items():
        runs = read_runs(table, **reading)
        law = "repetition" if "unique_tokens" in runs.table else "pnorm"
        for holdout in HOLDOUTS:
            try:
                cut = splits(runs, holdout)
            except InputError:  # too small to be cut this way
                continue
            found += [
                Case(table=name, holdout=holdout, number=i, law=law, by=runs.by, split=split)
                for i, split in enumerate(cut)
            ]
    if not found:
        hint = "A table needs 20 runs or more and budgets to cut at."
        raise InputError("no table can be cut", where="scorecard", hint=hint)
    return found


def scorecard(
    folder: str | Path,
    *,
    tables: Sequence[str] | None = None,
    sampler: Sampler = QUICK,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
    progress: Stage | None = None,
    **reading: Any,
) -> Scorecard:
    """Fit, keep and score every case.

    Parameters
    ----------
    folder : path
        Where fits are kept: a posterior and a baseline a case. Remove it to fit anew.
    tables : sequence of str, optional
        Names in the registry, or files; default the registered ones on this machine.
    sampler, bootstraps, seed
        As in `validate`.
    progress : callable, optional
        Called with what is being done, steps done and steps in all.
    **reading
        Options of `read_runs`, the same for all tables.
    """
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"no folder for fits can be made: {error}"
        raise InputError(what, where=str(place), hint="Name another --folder.") from error
    chosen = list(tables) if tables else tables_here()
    todo = cases(chosen, **reading)
    runs, decisions, seconds = [], [], 0.0
    for number, case in enumerate(todo):
        if progress is not None:
            progress(f"{case.name}: {len(case.split.train.table)} runs", number, len(todo))
        baselines, spent = _baselines(case, place, bootstraps=bootstraps, seed=seed)
        posterior, more = _posterior(case, place, sampler=sampler, seed=seed)
        seconds += spent + more
        theirs = score_baseline(case.split, case.by, baselines, seed=seed)
        runs.append(score_split(case.split, posterior).join(theirs).pipe(_labelled, case))
        regrets = decision_scores(case.split, posterior, baselines)
        decisions.append(regrets.pipe(_labelled, case))
    return Scorecard(
        runs=pd.concat(runs, ignore_index=True),
        decisions=pd.concat(decisions, ignore_index=True),
        cpu_seconds=seconds,
    )


def _labelled(scores: pd.DataFrame, case: Case) -> pd.DataFrame:
    return scores.assign(
        table=case.table,
        holdout=case.holdout,
        number=case.number,
        cutoff_flops=case.split.cutoff_flops,
    )


def _posterior(case: Case, folder: Path, *, sampler: Sampler, seed: int) -> tuple[Posterior, float]:
    """The case's posterior, from its file if of the same runs, and its CPU seconds."""
    path = folder / f"{case.name}.nc"
    train = case.split.train
    if path.exists():
        kept = Posterior.load(path)
        same = kept.record.sha256 == train.sha256 and kept.record.law == case.law
        if same and kept.idata["observed_data"].sizes["run"] == len(train.table):
            return kept, float(kept.idata.attrs.get("cpu_seconds", np.nan))
    began = time.process_time()
    # Without the library: it is made of these very tables.
    posterior = fit(
        train, law=case.law, by=case.by or None, library=False, sampler=sampler, seed=seed
    )
    spent = time.process_time() - began
    posterior.idata.attrs["cpu_seconds"] = spent
    posterior.save(path)
    return posterior, spent


def _baselines(
    case: Case, folder: Path, *, bootstraps: int, seed: int
) -> tuple[dict[str, HuberFit], float]:
    """The practice's fit of each group, kept as JSON, and its CPU seconds."""
    path = folder / f"{case.name}.baseline.json"
    key = {"sha256": case.split.train.sha256, "bootstraps": bootstraps, "seed": seed,
           "runs": len(case.split.train.table)}  # fmt: skip
    if path.exists():
        document = json.loads(path.read_text())
        if document["key"] == key:
            return {n: HuberFit.from_json(d) for n, d in document["fits"].items()}, document["cpu"]
    began = time.process_time()
    fits = fit_baselines(case.split, case.by, bootstraps=bootstraps, seed=seed)
    spent = time.process_time() - began
    document = {"key": key, "cpu": spent, "fits": {n: f.to_json() for n, f in fits.items()}}
    with writing(path) as partial:
        partial.write_text(json.dumps(document))
    return fits, spent
