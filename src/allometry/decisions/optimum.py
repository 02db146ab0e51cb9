"""The compute optimum of a law with its discrepancy, draw by draw: what every decision rests on.

The discrepancy of a draw is its level at the budget, as `outlook.drifted` has it, and a tilt of the
valley around the law's own optimum there, which moves N*.
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from allometry.decisions.outlook import drifted, law_draws
from allometry.inference import Posterior
from allometry.inference.discrepancy_slope import SlopePath, path_budgets, slope_path
from allometry.inference.evaluate import LawDraws
from allometry.inference.iso_compute import compute_optimal
from allometry.inference.tilt import Tilt
from allometry.laws import Law

Draws = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

MOST_KEPT = 2**24
"""Numbers of optima that are kept for further questions, at most: 128 MiB."""

FEW_DRAWS = 50
"""Draws whose median is where a budget's valley lies: known well enough to take a slope there."""


def optimum(
    posterior: Posterior, group: Indices, flops: Draws, *, law: Law | None = None
) -> tuple[Draws, Draws, Draws]:
    """N*, D* and log loss there of the law with its discrepancy, each (draw, point).

    Parameters
    ----------
    posterior : Posterior
    group : ndarray of int, shape (point,)
    flops : ndarray, shape (point,) or (draw, point)
        Training budgets.
    law : Law, optional
        Instead of the posterior's, with the same coefficients: one that reads no further columns.
    """
    group, flops = np.asarray(group), np.asarray(flops, dtype=np.float64)
    if flops.ndim > 1 or 3 * posterior.n_draws * len(group) > MOST_KEPT:
        return _solve(posterior, group, flops, law)
    known = _known(posterior).optima
    points = [(int(g), float(f), law) for g, f in zip(group, flops, strict=True)]
    if 3 * posterior.n_draws * (len(known) + len(points)) > MOST_KEPT:
        known.clear()
    new = list(dict.fromkeys(point for point in points if point not in known))
    if new:
        groups, budgets = (np.array([point[i] for point in new]) for i in (0, 1))
        solved = np.stack(_solve(posterior, groups, budgets, law))  # [3, draw, point]
        known.update(zip(new, np.ascontiguousarray(np.moveaxis(solved, 2, 0)), strict=True))
    params, tokens, log_loss = np.stack([known[point] for point in points], axis=-1)
    return params, tokens, log_loss


def _solve(
    posterior: Posterior, group: Indices, flops: Draws, law: Law | None
) -> tuple[Draws, Draws, Draws]:
    tilt = tilt_at(posterior, group, flops, law=law)
    draws = _draws(posterior, group, law)
    params, tokens, log_loss = compute_optimal(
        draws, posterior.record.cost, group, flops, tilt=tilt
    )
    return params, tokens, drifted(posterior, group, flops, log_loss)


def off_optimum(
    posterior: Posterior,
    group: Indices,
    flops: Draws,
    params: Draws,
    log_loss: Draws,
    *,
    law: Law | None = None,
) -> Draws:
    """Log loss (draw, point) of the law with its discrepancy at other params of the budgets.

    `log_loss` is the law's; `params` has shape (point,) or (draw, point).
    """
    group, flops = np.asarray(group), np.asarray(flops, dtype=np.float64)
    if flops.ndim == 1 and (group == group[0]).all() and (flops == flops[0]).all():
        group, flops = group[:1], flops[:1]  # many sizes of one budget: the same for all of them
    tilt = tilt_at(posterior, group, flops, law=law)
    return drifted(posterior, group, flops, log_loss + tilt.at(np.log(params)))


def tilt_at(posterior: Posterior, group: Indices, flops: Draws, *, law: Law | None = None) -> Tilt:
    """What the discrepancy adds along the iso-compute curves of budgets, from its level there."""
    flops = np.asarray(flops, dtype=np.float64)
    slope = np.zeros((posterior.n_draws, len(group)))
    middle = np.zeros_like(flops)
    if posterior.record.drift.scale == 0:
        return Tilt(slope=slope, log_params=middle)
    for g in np.unique(group):
        mine = np.flatnonzero(np.asarray(group) == g)
        path = _path(posterior, int(g), law)
        slope[:, mine] = path.slopes_at(posterior, int(g), flops[..., mine])
        middle[..., mine] = path.log_params_at(flops[..., mine])
    return Tilt(slope=slope, log_params=middle)


def _draws(posterior: Posterior, group: Indices, law: Law | None) -> LawDraws:
    draws = law_draws(posterior, group)
    return draws if law is None else replace(draws, law=law)


def _path(posterior: Posterior, group: int, law: Law | None) -> SlopePath:
    known = _known(posterior).paths
    if (group, law) not in known:
        flops = path_budgets(posterior, group)
        many = np.full(len(flops), group)
        draws = _draws(posterior, many, law)
        few = np.linspace(0, posterior.n_draws - 1, FEW_DRAWS).astype(np.int64)
        draws = replace(draws, coefficients={n: c[few] for n, c in draws.coefficients.items()})
        params, _, _ = compute_optimal(draws, posterior.record.cost, many, flops)
        log_params = np.median(np.log(params), axis=0)
        known[group, law] = slope_path(posterior, group, flops, log_params)
    return known[group, law]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Known:
    """What has been found of a posterior, so that the same question is answered once.

    Attributes
    ----------
    paths : dict
        By group and law.
    optima : dict
        N*, D* and log loss, (3, draw), by group, budget and law.
    """

    paths: dict[tuple[int, Law | None], SlopePath] = field(default_factory=dict)
    optima: dict[tuple[int, float, Law | None], Draws] = field(default_factory=dict)


# Keyed by identity: a posterior is frozen. Few, so that no posterior is kept alive for long.
@lru_cache(maxsize=2)
def _known(posterior: Posterior) -> _Known:
    return _Known()
