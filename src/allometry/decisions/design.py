"""Which runs to do next: those that are expected to make a decision's quantity better known.

The quantity and the outcomes of candidate runs vary together over the posterior's draws, and with
the law's discrepancy, which is smooth over compute and tokens a param and partly common to groups;
a run adds noise of its own, more off the valley. All this is taken as jointly Gaussian, so that the
worth of a run is known before it is made (`allometry.decisions.spending`), without fitting again.
"""

from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.accounting import CostModel
from allometry.decisions.aims import Aim, aim_at
from allometry.decisions.asking import Which, group_columns, wanted_labels
from allometry.decisions.candidates import Candidates, candidate_runs, listed_runs
from allometry.decisions.outlook import extrapolation_factor, law_draws, new_run_noise
from allometry.decisions.questions import check_budgets
from allometry.decisions.spending import Joint, spend
from allometry.errors import InputError
from allometry.inference import Posterior
from allometry.inference.discrepancy import discrepancy_between, study_scale
from allometry.inference.drift import far_square
from allometry.inference.evaluate import log_loss_at
from allometry.inference.model import STUDENT_DF

DRAWS = 2000
"""Draws that covariances are taken over, at most."""

TOLD_BY_STUDENT = (STUDENT_DF + 3.0) / (STUDENT_DF + 1.0)
"""Variance of normal noise that tells as much as Student-t noise of scale one (its information)."""

Floats = npt.NDArray[np.float64]


def design_runs(
    posterior: Posterior,
    budget: float,
    decision: str,
    *,
    at: float | None = None,
    between: tuple[str, str] | None = None,
    candidates: Mapping[str, Any] | pd.DataFrame | None = None,
    runs: int = 10,
    least_gain: float = 0.01,
    cost: CostModel | None = None,
    **which: Unpack[Which],
) -> pd.DataFrame:
    """Runs to do next for a decision, within a budget.

    Parameters
    ----------
    posterior : Posterior
    budget : float
        Training FLOPs of all further runs together.
    decision : {"size", "loss", "winner", "exponent"}
        What should be better known: log N* at a budget; the compute-optimal loss there; the
        difference of these losses between two architectures; the exponent of N* in compute.
    at : float, optional
        Training budget in FLOPs that the decision is about: of all but the exponent.
    between : tuple of two str, optional
        The two of a winner, by default the only two.
    candidates : mapping or DataFrame, optional
        Group columns that candidate runs must have, such as ``{"context_length": 2048}``; by
        default runs of every group are candidates. Or a table of the runs to choose from, each
        once, with ``params``, ``tokens`` and group columns.
    runs : int
        How many runs at most. One may be there twice, with another seed, unless it is of a table.
    least_gain : float
        Runs with less gain are not worth their row.
    cost : CostModel, optional
        Instead of the posterior's own.
    which : Which
        The one group that the decision is about, fitted or never run: ``architecture,
        context_length, group, unseen, force``.

    Returns
    -------
    DataFrame
        One row a run, in the order of choice: ``rank``, group columns, ``unseen``, ``params``,
        ``tokens``, ``flops``; ``gain``, the share of the quantity's present variance that this run
        is expected to take after those above it (gains add up); ``cumulative_flops``; ``sd_before``
        and ``sd_after``, of the quantity now and after this run and those above, in its unit (a
        size: e-folds; losses: the table's unit), with the law's discrepancy; for a size or a winner
        ``expected_regret_before`` and ``_after`` in the unit of loss; ``extrapolation_factor``. Its
        ``attrs["quantity"]`` says in words what the quantity is. No row if no run is worth it.

    Raises
    ------
    NotConvergedError
        If the fit did not converge and `force` is not set.
    InputError
        If the budget buys no run, the decision is unknown or lacks what it needs.
    """
    total = _check_budget(budget, runs, least_gain)
    few = posterior.thinned(DRAWS) if posterior.n_draws > 1.5 * DRAWS else posterior
    few, aim = aim_at(few, decision, at=at, between=between, cost=cost, **which)
    if isinstance(candidates, pd.DataFrame):
        possible = listed_runs(few, candidates, total)
    else:
        possible = candidate_runs(few, _groups(few, aim, candidates), total)
    joint = _joint(few, aim, possible)
    bought = spend(joint, total, most=runs, least=least_gain)
    before = float(joint.covariance[0, 0])
    chosen, left = bought.chosen, np.concatenate([[before], bought.left])
    index = possible.group[chosen]
    table = pd.concat(
        [
            pd.DataFrame({"rank": np.arange(1, len(chosen) + 1)}),
            group_columns(few, index),
            pd.DataFrame(
                {
                    "params": possible.params[chosen],
                    "tokens": possible.tokens[chosen],
                    "flops": possible.flops[chosen],
                    "gain": -np.diff(left) / before,
                    "cumulative_flops": possible.flops[chosen].cumsum(),
                    "sd_before": np.sqrt(before),
                    "sd_after": np.sqrt(left[1:]),
                }
            ),
        ],
        axis=1,
    )
    after = aim.expected_regret(float(np.sqrt(before)), np.sqrt(left))
    if after is not None:
        table = table.assign(expected_regret_before=after[0], expected_regret_after=after[1:])
    factor = extrapolation_factor(few, index, possible.flops[chosen])
    table = table.assign(extrapolation_factor=factor)
    table.attrs["quantity"] = aim.words
    return table


