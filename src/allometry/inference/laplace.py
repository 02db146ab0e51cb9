"""Laplace approximation with importance weights: an answer in a second, or the word that it fails.

Student-t draws around the mode are resampled by Pareto-smoothed importance weights. Where the
weights' tail is heavy (k-hat above 0.7) the approximation is not the posterior: in few dimensions
the draws are made again around the mean that they found, with the covariance that they found.
"""

from functools import partial

import jax
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from allometry.inference.coordinates import Data, Program, log_posterior
from allometry.inference.importance import Weighed, evaluated, resample
from allometry.inference.mode import Mode

PROPOSALS = 4000
DF = 5.0
"""Student-t proposals: tails that cover the posterior's at little loss in the middle."""

BATCH_RUNS = 500_000
"""Runs times draws in one compiled call: 4 MB for each intermediate array."""

ATTEMPTS = 4
"""Times that proposals are drawn: while k-hat is too high, from moments of those before."""

ADAPTED_SIZE = 30
"""Coordinates up to which moments of weighted proposals are worth having."""

CUT = 4.0
"""Weights are cut so that about 4 sqrt(n) proposals share them, 250 of 4,000."""

RIDGE = 1e-3
Values = npt.NDArray[np.float64]


@partial(jax.jit, static_argnums=1)
def _densities(x: Float[Array, "draw d"], program: Program, data: Data) -> Float[Array, " draw"]:
    return jax.vmap(lambda point: log_posterior(point, program, data))(x)


def log_posteriors(x: Values, program: Program, data: Data) -> Values:
    """Log joint densities of many points, shape (draw, d)."""
    batch = int(np.clip(BATCH_RUNS // len(data.runs.group), 20, 500))
    return evaluated(x, lambda part: _densities(part, program, data), batch=batch)


def laplace_draws(mode: Mode, program: Program, data: Data, *, draws: int, seed: int) -> Weighed:
    """Draws of the posterior by importance resampling of Student-t draws around a mode.

    Parameters
    ----------
    mode : Mode
        The mode with its whitening.
    draws : int
        Draws wanted.
    seed : int
        Seed of proposals and resampling.
    """
    rng = np.random.default_rng([seed, 6])
    d = program.size
    centre, root = np.zeros(d), np.eye(d)  # of the proposals, in whitened coordinates
    for attempt in range(ATTEMPTS):
        standard = rng.normal(size=(PROPOSALS, d))
        standard *= np.sqrt(DF / rng.chisquare(DF, size=(PROPOSALS, 1)))
        z = centre + standard @ root.T
        x = mode.whitening.apply(z)
        proposal = -(DF + d) / 2 * np.log1p((standard**2).sum(axis=1) / DF)
        log_ratio = log_posteriors(x, program, data) - proposal
        found = resample(x, log_ratio, draws=draws, rng=rng)
        if found.believed or d > ADAPTED_SIZE or attempt == ATTEMPTS - 1:
            break
        centre, root = _adapted(z, log_ratio)
    return found


def _adapted(z: Values, log_ratio: Values) -> tuple[Values, Values]:
    """Centre and root of better proposals: moments under weights that are cut from above."""
    finite = np.nan_to_num(log_ratio, nan=-np.inf)
    weights = np.exp(finite - finite.max())
    for _ in range(20):  # cutting lowers the mean, and so the cut
        weights = np.minimum(weights, weights.mean() * np.sqrt(len(weights)) / CUT)
    weights /= weights.sum()
    centre = weights @ z
    apart = z - centre
    covariance = (weights[:, None] * apart).T @ apart + RIDGE * np.eye(z.shape[1])
    return centre, np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
