"""Laplace approximation with importance weights: an answer in a second, or the word that it fails.

Student-t draws around the mode are resampled by Pareto-smoothed importance weights. Where the
weights' tail is heavy (k-hat above 0.7) the approximation is not the posterior.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from arviz_stats.base import array_stats  # type: ignore[attr-defined]
from jaxtyping import Array, Float

from allometry.inference.coordinates import Data, Program, log_posterior
from allometry.inference.mode import Mode

PROPOSALS = 4000
DF = 5.0
"""Student-t proposals: tails that cover the posterior's at little loss in the middle."""

MAX_PARETO_K = 0.7
BATCH = 500


@partial(jax.jit, static_argnums=1)
def _densities(x: Float[Array, "draw d"], program: Program, data: Data) -> Float[Array, " draw"]:
    return jax.vmap(lambda point: log_posterior(point, program, data))(x)


def laplace_draws(
    mode: Mode, program: Program, data: Data, *, draws: int, seed: int
) -> tuple[npt.NDArray[np.float64], float]:
    """Draws of the posterior by importance resampling, and k-hat of the weights.

    Parameters
    ----------
    mode : Mode
        The mode with its whitening.
    draws : int
        Draws wanted.
    seed : int
        Seed of proposals and resampling.

    Returns
    -------
    x : ndarray, shape (draws, d)
        In sampling coordinates.
    k_hat : float
        Tail index of the weights: below 0.7 the draws stand for the posterior.
    """
    rng = np.random.default_rng([seed, 6])
    d = program.size
    normal = rng.normal(size=(PROPOSALS, d))
    mixing = np.sqrt(DF / rng.chisquare(DF, size=(PROPOSALS, 1)))
    z = normal * mixing
    x = mode.whitening.apply(z)
    target = np.concatenate(
        [
            np.asarray(_densities(jnp.asarray(x[start : start + BATCH]), program, data))
            for start in range(0, PROPOSALS, BATCH)
        ]
    )
    proposal = -(DF + d) / 2 * np.log1p((z**2).sum(axis=1) / DF)
    log_ratio = np.nan_to_num(target - proposal, nan=-np.inf)
    log_ratio -= log_ratio.max()
    # arviz-stats takes the negative log ratio.
    log_weights, k_hat = array_stats.psislw(-log_ratio)  # type: ignore[no-untyped-call]
    weights = np.exp(np.asarray(log_weights))
    weights /= weights.sum()
    spaced = (np.arange(draws) + rng.random()) / draws  # systematic: no more noise than needed
    chosen = np.minimum(np.searchsorted(np.cumsum(weights), spaced), PROPOSALS - 1)
    return x[rng.permutation(chosen)], float(k_hat)
