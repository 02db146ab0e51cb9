"""Importance resampling of proposals, with the word of whether their weights are to be believed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from allometry.inference.statistics import array_stats

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
    # arviz-stats takes the negative log ratio.
    log_weights, k_hat = array_stats().psislw(-finite)
    weights = np.exp(np.asarray(log_weights))
    weights /= weights.sum()
    spaced = (np.arange(draws) + rng.random()) / draws  # systematic: no more noise than needed
    chosen = np.minimum(np.searchsorted(np.cumsum(weights), spaced), len(x) - 1)
    effective = float(1 / (weights**2).sum())
    return Weighed(x=x[rng.permutation(chosen)], k_hat=float(k_hat), effective=effective)


def evaluated(x: Values, density: Callable[[Values], object], *, batch: int = 500) -> Values:
    """A compiled log density over many points, a batch in one call so that memory stays bounded.

    The last batch is filled up: every call has one shape, and compiles once.
    """
    short = -len(x) % batch
    full = np.concatenate([x, np.repeat(x[-1:], short, axis=0)])
    parts = [np.asarray(density(full[i : i + batch])) for i in range(0, len(full), batch)]
    return np.concatenate(parts)[: len(x)]
