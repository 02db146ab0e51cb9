"""Importance resampling of proposals, with the word of whether their weights are to be believed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

MAX_PARETO_K = 0.7
"""Tail index of the weights above which no number of proposals makes up for what they miss."""

MIN_EFFECTIVE = 400.0
"""Proposals that must share the weight, as of a sampler's draws."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weighed:
    """Proposals resampled by smoothed importance weights.

    Attributes
    ----------
    x : ndarray, shape (draw, d)
        In sampling coordinates.
    k_hat : float
        Tail index of the weights.
    effective : float
        Effective number of proposals, one over the sum of squared weights.
    """

    x: Values
    k_hat: float
    effective: float

    @property
    def believed(self) -> bool:
        """Whether the draws stand for the posterior."""
        return self.k_hat <= MAX_PARETO_K and self.effective >= MIN_EFFECTIVE


def resample(x: Values, log_ratio: Values, *, draws: int, rng: np.random.Generator) -> Weighed:
    """Draws from proposals x (proposal, d) by target over proposal density, up to a constant."""
    finite = np.nan_to_num(log_ratio, nan=-np.inf)
    finite = finite - finite.max()
    weights, k_hat = smoothed_weights(finite)
    spaced = (np.arange(draws) + rng.random()) / draws  # systematic: no more noise than needed
    chosen = np.minimum(np.searchsorted(np.cumsum(weights), spaced), len(x) - 1)
    effective = float(1 / (weights**2).sum())
    return Weighed(x=x[rng.permutation(chosen)], k_hat=k_hat, effective=effective)


def smoothed_weights(log_ratio: Values) -> tuple[Values, float]:
    """Pareto-smoothed importance weights, which sum to one, and their tail index.

    ArviZ has the same, in a package that takes as long to import as a Laplace fit takes to run:
    tests hold these numbers to those.

    References
    ----------
    Vehtari et al. 2024, arXiv:1507.02646.
    """
    n = len(log_ratio)
    tail = int(min(n / 5, 3 * np.sqrt(n)))
    weights = np.exp(log_ratio - log_ratio.max())
    order = np.argsort(weights)
    largest, cut = order[-tail:], weights[order[-tail - 1]]
    with np.errstate(divide="ignore", invalid="ignore"):  # no tail: NaN, which nobody believes
        shape, scale = _generalised_pareto(weights[largest] - cut)
    if np.isfinite(shape) and scale > 0:
        probability = (np.arange(tail) + 0.5) / tail
        spread = -np.log1p(-probability)
        excess = scale * (spread if shape == 0 else np.expm1(shape * spread) / shape)
        weights[largest] = np.minimum(cut + excess, 1.0)
    return weights / weights.sum(), shape


def _generalised_pareto(excess: Values) -> tuple[float, float]:
    """Shape and scale of ascending exceedances, by the empirical Bayes estimate.

    The shape is drawn towards 0.5 as by ten exceedances more.

    References
    ----------
    Zhang and Stephens 2009, doi:10.1198/tech.2009.08017.
    """
    n = len(excess)
    grid = 30 + int(np.sqrt(n))
    b = 1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))
    b = b / (3 * excess[int(n / 4 + 0.5) - 1]) + 1 / excess[-1]
    shapes = np.log1p(-b[:, None] * excess).mean(axis=1)
    profile = n * (np.log(-b / shapes) - shapes - 1)
    likelihood = np.exp(profile - profile.max())
    likelihood /= likelihood.sum()
    likelihood[likelihood < 10 * np.finfo(float).eps] = 0.0
    mean = float(b @ likelihood / likelihood.sum())
    shape = float(np.log1p(-mean * excess).mean())
    return (n * shape + 5) / (n + 10), -shape / mean


def evaluated(x: Values, density: Callable[[Values], object], *, batch: int = 500) -> Values:
    """A compiled log density over many points, a batch in one call so that memory stays bounded.

    The last batch is filled up: every call has one shape, and compiles once.
    """
    short = -len(x) % batch
    full = np.concatenate([x, np.repeat(x[-1:], short, axis=0)])
    parts = [np.asarray(density(full[i : i + batch])) for i in range(0, len(full), batch)]
    return np.concatenate(parts)[: len(x)]
