r"""What the law misses about a shape: a field over the rows of its products, sequences and prompt.

Residuals of log seconds are no noise. Kernels are chosen by the rows of the products (sequences x
prompt tokens of a prefill, sequences of a step), by the sequences and by the prompt, so that
timings near one another in these share what the law misses. Each of three parts of the time
(launches; products and element-wise work; mixing) is off by a Gaussian field of its own, and a part
counts for as much as its share of the seconds:

.. math:: r(x) = \sum_k h_k(x)\,f_k(x) + e,\qquad
   \mathrm{cov}(f_k(x), f_k(y)) = \tau_k^2 \exp\bigl(-\textstyle\sum_j
   (|x_j - y_j| / \ell_j)^{p_j}\bigr),

with x in doublings. p is one where another place may take another kernel, which is a jump. The
prompt before a step changes only how far the same kernels walk: there p, between one and two, says
how smoothly. Numbers of the field of an architecture and phase are drawn from the Gaussian at the
mode of their posterior given the residuals of its shapes. Then what was not timed is drawn given
what was (kriging).

The law's own fit does not know of the field: see `allometry.inference.latency_settings`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit

Draws = npt.NDArray[np.float64]

PARTS = ("launch", "products", "mixing")
DIRECTIONS = ("rows", "sequences", "prompt")

SPREAD = (-3.5, 1.0)
"""Normal prior of the log of a part's spread: 3 %, within a factor of seven."""
LENGTH = (1.5, 1.5)
"""Normal prior of the log of a length in doublings: 4.5, within a factor of twenty."""
NOISE = (-5.0, 1.0)
"""Normal prior of the log of a timing's own noise: 0.7 %, within a factor of seven."""
SMOOTHNESS = (0.0, 1.5)
"""Normal prior of the logit of p - 1 along the prompt: flat between one and two."""
FIELD_DRAWS = 16
"""Different draws of a field's numbers; draws of the law take turns with them."""

