"""What a choice of N costs when the truth is one of the posterior's draws: regret, and flat bands.

At a budget H the regret of N under a draw is L(N, D(N, H)) - min over N' of L(N', D(N', H)), with D
what H buys. Its mean over draws is what a choice is expected to lose; the N of least expected
regret is the choice that a planner wants, and need not be the median of N*.
"""

from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from allometry.accounting import CostModel
from allometry.decisions.asking import Which, ask, group_columns
from allometry.decisions.grids import Valley, band, least, valley
from allometry.decisions.outlook import reach_columns
from allometry.decisions.questions import Level, check_budgets, check_level, refuse_columns
from allometry.errors import InputError
from allometry.inference import Posterior, interval_columns

WITHIN = Level(value=0.1, percent=True)
"""Default of the flat band: a tenth of a percent of loss, less than two seeds differ by."""


def regret_curve(
    posterior: Posterior,
    flops: ArrayLike,
    *,
    params: ArrayLike | None = None,
    within: Level | float | str = WITHIN,
    cost: CostModel | None = None,
    **which: Unpack[Which],
) -> pd.DataFrame:
    """Regret of choosing a size at a budget, size by size.

    Parameters
    ----------
    posterior : Posterior
    flops : array-like
        Training budgets in FLOPs.
    params : array-like, optional
        Sizes to judge; by default a grid around the optimum.
    within : Level, float or str
        Loss above the best that counts as equal: ``0.005`` (in the unit of loss) or ``"0.1%"``.
    cost : CostModel, optional
        Instead of the posterior's own.
    which : Which
        Only these groups, or one that was never run: ``architecture, context_length, group, unseen,
        force``.

    Returns
    -------
    DataFrame
        One row a group, budget and size: group columns, ``unseen``, ``flops``, ``params``,
        ``tokens``, ``expected_regret`` (unit of loss), ``expected_regret_percent``, ``regret_*``,
        ``probability_within``, that the loss is within `within` of the best, and
        ``extrapolation_factor, distance_outside, reach``; see `reach_columns`.

    Raises
    ------
    NotConvergedError
        If the fit did not converge and `force` is not set.
    InputError
        If a budget, a size or the level is not positive, or no group is left.
    """
    level = check_level(within)
    sizes = None if params is None else check_budgets(params, where="params")
    frames = []
    for place, found in _valleys(posterior, flops, sizes, level, cost, which):
        frame = pd.DataFrame(
            {
                "params": found.params,
                "tokens": found.tokens,
                "expected_regret": found.regret.mean(axis=0),
                "expected_regret_percent": 100 * found.relative_regret.mean(axis=0),
                **interval_columns("regret", found.regret),
                "probability_within": (_curve(found, level) <= level.amount).mean(axis=0),
                **place.reach(found.params, found.tokens),
            }
        )
        frames.append(place.labels.merge(frame, how="cross"))
    return pd.concat(frames, ignore_index=True)


def least_regret(
    posterior: Posterior,
    flops: ArrayLike,
    *,
    within: Level | float | str = WITHIN,
    cost: CostModel | None = None,
    **which: Unpack[Which],
) -> pd.DataFrame:
    """The size of least expected regret at a budget, and the band of sizes that are as good.

    Parameters
    ----------
    posterior, flops, within, cost, which
        As in `regret_curve`.

    Returns
    -------
    DataFrame
        One row a group and budget: group columns, ``unseen``, ``flops``, ``params`` and ``tokens``
        of least expected regret, ``expected_regret``, ``expected_regret_percent``; ``band_low_*``
        and ``band_high_*``, between which the loss is within `within` of the best, draw by draw;
        ``safe_low``, ``safe_high``, between which the *expected* regret is within it (NaN if it is
        so nowhere); and ``extrapolation_factor, distance_outside, reach`` of that size.
    """
    level = check_level(within)
    rows = []
    for place, found in _valleys(posterior, flops, None, level, cost, which):
        log_n, curve = np.log(found.params), _curve(found, level)
        expected = found.regret.mean(axis=0)[None]
        best, lowest = least(expected, log_n)
        params = np.exp(best)
        tokens = np.exp(np.interp(best, log_n, np.log(found.tokens)))
        ends = band(curve, level.amount, log_n)
        safe = band(curve.mean(axis=0)[None], level.amount, log_n)
        percent = 100 * found.relative_regret.mean(axis=0)
        rows.append(
            place.labels.assign(
                params=params,
                tokens=tokens,
                expected_regret=np.maximum(lowest, 0.0),
                expected_regret_percent=np.interp(best, log_n, percent),
                **_columns("band_low", np.exp(ends[0])),
                **_columns("band_high", np.exp(ends[1])),
                safe_low=np.exp(safe[0]),
                safe_high=np.exp(safe[1]),
                **place.reach(params, tokens),
            )
        )
    return pd.concat(rows, ignore_index=True)


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """A group and a budget: labels (one row), and how far sizes there lie beyond the runs."""

    posterior: Posterior
    group: int
    flops: float

    @property
    def labels(self) -> pd.DataFrame:
        return group_columns(self.posterior, np.array([self.group])).assign(flops=self.flops)

    def reach(self, params: np.ndarray, tokens: np.ndarray) -> dict[str, Any]:
        many = np.full(len(params), self.group)
        flops = np.full(len(params), self.flops)
        return reach_columns(self.posterior, many, flops, params, tokens)


def _valleys(
    posterior: Posterior,
    flops: ArrayLike,
    sizes: np.ndarray | None,
    level: Level,
    cost: CostModel | None,
    which: Which,
) -> list[tuple[_Place, Valley]]:
    """The valley of every group and budget."""
    budgets = check_budgets(flops)
    refuse_columns(posterior)
    posterior, groups = ask(posterior, cost=cost, **which)
    # Four times the level in loss, whatever its unit: the band's ends are inside the grid.
    above = 4 * (level.amount if level.percent else level.amount / posterior.record.scale.loss)
    return [
        (
            _Place(posterior, group, float(budget)),
            valley(posterior, group, float(budget), params=sizes, above=above),
        )
        for group in groups
        for budget in budgets
    ]


def _curve(found: Valley, level: Level) -> np.ndarray:
    return found.relative_regret if level.percent else found.regret


def _columns(name: str, draws: np.ndarray) -> dict[str, np.ndarray]:
    if not np.isfinite(draws).all():
        hint = "Ask for a wider one, such as 0.01%."
        raise InputError("the level is finer than the grid of sizes", where="within", hint=hint)
    return {key: np.atleast_1d(value) for key, value in interval_columns(name, draws).items()}
