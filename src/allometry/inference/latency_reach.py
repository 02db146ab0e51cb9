r"""Kernels are chosen by ranges of batch: neighbouring batches of a shape share errors.

What the law misses about a setting (`allometry.inference.latency_settings`) is
:math:`\sqrt{s}\,u` with u of spread tau. Within a cell, u is a Gaussian process along the logarithm
of the batch with the Markov correlation

.. math:: \rho(b, b') = c^{|\log_2 b - \log_2 b'|},

whose *reach* c, the correlation of a batch and twice that batch, is learned for each architecture
and phase. A step of one sequence runs other kernels than one of several and tells nothing of them.

The fit itself takes settings as independent (c = 0): its timings pin the effects of timed settings
far more narrowly than any neighbour could. The reach is drawn from these effects afterwards, on a
grid, and matters for batches that were not timed.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Draws = npt.NDArray[np.float64]

REACHES = np.linspace(0.0, 0.95, 20)
"""Candidates of the correlation at a doubling, equally likely before the timings."""

Chain = Mapping[float, Draws]
"""Effects u of the settings of one cell, (draw,) each, by log2 of the batch."""


def reach_draws(chains: Sequence[Chain], spread: Draws, rng: np.random.Generator) -> Draws:
    """Draws of the correlation of a batch and twice that batch, shape (draw,).

    Parameters
    ----------
    chains : sequence of mapping
        Effects of the settings of each cell; cells of one setting say nothing.
    spread : ndarray, shape (draw,)
        Their standard deviation tau.
    rng : Generator
    """
    reach = REACHES[:, None]
    total = np.zeros((len(REACHES), len(spread)))
    for chain in chains:
        places = sorted(chain)
        for low, high in pairwise(places):
            rho = reach ** (high - low)
            variance = spread**2 * (1.0 - rho**2)
            miss = chain[high] - rho * chain[low]
            total -= 0.5 * (miss**2 / variance + np.log(variance))
    gumbel = rng.gumbel(size=total.shape)  # the largest of log weight + Gumbel is a draw
    return np.asarray(REACHES[np.argmax(total + gumbel, axis=0)])


def between_neighbours(
    place: float, chain: Chain, spread: Draws, reach: Draws
) -> tuple[Draws, Draws]:
    """Mean and sd of the effect u at a place, given those of the nearest places on both sides.

    Parameters
    ----------
    place : float
        Log2 of the batch that was not timed.
    chain : mapping
        Effects of the cell's other settings; none gives mean zero and `spread`.
    spread, reach : ndarray, shape (draw,)
    """
    below = max((p for p in chain if p < place), default=None)
    above = min((p for p in chain if p > place), default=None)
    zero = np.zeros_like(spread)
    low, high = (zero if p is None else reach ** abs(place - p) for p in (below, above))
    u_low, u_high = (zero if p is None else chain[p] for p in (below, above))
    rest = 1.0 - (low * high) ** 2
    mean = (low * (1.0 - high**2) * u_low + high * (1.0 - low**2) * u_high) / rest
    sd = spread * np.sqrt((1.0 - low**2) * (1.0 - high**2) / rest)
    return mean, sd
