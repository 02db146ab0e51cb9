r"""Timings of one setting share an error: the density of that error, and its draws.

A *setting* is one shape in one phase at one batch. Its timings at different prompts mostly run the
same kernels, so what the law misses about these kernels is common to them. The residuals of a
setting follow a multivariate Student-t,

.. math:: r = \sqrt{s}\,(u 1 + e),\quad u \sim N(0, \tau^2),\quad e_i \sim N(0, \sigma_i^2),\quad
   s \sim \mathrm{InvGamma}(\nu/2, \nu/2),

whose density needs no site for u or s. Both are drawn afterwards, given the residuals.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float
from scipy.special import gammaln

from allometry.inference.model import STUDENT_DF

Draws = npt.NDArray[np.float64]


def settings_log_density(
    residual: Float[Array, "setting slot"],
    variance: Float[Array, "setting slot"],
    weight: Float[Array, "setting slot"],
    shared_variance: Float[Array, " setting"],
) -> Float[Array, " setting"]:
    r"""Log density of each setting's residuals; slots of weight zero hold no timing.

    With w_i = 1 / \sigma_i^2, the rank-one covariance has (Woodbury)
    r' S^-1 r = sum w r^2 - (sum w r)^2 tau^2 / (1 + tau^2 sum w) and
    log det S = -sum log w + log(1 + tau^2 sum w).
    """
    precision = weight / variance
    total = precision.sum(-1)
    first = (precision * residual).sum(-1)
    inflation = 1.0 + shared_variance * total
    squares = (precision * residual**2).sum(-1) - shared_variance * first**2 / inflation
    log_det = (weight * jnp.log(variance)).sum(-1) + jnp.log(inflation)
    n = weight.sum(-1)
    normalizer = jnp.asarray(_normalizers(weight.shape[-1]))[n.astype(int)]
    tail = (STUDENT_DF + n) / 2 * jnp.log1p(squares / STUDENT_DF)
    return jnp.asarray(normalizer - log_det / 2 - tail)


def _normalizers(most: int) -> Draws:
    """Log normalizers of a Student-t of unit scale in 0 to `most` dimensions."""
    n = np.arange(most + 1)
    return np.asarray(
        gammaln((STUDENT_DF + n) / 2) - gammaln(STUDENT_DF / 2) - n / 2 * np.log(STUDENT_DF * np.pi)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingDraws:
    """Draws of what the timings of a setting share, shape (draw, setting) or (draw,).

    Attributes
    ----------
    effect : ndarray
        Log effect of the setting's kernels: sqrt(s) u.
    scale : ndarray
        sqrt(s), which multiplies the noise of the setting's timings.
    """

    effect: Draws
    scale: Draws


def draw_settings(
    residual: Draws,
    variance: Draws,
    weight: Draws,
    shared_variance: Draws,
    rng: np.random.Generator,
) -> SettingDraws:
    """Draws of effects and scales given residuals.

    Parameters
    ----------
    residual, variance : ndarray, shape (draw, setting, slot)
    weight : ndarray, shape (setting, slot)
    shared_variance : ndarray, shape (draw, setting)
    rng : Generator
    """
    precision = weight / variance
    total, first = precision.sum(-1), (precision * residual).sum(-1)
    inflation = 1.0 + shared_variance * total
    squares = (precision * residual**2).sum(-1) - shared_variance * first**2 / inflation
    n = np.broadcast_to(weight.sum(-1), squares.shape)
    scale = np.sqrt((STUDENT_DF + squares) / rng.chisquare(STUDENT_DF + n))
    mean = shared_variance * first / inflation
    sd = scale * np.sqrt(shared_variance / inflation)
    return SettingDraws(effect=mean + sd * rng.normal(size=mean.shape), scale=scale)


def new_settings(shared_variance: Draws, rng: np.random.Generator) -> SettingDraws:
    """Effects and scales of settings that were not timed, of the shape of `shared_variance`."""
    scale = np.sqrt(STUDENT_DF / rng.chisquare(STUDENT_DF, size=shared_variance.shape))
    effect = scale * np.sqrt(shared_variance) * rng.normal(size=shared_variance.shape)
    return SettingDraws(effect=effect, scale=scale)
