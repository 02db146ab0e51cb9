r"""Which of many possible observations to buy with a budget, to know one quantity better.

The quantity q and the outcomes y of the candidates are taken as jointly Gaussian, so what an
outcome is expected to tell is known before it is seen: observing y_k takes

.. math:: \operatorname{Cov}(q, y_k)^2 / \operatorname{Var}(y_k)

from the variance of q, whatever y_k turns out to be, and changes all other covariances in the same
way. Observations are chosen one after the other. Greed for gain alone spends all on one large
observation, greed for gain per cost on many small ones, and either can be far from the best
selection (Krause and Guestrin 2005, Leskovec et al. 2007, who take the better of the two). Where
two observations tell more together than each alone, as those of both sides of a difference, the
first must leave money for the second. So several powers of the cost are tried, with several limits
on what one observation may cost, and the cheapest of the selections that are as good as the best is
taken.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the cost: a selection goes by gain over cost to this power."""

SHARES = (1.0, 0.5, 0.25)
"""Of the budget: what one observation of a selection may cost at most."""

AS_GOOD = 0.01
"""Selections whose variance left differs by less than this share of the present one are alike."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Joint:
    """Covariance of a quantity and of what candidates would measure, and the noise of doing so.

    Attributes
    ----------
    covariance : ndarray, shape (1 + candidate, 1 + candidate)
        Of the quantity (first) and the noiseless outcomes.
    noise : ndarray, shape (candidate,)
        Variance that an observation of each adds; positive. Two observations of one candidate
        share its outcome, not their noise.
    cost : ndarray, shape (candidate,)
        Positive.
    again : bool
        Whether a candidate may be observed more than once.
    """

    covariance: Floats
    noise: Floats
    cost: Floats
    again: bool = True


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Selection:
    """Candidates in the order of their choice.

    Attributes
    ----------
    chosen : ndarray of int, shape (step,)
        A candidate may come more than once, where it may be observed again.
    left : ndarray, shape (step,)
        Variance of the quantity given this observation and those before.
    """

    chosen: npt.NDArray[np.int64]
    left: Floats


def spend(joint: Joint, budget: float, *, most: int, least: float) -> Selection:
    """Observations to buy.

    Parameters
    ----------
    joint : Joint
    budget : float
        What all of them may cost together.
    most : int
        How many there may be.
    least : float
        Share of the present variance that each must be expected to take, at least.
    """
    prior = float(joint.covariance[0, 0])
    tried = [
        greedy(joint, budget, power=power, share=share, most=most, least=least)
        for share in SHARES
        for power in POWERS
    ]
    ends = np.array([selection.left[-1] if len(selection.left) else prior for selection in tried])
    costs = np.array([joint.cost[selection.chosen].sum() for selection in tried])
    good = ends <= ends.min() + AS_GOOD * prior
    return tried[int(np.where(good, costs, np.inf).argmin())]


def greedy(
    joint: Joint, budget: float, *, power: float, most: int, least: float, share: float = 1.0
) -> Selection:
    """One after the other, that of most gain over cost to a power which can still be paid.

    None costs more than `share` of the budget.
    """
    covariance, noise, cost = joint.covariance, joint.noise, joint.cost
    prior = left = float(covariance[0, 0])
    cross, variance = covariance[0, 1:].copy(), np.diag(covariance)[1:].copy()
    taken = np.empty((0, len(covariance)))  # rows u: the covariance has lost the sum of u u^T
    ceiling = share * budget
    free = np.ones(len(cost), dtype=bool)
    chosen: list[int] = []
    lefts: list[float] = []
    while len(chosen) < most:
        gain = cross**2 / (variance + noise)
        open_ = free & (cost <= min(budget, ceiling)) & (gain >= least * prior)
        if not open_.any():
            break
        k = int(np.where(open_, gain / cost**power, -np.inf).argmax())
        column = covariance[:, 1 + k] - taken.T @ taken[:, 1 + k]
        told = column / np.sqrt(variance[k] + noise[k])
        taken = np.vstack([taken, told])
        left -= float(told[0] ** 2)
        cross -= told[0] * told[1:]
        variance = np.maximum(variance - told[1:] ** 2, 0.0)
        budget -= float(cost[k])
        free[k] = joint.again
        chosen.append(k)
        lefts.append(left)
    return Selection(chosen=np.array(chosen, dtype=np.int64), left=np.array(lefts))
