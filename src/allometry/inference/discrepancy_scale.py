r"""How large a study's discrepancy is, learned from the residuals of its own fitted runs.

Residuals are what a refit of the law would take up, plus the discrepancy, plus noise:

.. math:: e = X b + \delta + \varepsilon, \quad \delta \sim N(0, s^2 K), \quad
          \varepsilon \sim N(0, f V),

with X the law's slopes in its coefficients, K the correlation of the discrepancy and V the variance
that the fit found. The fit knew of no discrepancy, so its noise holds part of it, and f says what
is left. The restricted likelihood (Patterson and Thompson 1971) of s and f has b integrated out: a
law that bends towards its runs does not hide how far it is from the truth. It is taken on a grid.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from allometry.inference.drift import STUDIES_LOG_SD

Array = npt.NDArray[np.float64]

SCALES = np.exp(np.linspace(np.log(1 / 12), np.log(8.0), 33))
"""Scales over the prior's median that are tried."""

NOISES = np.exp(np.linspace(np.log(0.02), np.log(4.0), 21))
"""Shares of the fit's noise variance that are tried."""

NOISE_LOG_SD = 0.5
"""Beforehand the fit is right about its noise, within a factor of 1.6 in variance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyScale:
    """Scale of one study's discrepancy near its runs.

    Attributes
    ----------
    scale : float
        Median of the standard deviation of log loss.
    log_sd : float
        Standard deviation of its logarithm.
    noise : float
        Share of the fit's noise variance that is noise.
    """

    scale: float
    log_sd: float
    noise: float = 1.0


def prior_scale(scale: float, *, log_sd: float = STUDIES_LOG_SD) -> StudyScale:
    """Scale of a study that says nothing of its own."""
    return StudyScale(scale=scale, log_sd=log_sd)


def learn_scale(
    residual: Array,
    variance: Array,
    correlation: Array,
    slopes: Array,
    *,
    scale: float,
    log_sd: float = STUDIES_LOG_SD,
    spare: tuple[int, float] = (0, 0.0),
) -> StudyScale:
    """Posterior of the scale given residuals of log loss.

    Parameters
    ----------
    residual, variance : ndarray, shape (cell,)
        Averaged residuals, and their variance in the fit.
    correlation : ndarray, shape (cell, cell)
        Of the discrepancy between cells.
    slopes : ndarray, shape (cell, coefficient)
        Change of log loss with each coefficient of the law, of each group apart.
    scale, log_sd : float
        Median of the prior over studies, and its log sd.
    spare : (int, float)
        How many residuals the averages leave, and the sum of their squares over their variance:
        they tell the noise.
    """
    # Rotated and scaled so that every covariance on the grid is diagonal.
    root = 1.0 / np.sqrt(variance)
    spectrum, turn = np.linalg.eigh(correlation * root[:, None] * root)
    spectrum = np.maximum(spectrum, 0.0)
    y, x = turn.T @ (residual * root), turn.T @ (slopes * root[:, None])
    weak = np.eye(x.shape[1])  # coefficients are logs: a refit moves them by less than e
    count, squares = spare

    def log_likelihood(s: float, noise: float) -> float:
        diagonal = s**2 * spectrum + noise
        factor = np.linalg.cholesky((x.T / diagonal) @ x + weak)
        taken = np.linalg.solve(factor, (x.T / diagonal) @ y)
        left = (y**2 / diagonal).sum() - taken @ taken
        volume = np.log(diagonal).sum() + 2.0 * np.log(np.diag(factor)).sum()
        return float(-0.5 * (volume + left + count * np.log(noise) + squares / noise))

    tried = np.asarray([[log_likelihood(scale * s, noise) for noise in NOISES] for s in SCALES])
    tried -= 0.5 * (np.log(SCALES) / log_sd)[:, None] ** 2
    tried -= 0.5 * (np.log(NOISES) / NOISE_LOG_SD) ** 2
    weights = np.exp(tried - tried.max())
    weights /= weights.sum()
    logs = np.log(scale * SCALES)
    mean = weights.sum(axis=1) @ logs
    return StudyScale(
        scale=float(np.exp(mean)),
        log_sd=float(np.sqrt(weights.sum(axis=1) @ (logs - mean) ** 2)),
        noise=float(np.exp(weights.sum(axis=0) @ np.log(NOISES))),
    )
