"""What is left of a discrepancy by laws that were imported, at ten times the largest budget."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from allometry.inference.discrepancy import discrepancy_at
from allometry.inference.import_report import ImportOutcome
from allometry.inference.worth import BEYOND

if TYPE_CHECKING:
    from allometry.inference.posterior import Posterior

TELLING = 0.95
"""Share of the whole discrepancy from which on nothing is said."""


def with_ranges_told(posterior: "Posterior") -> "Posterior":
    """The posterior, whose imports say how much of the discrepancy their laws leave."""
    record = posterior.record
    if not record.fitted_ranges or record.drift.scale == 0:
        return posterior
    whole = replace(posterior, record=replace(record, fitted_ranges=()))
    left, before = _ahead(posterior), _ahead(whole)
    if left > TELLING * before:
        return posterior
    imported = tuple(_told(one, left, before) for one in record.imported)
    return replace(posterior, record=replace(record, imported=imported))


def _ahead(posterior: "Posterior") -> float:
    """Standard deviation of the discrepancy of the largest run's group at ten times its budget."""
    known = posterior.idata["constant_data"]
    params, tokens = (known[name].to_numpy().astype(np.float64) for name in ("params", "tokens"))
    last = int(np.argmax(params * tokens))
    group = known["group_index"].to_numpy().astype(np.int64)[last : last + 1]
    step = np.sqrt(BEYOND)
    _, sd = discrepancy_at(posterior, group, step * params[[last]], step * tokens[[last]])
    return float(sd[0])


def _told(outcome: ImportOutcome, left: float, before: float) -> ImportOutcome:
    if "law" not in outcome.about:
        return outcome
    words = f"{outcome.words}; {discrepancy_words(left, before)}"
    return replace(outcome, left_discrepancy=(left, before), words=words)


def discrepancy_words(left: float, before: float) -> str:
    """How much a law leaves of a discrepancy, both as shares of loss.

    Examples
    --------
    >>> discrepancy_words(0.0083, 0.0171)
    'what such a law gets wrong at ten times the largest budget is 0.83 % of loss, not 1.7 %'
    """
    there = "what such a law gets wrong at ten times the largest budget"
    return f"{there} is {100 * left:.2g} % of loss, not {100 * before:.2g} %"
