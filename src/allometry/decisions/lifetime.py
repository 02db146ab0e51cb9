r"""Over-training: size and tokens of a model that will serve a known number of tokens.

A model of N params, trained on D tokens and serving S tokens, costs ``C(N, D) + S c_serve(N)``
FLOPs, with c_serve the forward FLOPs of a token. For each draw either this sum is least under
``L(N, D) = target`` or, at a fixed sum, the loss is. With S = 0 it is the compute optimum; serving
more makes the best model smaller and trained for longer.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.typing import ArrayLike

from allometry.decisions.asking import Which, ask, group_columns
from allometry.decisions.demand import (
    Floats,
    Plan,
    Serving,
    largest_served,
    searched_sizes,
    serve_all,
    serving_choice,
)
from allometry.decisions.grids import least
from allometry.decisions.optimum import off_optimum, optimum
from allometry.decisions.outlook import law_draws, reach_columns
from allometry.decisions.questions import check_budgets, refuse_columns
from allometry.errors import InputError
from allometry.inference import Posterior, interval_columns
from allometry.inference.evaluate import LawDraws, log_loss_at

Draws = npt.NDArray[np.float64]

COARSE, FINE, FEW_DRAWS = 65, 65, 200
TOKENS_PER_PARAM = (1e-2, 1e6)
"""Tokens a param that are searched for a target loss: beyond, it counts as out of reach."""

SCAN, HALVINGS = 33, 24
"""Points of the search for D, and halvings between two of them: to 1e-7 of log D."""

LEAST_SHARE, SHARES = 1e-5, 41
"""Shares of a fixed total that training is tried with, for the compute-optimal model within it."""


def lifetime(
    posterior: Posterior,
    served_tokens: ArrayLike,
    *,
    target_loss: float | None = None,
    total_flops: float | None = None,
    serving: Serving | None = None,
    serving_context: int | None = None,
    **which: Unpack[Which],
) -> pd.DataFrame:
    """Params and tokens that serve a lifetime's demand at the least FLOPs, or the least loss.

    Parameters
    ----------
    posterior : Posterior
    served_tokens : array-like
        Tokens read or written by the model over its life.
    target_loss : float, optional
        Loss to reach, in the posterior's unit, at the least FLOPs of training and serving.
    total_flops : float, optional
        Or: FLOPs of training and serving together, for the least loss.
    serving : {"decode", "2n"}, optional
        FLOPs of a served token: those of a decode step of the family's shape, from the accounting
        (default where the architecture and a context are known), or 2 N.
    serving_context : int, optional
        Tokens that a served token sees on average; by default half the group's context.
    which : Which
        Only these groups, or one that was never run.

    Returns
    -------
    DataFrame
        One row a group and demand: group columns, ``unseen``, ``served_tokens``, ``target_loss`` or
        ``total_flops``, ``serving``; ``params_*``, ``tokens_*``, ``tokens_per_param_*``;
        ``overtraining_*`` (tokens a param over those of the compute-optimal run of the same
        training FLOPs); ``training_flops_*``, ``total_flops_*`` or ``loss_*``;
        ``saving_percent_*`` (of the total, against the compute-optimal model of the same loss) or
        ``loss_gain_*`` (below the compute-optimal model of the same total, serving included);
        ``probability_reachable``; and ``extrapolation_factor, distance_outside, reach`` at the
        medians; see `reach_columns`. Intervals are of the draws that reach.

    Raises
    ------
    NotConvergedError, InputError
        As `allocate`; also unless exactly one of `target_loss` and `total_flops` is given.
    """
    demands = np.atleast_1d(np.asarray(served_tokens, dtype=np.float64)).ravel()
    if not len(demands) or not (np.isfinite(demands) & (demands >= 0)).all():
        raise InputError("must be zero or more and finite", where="served_tokens")
    if (target_loss is None) == (total_flops is None):
        hint = "Give a loss to reach, or FLOPs of training and serving together."
        what = "exactly one of target_loss and total_flops must be given"
        raise InputError(what, where="lifetime", hint=hint)
    check_budgets(target_loss or total_flops or 0.0, where="target_loss or total_flops")
    if serving_context is not None:
        check_budgets(serving_context, where="serving_context")
    refuse_columns(posterior)
    posterior, groups = ask(posterior, **which)
    rows = []
    for group in groups:
        how, context = serving_choice(posterior, group, serving, serving_context)
        for demand in demands:
            plan = Plan(
                group=group,
                served_tokens=float(demand),
                target_loss=target_loss,
                total_flops=total_flops,
                serving=how,
                serving_context=context,
            )
            rows.append(_row(posterior, plan))
    return pd.concat(rows, ignore_index=True)


def _row(posterior: Posterior, plan: Plan) -> pd.DataFrame:
    sizes = searched_sizes(posterior, COARSE)
    rough = _search(posterior.thinned(FEW_DRAWS), plan, sizes)
    near = rough.params[rough.reached]
    if plan.target_loss is not None:
        near = np.concatenate([near, rough.naive_params[rough.reached]])
    labels = group_columns(posterior, np.array([plan.group])).assign(
        served_tokens=plan.served_tokens
    )
    if plan.target_loss is not None:
        labels = labels.assign(target_loss=plan.target_loss, serving=plan.serving)
    else:
        labels = labels.assign(total_flops=plan.total_flops, serving=plan.serving)
    if not len(near):
        near = sizes
    largest = np.inf if plan.target_loss is not None else largest_served(posterior, plan)
    sizes = np.geomspace(near.min() / 3, min(near.max() * 3, largest), FINE)
    best = _search(posterior, plan, sizes)
    return labels.assign(**_columns(posterior, plan, best))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Best:
    """The best of each draw, and the compute-optimal model of the same loss or total, (draw,)."""

    params: Draws
    tokens: Draws
    objective: Draws
    naive_params: Draws
    naive_objective: Draws
    reached: npt.NDArray[np.bool_]


def _search(posterior: Posterior, plan: Plan, sizes: Floats) -> _Best:
    """The least of the objective over sizes: log total FLOPs, or log loss at a fixed total."""
    draws = law_draws(posterior, np.array([plan.group]))
    many = np.full(len(sizes), plan.group)
    per_token = np.asarray(posterior.record.cost.flops_per_token(many, sizes))
    serve = serve_all(posterior, plan, sizes)
    log_n = np.log(sizes)
    if plan.target_loss is not None:
        tokens = _tokens_for(posterior, plan, draws, sizes)
        objective, alone = np.log(per_token * tokens + serve), np.log(per_token * tokens)
        place, value = least(objective, log_n)
        chosen = np.exp(_at(place, log_n, np.log(tokens)))
        naive = least(alone, log_n)[0]
        naive_params, naive_objective = np.exp(naive), _at(naive, log_n, objective)
    else:
        total = plan.total_flops or 0.0
        left = np.maximum(total - serve, 0.0) / per_token
        objective = _log_loss(posterior, plan, draws, sizes, np.maximum(left, 1.0))
        objective = np.where(left > 1.0, objective, np.inf)
        place, value = least(objective, log_n)
        cost = posterior.record.cost.flops_per_token(np.full(len(place), plan.group), np.exp(place))
        chosen = (total - np.exp(np.interp(place, log_n, np.log(serve + 1e-300)))) / cost
        naive_params, naive_objective = _optimal_within(posterior, plan)
    return _Best(
        params=np.exp(place),
        tokens=np.asarray(chosen),
        objective=value,
        naive_params=naive_params,
        naive_objective=naive_objective,
        reached=np.isfinite(value),
    )


def _optimal_within(posterior: Posterior, plan: Plan) -> tuple[Draws, Draws]:
    """Params and log loss, (draw,), of the compute-optimal model that the total trains and serves.

    NaN and infinite where even the smallest budget tried leaves too little.
    """
    total = plan.total_flops or 0.0
    budgets = total * np.geomspace(LEAST_SHARE, 1.0, SHARES)
    many = np.full(SHARES, plan.group)
    params, _, log_loss = optimum(posterior, many, budgets)
    sizes = np.geomspace(params.min(), params.max() * (1 + 1e-9), COARSE)
    serve = np.interp(np.log(params), np.log(sizes), serve_all(posterior, plan, sizes))
    spent = np.log(budgets + serve)  # rises with the budget in every draw
    found = np.empty((2, len(params)))
    for i, (row, n, loss) in enumerate(zip(spent, params, log_loss, strict=True)):
        found[0, i] = np.exp(np.interp(np.log(total), row, np.log(n), left=np.nan))
        found[1, i] = np.interp(np.log(total), row, loss, left=np.inf)
    return found[0], found[1]


def _log_loss(
    posterior: Posterior,
    plan: Plan,
    draws: LawDraws,
    sizes: Floats,
    tokens: Draws,
) -> Draws:
    """Log loss with the discrepancy, (draw, point)."""
    many = np.full(len(sizes), plan.group)
    log_loss, _ = log_loss_at(draws, sizes, tokens)
    flops = np.asarray(posterior.record.cost.flops(many, sizes, tokens))
    return off_optimum(posterior, many, flops, sizes, log_loss)


def _tokens_for(posterior: Posterior, plan: Plan, draws: LawDraws, sizes: Floats) -> Draws:
    """Tokens at which each size first reaches the target loss, (draw, point); infinite if never."""
    target = np.log(plan.target_loss or 1.0)
    shape = (posterior.n_draws, len(sizes))
    low, high = np.full(shape, np.nan), np.full(shape, np.nan)
    scan = np.log(np.geomspace(*TOKENS_PER_PARAM, SCAN))
    for before, after in pairwise(scan):
        # The same tokens for all draws.
        reached = _log_loss(posterior, plan, draws, sizes, sizes * np.exp(after)) <= target
        new = reached & np.isnan(high)
        low, high = np.where(new, before, low), np.where(new, after, high)
        if not np.isnan(high).any():
            break
    known = ~np.isnan(high)
    low, high = np.nan_to_num(low), np.nan_to_num(high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        reached = _log_loss(posterior, plan, draws, sizes, sizes * np.exp(middle)) <= target
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return np.where(known, sizes * np.exp(high), np.inf)


def _at(place: Draws, log_x: Floats, values: Draws) -> Draws:
    """Rows of `values` (draw, point) at one place each: the parabola that `least` draws."""
    step = log_x[1] - log_x[0]
    position = np.clip((place - log_x[0]) / step, 0, len(log_x) - 1)
    middle = np.clip(np.round(position).astype(np.int64), 1, len(log_x) - 2)
    rows, t = np.arange(len(place)), position - middle
    before, here, after = (values[rows, middle + k] for k in (-1, 0, 1))
    with np.errstate(invalid="ignore"):
        between = here + t * (after - before) / 2 + t**2 * (after - 2 * here + before) / 2
    nearest = values[rows, np.round(position).astype(np.int64)]
    return np.asarray(np.where(np.isfinite(between), between, nearest))


def _columns(posterior: Posterior, plan: Plan, best: _Best) -> dict[str, Any]:
    keep = best.reached
    params, tokens = best.params[keep], best.tokens[keep]
    at = np.array([plan.group])
    many = np.full(len(params), plan.group)
    training = np.asarray(posterior.record.cost.flops(many, params, tokens))
    overtraining = np.full(0, np.nan)
    if len(params):
        spent = np.full((len(keep), 1), np.median(training))
        spent[keep, 0] = training
        n_best, d_best, _ = optimum(posterior, at, spent)
        overtraining = (tokens / params) / (d_best / n_best)[keep, 0]
        if plan.served_tokens == 0:
            overtraining = np.ones(len(params))  # by definition: but for the search's resolution
    found = {
        "params": params,
        "tokens": tokens,
        "tokens_per_param": tokens / params,
        "overtraining": overtraining,
        "training_flops": training,
    }
    if plan.target_loss is not None:
        found["total_flops"] = np.exp(best.objective[keep])
        found["saving_percent"] = -100 * np.expm1(best.objective[keep] - best.naive_objective[keep])
    else:
        found["loss"] = np.exp(best.objective[keep])
        found["loss_gain"] = np.exp(best.naive_objective[keep]) - found["loss"]
    columns: dict[str, Any] = {}
    for name, values in found.items():
        columns |= interval_columns(name, values if len(values) else np.full(1, np.nan))
    columns["probability_reachable"] = float(keep.mean())
    if not len(params):
        return columns | {"extrapolation_factor": np.nan, "distance_outside": np.nan, "reach": ""}
    medians = (np.median(values, keepdims=True) for values in (training, params, tokens))
    return columns | reach_columns(posterior, at, *medians)
