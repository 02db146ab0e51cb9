"""What a choice of N costs when the truth is one of the posterior's draws: regret, and flat bands.

At a budget H the regret of N under a draw is L(N, D(N, H)) - min over N' of L(N', D(N', H)), with D
what H buys. Its mean over draws is what a choice is expected to lose; the N of least expected
regret is the choice that a planner wants, and need not be the median of N*.
"""

from collections.abc import Iterator, Sequence
from typing import Unpack

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from allometry.accounting import CostModel
from allometry.decisions.asking import Which, ask, group_columns
from allometry.decisions.grids import POINTS, Valley, band, least, valley
from allometry.decisions.outlook import reach_columns
from allometry.decisions.questions import (
    Level,
    check_budgets,
    check_level,
    cross,
    refuse_columns,
)
from allometry.errors import InputError
from allometry.inference import Posterior, interval_columns

WITHIN = Level(value=0.1, percent=True)
"""Default of the flat band: a tenth of a percent of loss, less than two seeds differ by."""


GRIDS = ((POINTS, 0.98), (2 * POINTS, 1.0), (10 * POINTS, 1.0), (50 * POINTS, 1.0))
"""Points of grids for the ends of a band, and the share of draws whose optimum they hold.

The first is taken on which every draw keeps the level.
"""


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
    level, budgets = check_level(within), check_budgets(flops)
    sizes = None if params is None else check_budgets(params, where="params")
    refuse_columns(posterior)
    posterior, groups = ask(posterior, cost=cost, **which)
    frames = []
    for group, budget, found in _valleys(posterior, groups, budgets, level, sizes):
        relative, many = found.relative_regret, np.full(len(found.params), group)
        regret = found.in_loss(relative)
        share = relative if level.percent else regret
        flops_each = np.full(len(many), budget)
        frame = group_columns(posterior, many).assign(
            flops=flops_each,
            params=found.params,
            tokens=found.tokens,
            expected_regret=regret.mean(axis=0),
            expected_regret_percent=100 * relative.mean(axis=0),
            **interval_columns("regret", regret),
            probability_within=(share <= level.amount).mean(axis=0),
            **reach_columns(posterior, many, flops_each, found.params, found.tokens),
        )
        frames.append(frame)
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
    level, budgets = check_level(within), check_budgets(flops)
    refuse_columns(posterior)
    posterior, groups = ask(posterior, cost=cost, **which)
    labels, index, spent = cross(posterior, groups, budgets)
    found = pd.DataFrame(
        [
            _flat_band(_fine_valley(posterior, group, budget, level), level)
            for group in groups
            for budget in map(float, budgets)
        ]
    )
    sizes = (found[name].to_numpy() for name in ("params", "tokens"))
    reach = pd.DataFrame(reach_columns(posterior, index, spent, *sizes))
    return pd.concat([labels.assign(flops=spent), found, reach], axis=1)


def _flat_band(found: Valley, level: Level) -> dict[str, float]:
    """Columns of `least_regret` that a valley tells."""
    log_n, relative = np.log(found.params), found.relative_regret
    regret = found.in_loss(relative)
    curve = relative if level.percent else regret
    best, lowest = (float(x[0]) for x in least(regret.mean(axis=0)[None], log_n))
    ends = band(curve, level.amount, log_n)
    safe = band(curve.mean(axis=0)[None], level.amount, log_n)
    return {
        "params": np.exp(best),
        "tokens": float(np.exp(np.interp(best, log_n, np.log(found.tokens)))),
        "expected_regret": max(lowest, 0.0),
        "expected_regret_percent": float(np.interp(best, log_n, 100 * relative.mean(axis=0))),
        **interval_columns("band_low", np.exp(ends[0])),
        **interval_columns("band_high", np.exp(ends[1])),
        "safe_low": float(np.exp(safe[0][0])),
        "safe_high": float(np.exp(safe[1][0])),
    }


def _valleys(
    posterior: Posterior,
    groups: Sequence[int],
    budgets: np.ndarray,
    level: Level,
    sizes: np.ndarray | None = None,
) -> Iterator[tuple[int, float, Valley]]:
    """Each group and budget with its valley, one after the other: together they fill a memory."""
    above = _above(posterior, level)
    for group in groups:
        for budget in map(float, budgets):
            yield group, budget, valley(posterior, group, budget, params=sizes, above=above)


def _above(posterior: Posterior, level: Level) -> float:
    """Four times the level in loss, whatever its unit: the band's ends are inside the grid."""
    return 4 * (level.amount if level.percent else level.amount / posterior.record.scale.loss)


def _fine_valley(posterior: Posterior, group: int, budget: float, level: Level) -> Valley:
    """A valley in which every draw has sizes within the level of its best."""
    above = _above(posterior, level)
    for points, share in GRIDS:
        found = valley(posterior, group, budget, above=above, points=points, share=share)
        relative = found.relative_regret
        lowest = (relative if level.percent else found.in_loss(relative)).min(axis=1)
        if (lowest <= level.amount).all():
            return found
    need = float(lowest.max())
    need = 2 * (100 * need if level.percent else need)
    wider = f"{float(f'{need:.1g}'):g}{'%' if level.percent else ''}"
    hint = f"Ask for a wider one, such as {wider}."
    raise InputError("the level is finer than the grid of sizes", where="within", hint=hint)