_LOC, _SD = np.array([SPREAD] * 3 + [LENGTH] * 3 + [NOISE, SMOOTHNESS]).T


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where points are, and what the time of each is spent on.

    Attributes
    ----------
    at : ndarray, shape (point, 3)
        Log2 of rows, sequences and prompt tokens.
    share : ndarray, shape (point, 3)
        Shares of launches, products and mixing in the seconds.
    """

    at: Draws
    share: Draws

    def __getitem__(self, index: npt.NDArray[np.int64]) -> "Places":
        return Places(at=self.at[index], share=self.share[index])


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """Numbers of the field of one architecture and phase.

    Attributes
    ----------
    spread : ndarray, shape (3,)
        Standard deviation of the log error of each part.
    length : ndarray, shape (3,)
        Doublings of rows, sequences and prompt over which it is correlated.
    noise : float
        Standard deviation of a log timing's own noise.
    power : float
        Smoothness p along the prompt, from one (rough) to two.
    """

    spread: Draws
    length: Draws
    noise: float
    power: float

    def correlation(self, a: Draws, b: Draws) -> Draws:
        """Between places, shape (a, b)."""
        far = np.abs(a[:, None] - b) / self.length
        return np.asarray(np.exp(-far[..., 0] - far[..., 1] - far[..., 2] ** self.power))

    def covariance(self, a: Places, b: Places) -> Draws:
        """Of what the law misses at places of one shape, shape (a, b)."""
        return np.asarray(self.correlation(a.at, b.at) * ((a.share * self.spread**2) @ b.share.T))

    def draw(self, new: Places, size: int, rng: np.random.Generator) -> Draws:
        """What the law misses at places of shapes that were not timed, shape (size, point).

        Points of several shapes share one field of each part.
        """
        at, index = np.unique(new.at, axis=0, return_inverse=True)
        factor = _root(self.correlation(at, at))
        found = np.zeros((size, len(new.at)))
        for k, spread in enumerate(self.spread):
            drawn = rng.normal(size=(size, len(at))) @ factor.T
            found += spread * new.share[:, k] * drawn[:, index.ravel()]
        return found

    def draw_given(
        self,
        new: Places,
        timed: Places,
        residual: Draws,
        variance: Draws,
        rng: np.random.Generator,
    ) -> Draws:
        """The same given residuals of a shape, (draw, timed), with known variances beside noise."""
        own = self.covariance(timed, timed) + np.diag(self.noise**2 + variance)
        across = self.covariance(timed, new)
        weights = np.linalg.solve(own, across)
        rest = _root(self.covariance(new, new) - across.T @ weights)
        return np.asarray(residual @ weights + rng.normal(size=(len(residual), len(rest))) @ rest.T)


def _root(covariance: Draws) -> Draws:
    """A matrix whose product with its transpose is a covariance that rounding may have bent."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def place(table: pd.DataFrame) -> Draws:
    """Log2 of rows, sequences and prompt tokens of timings or points, shape (point, 3)."""
    sequences, prompt = (
        np.log2(table[name].to_numpy(dtype=np.float64)) for name in ("batch_size", "prefill_length")
    )
    rows = sequences + np.where(table["quantity"] == "ttft", prompt, 0.0)
    return np.stack([rows, sequences, prompt], axis=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedShape:
    """Timings of one shape in one phase.

    Attributes
    ----------
    places : Places
    residual, variance : ndarray, shape (timing,)
        Of log seconds, and their known variances.
    """

    places: Places
    residual: Draws
    variance: Draws


def learn_field(
    shapes: Sequence[TimedShape], rng: np.random.Generator, *, smooth: bool
) -> list[Field]:
    """Draws of the field's numbers given residuals: the Gaussian at their mode.

    `smooth`: p along the prompt is learned, else it is one.
    """
    bounds = np.transpose([_LOC - 3 * _SD, _LOC + 3 * _SD])

    def cost(x: Draws) -> tuple[float, Draws]:
        z = (x - _LOC) / _SD
        value, slope = 0.5 * float(z @ z), z / _SD
        for shape in shapes:
            own, own_slope = _cost(x, shape, smooth=smooth)
            value, slope = value + own, slope + own_slope
        return value, slope

    x = minimize(cost, _LOC, jac=True, method="L-BFGS-B", bounds=bounds).x
    step = 1e-3
    hessian = np.array(
        [(cost(x + e)[1] - cost(x - e)[1]) / (2 * step) for e in step * np.eye(len(x))]
    )
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    # No wider than the prior: at a bound, or on a ridge, the curvature says nothing.
    scale = vectors / np.sqrt(np.maximum(values, 1.0 / _SD.max() ** 2))
    drawn = x + rng.normal(size=(FIELD_DRAWS, len(x))) @ scale.T
    return [
        Field(
            spread=np.exp(d[:3]),
            length=np.exp(d[3:6]),
            noise=float(np.exp(d[6])),
            power=float(1.0 + smooth * expit(d[7])),
        )
        for d in np.clip(drawn, *bounds.T)
    ]


def _cost(x: Draws, shape: TimedShape, *, smooth: bool) -> tuple[float, Draws]:
    """Minus log density of one shape's residuals and its gradient in the log numbers."""
    at, share, residual = shape.places.at, shape.places.share, shape.residual
    variances, noise = np.exp(2 * x[:3]), float(np.exp(2 * x[6]))
    powers = np.array([1.0, 1.0, 1.0 + smooth * expit(x[7])])
    bent = (np.abs(at[:, None] - at) * np.exp(-x[3:6])) ** powers
    correlation = np.exp(-bent.sum(axis=-1))
    amplitude = (share * variances) @ share.T
    covariance = correlation * amplitude + np.diag(noise + shape.variance)
    inverse = np.linalg.inv(covariance)
    weights = inverse @ residual
    value = 0.5 * float(residual @ weights + np.linalg.slogdet(covariance)[1])
    # What follows is 2 d value / d covariance, times that of the covariance.
    weighted = (inverse - np.outer(weights, weights)) * correlation
    spreads = variances * np.einsum("ak,ab,bk->k", share, weighted, share)
    own_noise = noise * (np.trace(inverse) - weights @ weights)
    weighted *= amplitude
    lengths = 0.5 * np.einsum("ab,abj->j", weighted, bent) * powers
    last = bent[..., 2]
    log_last = np.log(np.where(last > 0, last, 1.0)) / powers[2]
    power = -0.5 * (weighted * last * log_last).sum() * smooth * expit(x[7]) * expit(-x[7])
    return value, np.array([*spreads, *lengths, own_noise, power])
