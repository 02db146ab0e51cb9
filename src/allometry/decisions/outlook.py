"""Predicted losses with all that makes them uncertain: the law, its drift, and a run's noise."""

import numpy as np
import numpy.typing as npt

from allometry.inference import Posterior
from allometry.inference.drift import decades_beyond
from allometry.inference.evaluate import LawDraws, run_noise
from allometry.inference.model import STUDENT_DF

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
    """Log loss (draw, point) with the law's drift beyond the data; unchanged inside."""
    decades = decades_beyond(flops, posterior.largest_flops()[group])
    return np.asarray(log_loss + posterior.draws("drift")[:, group] * decades)


def with_noise(
    posterior: Posterior,
    group: npt.NDArray[np.int64],
    log_loss: Draws,
    imbalance: Draws,
    *,
    stream: int,
) -> Draws:
    """Log loss of a new run: `log_loss` (draw, point) plus the noise of one training run."""
    scale = run_noise(posterior.log_noise(group), posterior.draws("log_off_valley"), imbalance)
    rng = np.random.default_rng([posterior.record.seed, 7, stream])
    return np.asarray(log_loss + scale * rng.standard_t(STUDENT_DF, size=log_loss.shape))


def extrapolation_factor(posterior: Posterior, group: npt.NDArray[np.int64], flops: Draws) -> Draws:
    """Budget over the largest run of the group: above one is beyond the data."""
    return np.asarray(flops / posterior.largest_flops()[group])
