"""What is wrong with a posterior and what to do about it, in sentences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from allometry.criticism.ppc import Statistic
from allometry.criticism.sensitivity import THRESHOLD
from allometry.inference import Convergence

SURPRISE = 0.01
"""Probability, over all checks together, below which a misfit is reported."""

LARGE_OFFSET = 0.25
"""Mean residual of a third of the runs, over a run's noise, from which on a misfit is grave."""

LARGE_SPREAD = 1.0
"""Surplus of runs outside their intervals from which on a misfit is grave: twice as many."""

LARGE_SKEW = 0.5
"""Surplus of far runs on one side, over all far runs, from which on a misfit is grave."""

_UNITS = {
    "params": "params",
    "tokens": "tokens",
    "tokens_per_param": "tokens per param",
    "flops": "compute",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing to know.

    Attributes
    ----------
    grave : bool
        Whether it speaks against using the posterior.
    about : str
        Name of the check.
    text : str
        What is wrong and what to do.
    """

    grave: bool
    about: str
    text: str


def findings(
    convergence: Convergence,
    statistics: Sequence[Statistic],
    bad_runs: Sequence[str],
    predicted: pd.DataFrame,
) -> list[Finding]:
    """Findings from all checks, grave ones first.

    Parameters
    ----------
    convergence : Convergence
    statistics : sequence of Statistic
    bad_runs : sequence of str
        Runs whose leave-one-out fails.
    predicted : DataFrame
        Prior sensitivity of the loss beyond the data, one row a group.
    """
    found = []
    if not convergence.converged:
        reasons, advice = "; ".join(convergence.reasons), "; ".join(convergence.advice)
        text = f"The fit did not converge ({reasons}): {advice}."
        found.append(Finding(grave=True, about="convergence", text=text))
    found += [_misfit(s) for s in surprising(statistics)]
    if bad_runs:
        found.append(_influential(bad_runs))
    if len(leaning := predicted[predicted["prior"] >= THRESHOLD]):
        found.append(_prior_bound(leaning))
    return sorted(found, key=lambda finding: not finding.grave)


def surprising(statistics: Sequence[Statistic]) -> list[Statistic]:
    """Checks whose p-value is small among so many (Holm's correction at `SURPRISE`)."""
    usable = sorted((s for s in statistics if not math.isnan(s.p)), key=lambda s: s.p)
    found = []
    for rank, statistic in enumerate(usable):
        if statistic.p * (len(usable) - rank) >= SURPRISE:
            break
        found.append(statistic)
    return found


def _misfit(s: Statistic) -> Finding:
    odds = f"p = {s.p:.2g}" if s.p >= 1e-6 else "p < 1e-6"
    if s.name == "worst_residual":
        return Finding(
            grave=False,
            about=s.name,
            text=f"Run {s.where} lies {s.percent:+.2f} % off the law ({odds}): look at it, and "
            "leave it out with --exclude if it failed; its weight in the fit is small.",
        )
    if s.name == "spread":
        share = 10 * (1 + s.effect)
        return Finding(
            grave=abs(s.effect) >= LARGE_SPREAD,
            about=s.name,
            text=f"{share:.0f} % of the runs lie outside their 90 % intervals ({odds}): the noise "
            "is not that of these runs; look for failed runs (--exclude outliers).",
        )
    if s.name == "skew":
        other = "below" if s.where == "above" else "above"
        return Finding(
            grave=abs(s.effect) >= LARGE_SKEW,
            about=s.name,
            text=f"Far runs lie {s.where} the law more often than {other} it ({odds}): runs that "
            "were trained badly, or a law that bends too little.",
        )
    if s.name == "group_spread":
        more = "more" if s.effect > 0 else "less"
        side = "narrow" if s.effect > 0 else "wide"
        return Finding(
            grave=abs(s.effect) >= LARGE_SPREAD,
            about=s.name,
            text=f"Runs of {s.where} scatter {more} than the others ({odds}; {100 * s.effect:+.0f} "
            f"% of runs beyond one standard deviation): its new-run intervals are too {side}. "
            "Fit it alone, or exclude its failed runs.",
        )
    side = "above" if s.effect > 0 else "below"
    place = f"group {s.where}" if s.name == "group" else f"the {s.where} {_UNITS[s.name]}"
    return Finding(
        grave=abs(s.effect) >= LARGE_OFFSET,
        about=s.name,
        # Plus zero: a median that rounds to zero is not below it.
        text=f"Runs with {place} lie {side} the law ({odds}; median "
        f"{round(s.percent, 2) + 0.0:+.2f} % of loss, mean {abs(s.effect):.2f} of a run's noise): "
        "the law has the wrong shape there. Try another --law, and see with allometry validate "
        "what it costs beyond the data.",
    )


def _influential(runs: Sequence[str]) -> Finding:
    shown = ", ".join(runs[:5]) + (f" and {len(runs) - 5} more" if len(runs) > 5 else "")
    text = f"The fit hangs on single runs ({shown}; Pareto-k above 0.7): check them."
    return Finding(grave=False, about="pareto_k", text=text)


def _prior_bound(leaning: pd.DataFrame) -> Finding:
    names = leaning["group"].tolist()
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return Finding(
        grave=False,
        about="prior_sensitivity",
        text=f"The loss at ten times the largest run moves with the prior in {shown}: the data "
        "leave it open. Add runs, pool groups, or give a prior that you can defend.",
    )