def _check_budget(budget: float, runs: int, least_gain: float) -> float:
    total = float(check_budgets([budget], where="budget")[0])
    if runs < 1:
        raise InputError(f"must be at least 1, got {runs}", where="runs")
    if not 0 < least_gain < 1:
        what = f"must be between 0 and 1, got {least_gain:g}"
        raise InputError(what, where="least gain", hint="It is a share: 0.01 is one percent.")
    return total


def _groups(posterior: Posterior, aim: Aim, candidates: Mapping[str, Any] | None) -> list[int]:
    """Groups whose runs are candidates, those of the decision first."""
    keep = np.ones(len(posterior.groups), dtype=bool)
    for name, value in wanted_labels(posterior, {"group": candidates}).items():
        keep &= (posterior.groups[name].astype(str) == str(value)).to_numpy()
    if not keep.any():
        known = "; ".join("/".join(map(str, r)) for r in posterior.groups.itertuples(index=False))
        raise InputError("no group is left", where="candidates", hint=f"There are {known}.")
    kept = np.flatnonzero(keep).tolist()
    return sorted(kept, key=lambda group: group not in aim.asked)


def _joint(posterior: Posterior, aim: Aim, possible: Candidates) -> Joint:
    """Covariance of the quantity and the candidates' log losses, and the noise of a run."""
    draws = law_draws(posterior, possible.group)
    log_loss, imbalance = log_loss_at(draws, possible.params, possible.tokens)
    both = np.column_stack([aim.draws, log_loss])
    covariance = np.cov(both.T) * _believed(posterior, covariance_of=both, group=possible.group)
    covariance += _discrepancy(posterior, aim, possible)
    noise = new_run_noise(posterior, possible.group, imbalance)
    return Joint(
        covariance=covariance,
        noise=TOLD_BY_STUDENT * (noise**2).mean(axis=0),
        cost=possible.flops,
        again=possible.again,
    )


def _believed(
    posterior: Posterior, *, covariance_of: Floats, group: npt.NDArray[np.int64]
) -> Floats:
    """Factors of a covariance over draws, near one where it is more than their number explains.

    Draws of unrelated quantities are correlated by chance, and the best of many candidates is
    the one that chance favours most. The correlations of a group's candidates with the quantity
    are shrunk as in Schäfer and Strimmer 2005, eq. 10: by the share of their sum of squares that
    chance explains. Covariances between groups follow, so that the whole stays a covariance.
    """
    ess = posterior.record.convergence.min_ess_bulk
    known = len(covariance_of) if not ess > 1 else min(len(covariance_of), ess)
    centred = covariance_of - covariance_of.mean(axis=0)
    norms = np.maximum(np.sqrt((centred**2).sum(axis=0)), 1e-300)
    squares = (centred[:, 0] @ centred[:, 1:] / norms[0] / norms[1:]) ** 2
    factor = np.ones(1 + len(group))
    for g in np.unique(group):
        mine = squares[group == g]
        chance = ((1.0 - mine) ** 2).sum() / known / max(mine.sum(), 1e-300)
        factor[1:][group == g] = 1.0 - min(chance, 1.0)
    label = np.concatenate([[-1], group])
    return np.where(label[:, None] == label, 1.0, np.outer(factor, factor))


def _discrepancy(posterior: Posterior, aim: Aim, possible: Candidates) -> Floats:
    """Its part of the covariance of the quantity and the candidates' log losses."""
    size = 1 + len(possible.group)
    if posterior.record.drift.scale == 0:
        return np.zeros((size, size))
    group = np.concatenate([aim.group, possible.group])
    between = discrepancy_between(
        posterior,
        posterior.alike()[group],
        np.concatenate([aim.params, possible.params]),
        np.concatenate([aim.tokens, possible.tokens]),
    )
    # A group that was never run has a discrepancy as small as that of the group it is alike to,
    # but not the same one.
    own = np.where(posterior.unseen[group], posterior.record.drift.shared, 1.0)
    between *= np.where(group[:, None] == group, 1.0, np.outer(own, own))
    between *= far_square(log_sd=study_scale(posterior).log_sd)
    points = len(aim.weight)
    found = np.zeros((size, size))
    found[1:, 1:] = between[points:, points:]
    found[0, 1:] = found[1:, 0] = aim.weight @ between[:points, points:]
    found[0, 0] = aim.weight @ between[:points, :points] @ aim.weight
    return found
