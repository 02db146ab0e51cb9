"""Compute-optimal params and tokens, and how they grow."""

from typing import Unpack

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from allometry.accounting import CostModel
from allometry.decisions.asking import Which, ask, group_columns
from allometry.decisions.optimum import optimum
from allometry.decisions.outlook import law_draws, reach_columns, with_noise
from allometry.decisions.questions import check_budgets, cross, refuse_columns
from allometry.errors import InputError
from allometry.inference import Posterior, interval_columns
from allometry.inference.evaluate import log_loss_at


def allocate(
    posterior: Posterior,
    flops: ArrayLike,
    *,
    cost: CostModel | None = None,
    **which: Unpack[Which],
) -> pd.DataFrame:
    """Compute-optimal params and tokens for training budgets.

    For each draw the loss of the group's law with its discrepancy is minimised along the group's
    true iso-compute curve C(N, D) = flops, so that intervals carry the uncertainty of every
    coefficient and of the law itself.

    Parameters
    ----------
    posterior : Posterior
    flops : array-like
        Training budgets in FLOPs.
    cost : CostModel, optional
        Instead of the posterior's own.
    which : Which
        Only these groups, or one that was never run: ``architecture, context_length, group, unseen,
        force``.

    Returns
    -------
    DataFrame
        One row a group and budget: group columns, ``unseen``, ``flops``, ``params_*``,
        ``tokens_*``, ``tokens_per_param_*``, ``loss_*`` (the law with its discrepancy),
        ``run_loss_*`` (a new run) and ``extrapolation_factor, distance_outside, reach`` of the
        medians; see `reach_columns`.

    Raises
    ------
    NotConvergedError
        If the fit did not converge and `force` is not set.
    InputError
        If a budget is not positive, or no group is left.
    """
    budgets = check_budgets(flops)
    refuse_columns(posterior)
    posterior, groups = ask(posterior, cost=cost, **which)
    labels, index, budgets = cross(posterior, groups, budgets)
    params, tokens, log_loss = optimum(posterior, index, budgets)
    # With a true C(N, D) the optimum is not quite where the returns on N and D are equal.
    _, imbalance = log_loss_at(law_draws(posterior, index), params, tokens)
    run = with_noise(posterior, index, log_loss, imbalance, stream=0)
    middle = (np.exp(np.median(np.log(x), axis=0)) for x in (params, tokens))
    return labels.assign(
        flops=budgets,
        **interval_columns("params", params),
        **interval_columns("tokens", tokens),
        **interval_columns("tokens_per_param", tokens / params),
        **interval_columns("loss", np.exp(log_loss)),
        **interval_columns("run_loss", np.exp(run)),
        **reach_columns(posterior, index, budgets, *middle),
    )


def growth_law(
    posterior: Posterior,
    *,
    flops_low: float | None = None,
    flops_high: float | None = None,
    cost: CostModel | None = None,
    **which: Unpack[Which],
) -> pd.DataFrame:
    """Growth law of each group: N* and D* as powers of compute.

    The exponents are the slopes of log N* and log D* in log C between two budgets, by default the
    smallest and the largest run of the group, or of its architecture's groups if it was never run.
    With a true C(N, D) they need not add to one.

    Parameters
    ----------
    posterior : Posterior
    flops_low, flops_high : float, optional
        Ends of the range in FLOPs.
    cost, which
        As in `allocate`.

    Returns
    -------
    DataFrame
        One row a group: group columns, ``unseen``, ``params_exponent_*``, ``tokens_exponent_*``,
        and the range ``flops_low``, ``flops_high``.
    """
    refuse_columns(posterior)
    posterior, groups = ask(posterior, cost=cost, **which)
    index = np.asarray(groups, dtype=np.int64)
    low, high = growth_ranges(posterior, index, flops_low, flops_high)
    n_low, d_low, _ = optimum(posterior, index, low)
    n_high, d_high, _ = optimum(posterior, index, high)
    span = np.log(high / low)
    return group_columns(posterior, index).assign(
        **interval_columns("params_exponent", np.log(n_high / n_low) / span),
        **interval_columns("tokens_exponent", np.log(d_high / d_low) / span),
        flops_low=low,
        flops_high=high,
    )


def growth_ranges(
    posterior: Posterior,
    index: np.ndarray,
    flops_low: float | None = None,
    flops_high: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Budgets between which a growth law's slope is taken, (group,) each."""
    for name, value in (("flops_low", flops_low), ("flops_high", flops_high)):
        if value is not None:
            check_budgets(value, where=name)
    smallest, largest = posterior.smallest_flops()[index], posterior.largest_flops()[index]
    low = np.full(len(index), flops_low) if flops_low else smallest
    high = np.full(len(index), flops_high) if flops_high else largest
    high = np.where(high > 1.01 * low, high, 10 * low)  # one budget: the slope just above it
    if not ((low > 0) & np.isfinite(high)).all():
        raise InputError(f"range {flops_low} to {flops_high} FLOPs is not one", where="growth law")
    return low, high
