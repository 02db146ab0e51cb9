"""How good a predictive distribution was, once the runs are known."""

import numpy as np
import numpy.typing as npt

from allometry.criticism.fitted_runs import noise_log_density

Array = npt.NDArray[np.float64]


def crps(draws: Array, observed: Array) -> Array:
    """Continuous ranked probability score of draws (draw, point), shape (point,); lower is better.

    E|X - y| - E|X - X'| / 2 over the draws, in the unit of the draws (Gneiting and Raftery 2007,
    eq. 20); of a point mass it is the absolute error.
    """
    n = len(draws)
    ordered = np.sort(draws, axis=0)
    rank = np.arange(1, n + 1)[:, None]
    half_spread = ((2 * rank - n - 1) * ordered).sum(axis=0) / n**2
    return np.asarray(np.abs(draws - observed).mean(axis=0) - half_spread)


def covered(draws: Array, observed: Array, level: float) -> npt.NDArray[np.bool_]:
    """Whether each point lies in the equal-tailed interval of the draws (draw, point)."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.asarray((low <= observed) & (observed <= high))


def shares_if_right(draws: Array, level: float) -> Array:
    """Share of points covered as each draw (draw, point) in turn stands for what was observed.

    So many of the points a right forecast would cover, shape (draw,). Errors of one law share their
    sign, so a share over many points may be far from `level` however right the forecast is.
    """
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.asarray(((low <= draws) & (draws <= high)).mean(axis=1))


def honest_coverage(draws: Array, level: float) -> tuple[float, float]:
    """5 and 95 % quantiles of the share of points covered if the forecast is right."""
    q5, q95 = np.quantile(shares_if_right(draws, level), [0.05, 0.95])
    return float(q5), float(q95)


def log_score(log_mean: Array, sd: Array, observed: Array) -> Array:
    """Log density of observed log loss under the mixture over draws, (point,); higher is better.

    The noise's Student-t at location `log_mean` and scale `sd` (draw, point) each.
    """
    density = noise_log_density((observed - log_mean) / sd) - np.log(sd)
    top = density.max(axis=0)
    return np.asarray(top + np.log(np.exp(density - top).mean(axis=0)))


def width(draws: Array, level: float) -> Array:
    """Width of each point's equal-tailed interval, in the unit of the draws (draw, point)."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.asarray(high - low)


def normal_log_score(draws: Array, observed: Array) -> Array:
    """Log density of each observation under a normal with the draws' mean and spread.

    For predictions that are draws and nothing else: too few for a kernel estimate in the tails.
    """
    mean, sd = draws.mean(axis=0), draws.std(axis=0)
    return np.asarray(-0.5 * ((observed - mean) / sd) ** 2 - np.log(sd * np.sqrt(2 * np.pi)))


def relative_error(predicted: Array, observed: Array) -> Array:
    """Predicted over observed loss minus one, from their logs."""
    return np.asarray(np.expm1(predicted - observed))
