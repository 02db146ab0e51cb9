"""The bundled prior that a small study begins with, unless it is told otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from allometry.inference.fitted_range import Cells, place_of
from allometry.inference.import_report import ImportOutcome
from allometry.inference.importing import BoundPrior, ImportingStudy
from allometry.inference.range_report import discrepancy_words
from allometry.inference.worth import UNTOLD, worth_words
from allometry.laws import Law
from allometry.observations import Runs
from allometry.priors.library import library_prior
from allometry.priors.sources import shared_source
from allometry.priors.use import PriorUse

DEFAULT_PRIOR = "typical"
"""Of the library: the law of a language-model study, as public studies predict it."""

MOST_RUNS = 16
"""Runs up to which a study imports it: with 6 to 16 runs it predicts larger runs of public studies
that were left out better, by 28 to 7 % in the mean (``benchmarks/prior_worth.py``)."""

NEAR = 1.0
"""Decades of N D and of D / N from the runs of its studies within which half of a study's runs must
lie: of models far smaller than all of these it tells nothing that holds."""

TURN_OFF = "--no-library, or fit(library=False), leaves it out"


class LibraryPriorWarning(UserWarning):
    """A fit began with a prior of the library that nobody asked for."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LibraryUse:
    """A bundled prior that nobody asked for: as `PriorUse`, and it says why it is there."""

    use: PriorUse
    reason: str

    def bind(self, study: ImportingStudy) -> tuple[BoundPrior, ...]:
        """Its densities in terms of the study; see `PriorUse.bind`."""
        first, *others = self.use.bind(study)
        told = replace(first, notes=(self.reason, *first.notes))
        return tuple(replace(one, by_default=True) for one in (told, *others))


def choose_library(runs: Runs, law: Law) -> tuple[tuple[LibraryUse, ...], tuple[str, ...]]:
    """What a study imports by default, and notes on what it would have imported but for a reason.

    Nothing for more runs than `MOST_RUNS`, for another law than the library's, for a study that
    the prior was made from (that would count its runs twice), or for one far from all of these.
    """
    if len(runs.table) > MOST_RUNS:
        return (), ()
    file = library_prior(DEFAULT_PRIOR)
    if law.name != file.law:
        return (), ()
    if shared := shared_source(file, runs):
        return (), (f"the library's prior {file.name} is left out: {shared}",)
    if file.fitted_over and share_near(file.fitted_over, runs) < 0.5:
        why = "most of these runs lie more than a decade from all of its studies'"
        return (), (f"the library's prior {file.name} is left out: {why}",)
    reason = (
        f"{file.name}: imported by default, since {len(runs.table)} runs are few (at most "
        f"{MOST_RUNS}); {TURN_OFF}"
    )
    return (LibraryUse(use=PriorUse(file=file), reason=reason),), ()


def share_near(cells: Cells, runs: Runs) -> float:
    """Share of runs that lie within `NEAR` of the cells of studies."""
    params, tokens = (runs.table[n].to_numpy(dtype=np.float64) for n in ("params", "tokens"))
    place = place_of(params, tokens)
    away = np.abs(place[:, None] - np.asarray(cells)[None, :, :2]).max(axis=2)
    return float((away <= NEAR).any(axis=1).mean())


def library_line(outcomes: Sequence[ImportOutcome]) -> str:
    """One line on what became of the default import; empty if there was none."""
    imported = [outcome for outcome in outcomes if outcome.by_default]
    if not imported:
        return ""
    name = imported[0].names[0]
    parts = "; ".join(_fate(outcome) for outcome in imported)
    return f"library prior {name} imported, as the runs are few: {parts}; {TURN_OFF}"


def _fate(outcome: ImportOutcome) -> str:
    """What became of one part: its worth in runs, and what the runs left to the default prior."""
    worth = outcome.worth_runs
    fate = "used"
    if outcome.conflict:
        fate = "contradicted by the runs"
    elif worth is None and "law" in outcome.about:
        fate = f"used, {UNTOLD}"
    elif worth is not None:
        fate = f"worth {worth_words(worth)} more runs" if worth >= 1 else "worth less than one run"
    if outcome.left_discrepancy is not None and not outcome.conflict:
        fate += f", {discrepancy_words(*outcome.left_discrepancy)}"
    before, after = outcome.prior_weights[0], outcome.posterior_weights[0]
    weights = f"weight of the vague part {before:.2g} before and {after:.2g} after the runs"
    return f"{outcome.about} {fate} ({weights})"
