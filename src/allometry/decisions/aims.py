"""What a decision hangs on: one number, draw by draw, and what choosing without it costs."""

from dataclasses import dataclass, field, replace
from typing import Literal, Unpack, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from allometry.accounting import CostModel
from allometry.decisions.allocation import growth_ranges
from allometry.decisions.asking import Which, ask
from allometry.decisions.comparison import pairs
from allometry.decisions.outlook import law_draws
from allometry.decisions.questions import check_budgets, refuse_columns
from allometry.errors import InputError
from allometry.inference import Posterior
from allometry.inference.discrepancy import discrepancy_along, spent_as_runs
from allometry.inference.discrepancy_slope import SIDE
from allometry.inference.evaluate import log_loss_at
from allometry.inference.iso_compute import compute_optimal
from allometry.inference.posterior import group_names
from allometry.observations.units import power_text

Decision = Literal["size", "loss", "winner", "exponent"]
DECISIONS: tuple[str, ...] = get_args(Decision)

FLATTEST = 1e-6
"""Least curvature of log loss that a valley is taken to have."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Aim:
    """A quantity that further runs should make better known.

    Attributes
    ----------
    words : str
        What it is.
    draws : ndarray, shape (draw,)
        Under the law; of a winner with the mean of its discrepancy.
    group : ndarray of int, shape (point,)
        Groups whose discrepancy it depends on.
    params, tokens, weight : ndarray, shape (point,)
        Where it does, and the change with the discrepancy of log loss there.
    asked : tuple of int
        Groups that the decision is about.
    curvature : float
        Of the loss in the quantity, where that is chosen (a size).
    chooses : bool
        Whether the sign of the quantity decides between two (a winner).
    """

    words: str
    draws: Floats
    asked: tuple[int, ...]
    group: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    params: Floats = field(default_factory=lambda: np.empty(0))
    tokens: Floats = field(default_factory=lambda: np.empty(0))
    weight: Floats = field(default_factory=lambda: np.empty(0))
    curvature: float | None = None
    chooses: bool = False

    def expected_regret(self, before: float, after: Floats) -> Floats | None:
        """Expected loss above that of the best choice, once the sd of `before` is `after`.

        Of a size: half the curvature times the variance, since a valley is a parabola near its
        bottom. Of a winner: the mean of a difference of variance s^2 will, after observations that
        leave s'^2, be what it is now plus a normal variable of variance s^2 - s'^2, and whoever has
        the better mean then is taken.
        """
        if self.curvature is not None:
            return np.asarray(0.5 * self.curvature * after**2)
        if self.chooses:
            gap, moved = abs(float(self.draws.mean())), np.sqrt(np.maximum(before**2 - after**2, 0))
            return _wrong_way(gap, np.asarray(before)) - _wrong_way(gap, moved)
        return None


def _wrong_way(gap: float, sd: Floats) -> Floats:
    """Mean of how far a normal variable of mean `gap` falls below zero."""
    z = np.minimum(gap / np.maximum(sd, 1e-300), 30.0)  # beyond, both terms are zero
    return np.asarray(sd * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) - gap * ndtr(-z))


def aim_at(
    posterior: Posterior,
    decision: str,
    *,
    at: float | None = None,
    between: tuple[str, str] | None = None,
    cost: CostModel | None = None,
    **which: Unpack[Which],
) -> tuple[Posterior, Aim]:
    """The quantity of a decision, and the posterior with the groups that it is about.

    Raises
    ------
    NotConvergedError
        If the fit did not converge and `force` is not set.
    InputError
        If there is no such decision, it lacks what it needs, or it is about several groups.
    """
    if decision not in DECISIONS:
        what = f"no decision is called {decision!r}"
        raise InputError(what, where="decision", hint=f"Decisions: {', '.join(DECISIONS)}.")
    refuse_columns(posterior)
    _check_needs(decision, at, between)
    if cost is not None:
        posterior = replace(posterior, record=replace(posterior.record, cost=cost))
    if decision == "winner":
        return _winner(posterior, _budget(at), between, which)
    posterior, groups = ask(posterior, **which)
    if len(groups) > 1:
        names = ", ".join(group_names(posterior)[g] for g in groups)
        hint = f"Name one by --architecture, --context-length or --group; there are {names}."
        raise InputError(f"{len(groups)} groups are asked at once", where="decision", hint=hint)
    if decision == "exponent":
        return posterior, _exponent(posterior, groups[0])
    found = {"size": _size, "loss": _loss}[decision]
    return posterior, found(posterior, groups[0], _budget(at))


def _check_needs(decision: str, at: float | None, between: tuple[str, str] | None) -> None:
    if decision != "exponent" and at is None:
        what, hint = "needs the budget that it is about", "Give it with --at, such as --at 1e22."
        raise InputError(what, where=f"decision {decision}", hint=hint)
    if decision == "exponent" and at is not None:
        what = "is not about one budget"
        raise InputError(what, where="decision exponent", hint="Leave --at out.")
    if decision != "winner" and between is not None:
        what = "does not compare two architectures"
        raise InputError(what, where=f"decision {decision}", hint="Leave --between out.")


def _budget(at: float | None) -> float:
    return float(check_budgets([] if at is None else [at], where="at")[0])


def _optimum(
    posterior: Posterior, index: npt.NDArray[np.int64], flops: float
) -> tuple[Floats, Floats]:
    """N* and the loss there at one budget, with the mean of the discrepancy, (draw, point)."""
    budgets = np.full(len(index), flops)
    best = compute_optimal(law_draws(posterior, index), posterior.record.cost, index, budgets)
    if posterior.record.drift.scale == 0:
        return best[0], np.exp(best[2])
    mean, _ = discrepancy_along(posterior, posterior.alike()[index], budgets)
    return best[0], np.exp(best[2] + mean)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Bottom:
    """The bottom of a valley: log N* by draw, and how the discrepancy moves it.

    Where log loss gets the discrepancy d, its minimum along the budget moves by minus the slope of
    d over the curvature of log loss: by ``weight`` times d at two sizes (point,).
    """

    log_params: Floats
    params: Floats
    tokens: Floats
    weight: Floats
    curvature: float


def _bottom(posterior: Posterior, group: int, flops: float) -> _Bottom:
    best, loss = _optimum(posterior, np.array([group]), flops)
    log_params = np.log(best[:, 0])
    params = np.exp(log_params.mean() + SIDE * np.array([-1.0, 0.0, 1.0]))
    index = np.full(3, group)
    tokens = np.asarray(posterior.record.cost.tokens_at(index, flops, params))
    log_loss = log_loss_at(law_draws(posterior, index), params, tokens)[0].mean(axis=0)
    curvature = max(float(log_loss[0] - 2 * log_loss[1] + log_loss[2]) / SIDE**2, FLATTEST)
    return _Bottom(
        log_params=log_params,
        params=params[[0, 2]],
        tokens=tokens[[0, 2]],
        weight=np.array([1.0, -1.0]) / (2 * SIDE * curvature),
        curvature=float(loss.mean()) * curvature,
    )


def _size(posterior: Posterior, group: int, flops: float) -> Aim:
    found = _bottom(posterior, group, flops)
    return Aim(
        words=f"log N* of {group_names(posterior)[group]} at {power_text(flops)} FLOPs",
        draws=found.log_params,
        asked=(group,),
        group=np.full(2, group),
        params=found.params,
        tokens=found.tokens,
        weight=found.weight,
        curvature=found.curvature,
    )


def _exponent(posterior: Posterior, group: int) -> Aim:
    low, high = (float(end[0]) for end in growth_ranges(posterior, np.array([group])))
    small, large = (_bottom(posterior, group, end) for end in (low, high))
    span = np.log(high / low)
    return Aim(
        words=f"params exponent of {group_names(posterior)[group]}",
        draws=(large.log_params - small.log_params) / span,
        asked=(group,),
        group=np.full(4, group),
        params=np.concatenate([small.params, large.params]),
        tokens=np.concatenate([small.tokens, large.tokens]),
        weight=np.concatenate([-small.weight, large.weight]) / span,
    )


def _loss(posterior: Posterior, group: int, flops: float) -> Aim:
    name = group_names(posterior)[group]
    words = f"loss of {name} at {power_text(flops)} FLOPs, compute-optimal"
    return _losses(posterior, np.array([group]), flops, np.ones(1), words)


def _winner(
    posterior: Posterior, flops: float, between: tuple[str, str] | None, which: Which
) -> tuple[Posterior, Aim]:
    known = list(posterior.groups.iloc[:, 0].astype(str).unique())
    if between is None and len(known) != 2:
        what = f"needs two to compare; the posterior has {', '.join(known)}"
        raise InputError(what, where="decision winner", hint="Name them: --between A B.")
    a, b = between or (known[0], known[1])
    posterior, rows, index_a, index_b = pairs(posterior, a, b, [flops], which)
    if len(rows) > 1:
        contexts = rows.iloc[:, 3:-1].astype(str).agg("/".join, axis=1)
        hint = f"Name one by --context-length or --group; there are {', '.join(contexts)}."
        raise InputError(f"{len(rows)} contexts are asked at once", where="decision", hint=hint)
    index = np.array([index_a[0], index_b[0]])
    words = " minus ".join(group_names(posterior)[g] for g in index)
    words = f"difference of loss, {words}, at {power_text(flops)} FLOPs"
    aim = _losses(posterior, index, flops, np.array([1.0, -1.0]), words)
    return posterior, replace(aim, chooses=True)


def _losses(
    posterior: Posterior, index: npt.NDArray[np.int64], flops: float, signs: Floats, words: str
) -> Aim:
    """A sum of compute-optimal losses with signs."""
    _, loss = _optimum(posterior, index, flops)
    alike = posterior.alike()[index]
    spent = [spent_as_runs(posterior, int(g), np.array([flops])) for g in alike]
    return Aim(
        words=words,
        draws=loss @ signs,
        asked=tuple(int(g) for g in index),
        group=index,
        params=np.array([float(params[0]) for params, _ in spent]),
        tokens=np.array([float(tokens[0]) for _, tokens in spent]),
        weight=signs * loss.mean(axis=0),
    )
