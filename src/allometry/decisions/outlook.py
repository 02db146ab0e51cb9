"""Predicted losses with what makes them uncertain: the law, its discrepancy, a run's noise."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from allometry.inference import Posterior
from allometry.inference.discrepancy import discrepancy_along, discrepancy_at, study_scale
from allometry.inference.drift import draw_far
from allometry.inference.evaluate import LawDraws, run_noise
from allometry.inference.model import STUDENT_DF
from allometry.inference.reach import distance_outside, reach_sentence

Draws = npt.NDArray[np.float64]


def law_draws(posterior: Posterior, group: npt.NDArray[np.int64]) -> LawDraws:
    """The posterior's law at points of given groups, shape (point,)."""
    scale = posterior.record.scale
    return LawDraws(
        law=posterior.law,
        coefficients=posterior.coefficients(group),
        log_reference=(np.log(scale.params), np.log(scale.tokens), np.log(scale.loss)),
    )


def drifted(
    posterior: Posterior, group: npt.NDArray[np.int64], flops: Draws, log_loss: Draws
) -> Draws:
    """Log loss (draw, point) of the law with its discrepancy at budgets (point,) or (draw, point).

    For questions about a budget; a discrepancy at given params and tokens is that of `drifted_at`.
    """
    found = discrepancy_along(posterior, posterior.alike()[group], flops)
    return _with_discrepancy(posterior, group, log_loss, *found)


def drifted_at(
    posterior: Posterior,
    group: npt.NDArray[np.int64],
    params: Draws,
    tokens: Draws,
    log_loss: Draws,
    columns: Mapping[str, Draws] | None = None,
) -> Draws:
    """Log loss (draw, point) of the law with its discrepancy at params and tokens (point,).

    `columns` are those that the law reads besides, (point,).
    """
    epochs = (columns or {}).get("epochs")
    found = discrepancy_at(posterior, posterior.alike()[group], params, tokens, epochs)
    return _with_discrepancy(posterior, group, log_loss, *found)


def _with_discrepancy(
    posterior: Posterior, group: npt.NDArray[np.int64], log_loss: Draws, mean: Draws, sd: Draws
) -> Draws:
    # How far off the level of a group that was never run may be is in its coefficients: within the
    # runs of the group that it is alike to, its discrepancy is as small as there.
    # One number a draw and group: the errors of a law share their sign along a group's budgets.
    scale = posterior.record.drift.scale
    if scale == 0:
        return np.asarray(log_loss)
    log_sd = study_scale(posterior).log_sd
    far = draw_far(log_sd=log_sd, draws=posterior.n_draws, seed=posterior.record.seed)
    drift = far[:, None] * posterior.draws("drift")[:, group] / scale
    return np.asarray(log_loss + (mean + sd * drift))


def with_noise(
    posterior: Posterior,
    group: npt.NDArray[np.int64],
    log_loss: Draws,
    imbalance: Draws,
    *,
    stream: int,
) -> Draws:
    """Log loss of a new run: `log_loss` (draw, point) plus the noise of one training run."""
    scale = new_run_noise(posterior, group, imbalance)
    rng = np.random.default_rng([posterior.record.seed, 7, stream])
    return np.asarray(log_loss + scale * rng.standard_t(STUDENT_DF, size=log_loss.shape))


def new_run_noise(posterior: Posterior, group: npt.NDArray[np.int64], imbalance: Draws) -> Draws:
    """Scale of a new run's log loss around the law with its discrepancy, (draw, point).

    The fit knew of no discrepancy, so what it took for noise holds part of it. A prediction that
    adds the discrepancy takes the share that is noise (`StudyScale.noise`): else it counts twice.
    """
    scale = run_noise(posterior.log_noise(group), posterior.draws("log_off_valley"), imbalance)
    if posterior.record.drift.scale == 0:
        return scale
    return np.asarray(scale * np.sqrt(study_scale(posterior).noise))


def extrapolation_factor(posterior: Posterior, group: npt.NDArray[np.int64], flops: Draws) -> Draws:
    """Budget over the largest run of the group: above one is beyond the data."""
    return np.asarray(flops / posterior.largest_flops()[group])


def reach_columns(
    posterior: Posterior,
    group: npt.NDArray[np.int64],
    flops: Draws,
    params: Draws,
    tokens: Draws,
) -> dict[str, Any]:
    """How far each point lies beyond its group's runs, as columns.

    ``extrapolation_factor``: its FLOPs over the group's largest run. ``distance_outside``: decades
    to the convex hull of the group's runs in (log10 N, log10 D), zero inside. ``reach``: the
    sentence that says what such a distance has meant in public studies.
    """
    factor = extrapolation_factor(posterior, group, flops)
    aside = distance_outside(posterior, group, params, tokens)
    return {
        "extrapolation_factor": factor,
        "distance_outside": aside,
        "reach": [
            reach_sentence(float(f), aside=float(a), unseen=bool(u))
            for f, a, u in zip(factor, aside, posterior.unseen[group], strict=True)
        ],
    }
