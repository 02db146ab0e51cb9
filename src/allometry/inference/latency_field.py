r"""What the law misses about a shape: a field over the rows of its products, sequences and prompt.

Residuals of log seconds are no noise. Kernels are chosen by the rows of the products (sequences x
prompt tokens of a prefill, sequences of a step), by the sequences and by the prompt, so that
timings near one another in these share what the law misses. Each part of the time (launches;
products and element-wise work; mixing) is off by a Gaussian field of its own, and a part counts for
as much as its share of the seconds:

.. math:: r(x) = \sum_k h_k(x)\,f_k(x) + e,\qquad
   \mathrm{cov}(f_k(x), f_k(y)) = \tau_k^2 \exp\bigl(-\textstyle\sum_{j \in J_k}
   (|x_j - y_j| / \ell_j)^{p_j}\bigr),

with x in doublings. In a prefill every part follows all three directions (J_k). In a step a part
follows what its kernels see: launches and products the sequences, mixing the sequences and the
prompt. Besides, the first launches of a step are slow after a long wait for the prefill before it;
this *wait* follows what decides how long that took: its rows and its prompt.

p is one where another place may take another kernel, which is a jump. The prompt before a step
changes only how far the same kernels walk, as do more chunks of a recurrent prefill, whose products
take other kernels by their rows: there p, between one and two, says how smoothly. A prompt's
attention has several kernels to choose from. Numbers
of the field of an architecture and phase are drawn from the Gaussian at the mode of their posterior
given the residuals of its shapes. Then what was not timed is drawn given what was (kriging).

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
Flags = npt.NDArray[np.bool_]

PARTS = ("launch", "products", "mixing", "wait")
DIRECTIONS = ("rows", "sequences", "prompt")
PREFILL_FOLLOWS = np.ones((len(PARTS), len(DIRECTIONS)), dtype=bool)
"""Directions that each part of a prefill follows; no part of it waits for another prefill."""
STEP_FOLLOWS = np.array([[0, 1, 0], [0, 1, 0], [0, 1, 1], [1, 0, 1]], dtype=bool)
"""The same of a step, whose rows are those of the prefill before it."""

SPREAD = (-3.5, 1.0)
"""Normal prior of the log of a part's spread: 3 %, within a factor of seven."""
LENGTH = (1.5, 1.5)
"""Normal prior of the log of a length in doublings: 4.5, within a factor of twenty."""
NOISE = (-5.0, 1.0)
"""Normal prior of the log of a timing's own noise: 0.7 %, within a factor of seven."""
SMOOTHNESS = (0.0, 1.5)
"""Normal prior of the logit of p - 1 along the prompt: flat between one and two."""
FIELD_DRAWS = 48
"""Different draws of a field's numbers; draws of the law take turns with them."""

_K = len(PARTS)
_LENGTHS = slice(_K, _K + len(DIRECTIONS))
_LOC, _SD = np.array([SPREAD] * _K + [LENGTH] * len(DIRECTIONS) + [NOISE, SMOOTHNESS]).T


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where points are, and what the time of each is spent on.

    Attributes
    ----------
    at : ndarray, shape (point, direction)
        Log2 of rows, sequences and prompt tokens.
    share : ndarray, shape (point, part)
        Shares of launches, products and mixing in the seconds; of a step's launches again, which
        are what a wait slows down.
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
    step : bool
        The phase: a step, or a prefill.
    spread : ndarray, shape (part,)
        Standard deviation of the log error of each part.
    length : ndarray, shape (direction,)
        Doublings of rows, sequences and prompt over which it is correlated.
    noise : float
        Standard deviation of a log timing's own noise.
    power : float
        Smoothness p along the prompt, from one (rough) to two.
    """

    step: bool
    spread: Draws
    length: Draws
    noise: float
    power: float

    def correlations(self, a: Draws, b: Draws) -> list[tuple[Flags, Draws]]:
        """Between places, (a, b), each with the parts that it is of."""
        far = np.abs(a[:, None] - b) / self.length
        far[..., 2] **= self.power
        return [(parts, np.exp(-(far @ along))) for parts, along in _kinds(step=self.step)]

    def covariance(self, a: Places, b: Places) -> Draws:
        """Of what the law misses at places of one shape, shape (a, b)."""
        found = np.zeros((len(a.at), len(b.at)))
        for parts, correlation in self.correlations(a.at, b.at):
            weighted = a.share[:, parts] * self.spread[parts] ** 2
            found += correlation * (weighted @ b.share[:, parts].T)
        return found

    def draw(self, new: Places, size: int, rng: np.random.Generator) -> Draws:
        """What the law misses at places of shapes that were not timed, shape (size, point).

        Points of several shapes share one field of each part.
        """
        at, index = np.unique(new.at, axis=0, return_inverse=True)
        found = np.zeros((size, len(new.at)))
        for parts, correlation in self.correlations(at, at):
            factor = _root(correlation)
            for k in np.flatnonzero(parts):
                drawn = rng.normal(size=(size, len(at))) @ factor.T
                found += self.spread[k] * new.share[:, k] * drawn[:, index.ravel()]
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


def _kinds(*, step: bool) -> list[tuple[Flags, Draws]]:
    """Parts that follow the same directions, with one for each direction they follow."""
    follows = STEP_FOLLOWS if step else PREFILL_FOLLOWS
    kinds, kind = np.unique(follows, axis=0, return_inverse=True)
    return [(kind.ravel() == i, along.astype(np.float64)) for i, along in enumerate(kinds)]


def places(table: pd.DataFrame, share: Draws) -> Places:
    """Where timings or points are.

    `share` is that of launches, products and mixing in the seconds of each, (point, 3).
    """
    sequences, prompt = (
        np.log2(table[name].to_numpy(dtype=np.float64)) for name in ("batch_size", "prefill_length")
    )
    waited = share[:, 0] * (table["quantity"] == "step_time").to_numpy()
    return Places(
        at=np.stack([sequences + prompt, sequences, prompt], axis=1),
        share=np.column_stack([share, waited]),
    )


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
    shapes: Sequence[TimedShape], rng: np.random.Generator, *, step: bool, smooth: bool
) -> list[Field]:
    """Draws of the field's numbers given residuals of a phase: the Gaussian at their mode.

    `smooth`: the smoothness along the prompt is learned; else it is one.
    """
    bounds = np.transpose([_LOC - 3 * _SD, _LOC + 3 * _SD])

    def cost(x: Draws) -> tuple[float, Draws]:
        z = (x - _LOC) / _SD
        value, slope = 0.5 * float(z @ z), z / _SD
        for shape in shapes:
            own, own_slope = _cost(x, shape, step=step, smooth=smooth)
            value, slope = value + own, slope + own_slope
        return value, slope

    x = minimize(cost, _LOC, jac=True, method="L-BFGS-B", bounds=bounds).x
    small = 1e-3
    hessian = np.array(
        [(cost(x + e)[1] - cost(x - e)[1]) / (2 * small) for e in small * np.eye(len(x))]
    )
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    # No wider than the prior: at a bound, or on a ridge, the curvature says nothing.
    scale = vectors / np.sqrt(np.maximum(values, 1.0 / _SD.max() ** 2))
    drawn = x + rng.normal(size=(FIELD_DRAWS, len(x))) @ scale.T
    return [
        Field(
            step=step,
            spread=np.exp(d[:_K]),
            length=np.exp(d[_LENGTHS]),
            noise=float(np.exp(d[-2])),
            power=float(1.0 + smooth * expit(d[-1])),
        )
        for d in np.clip(drawn, *bounds.T)
    ]


def _cost(x: Draws, shape: TimedShape, *, step: bool, smooth: bool) -> tuple[float, Draws]:
    """Minus log density of one shape's residuals and its gradient in the log numbers."""
    at, share, residual = shape.places.at, shape.places.share, shape.residual
    variances, noise = np.exp(2 * x[:_K]), float(np.exp(2 * x[-2]))
    powers = np.array([1.0, 1.0, 1.0 + smooth * expit(x[-1])])
    bent = np.abs(at[:, None] - at) * np.exp(-x[_LENGTHS])
    last = bent[..., 2]
    log_last = np.log(np.where(last > 0, last, 1.0))
    last[last > 0] = np.exp(powers[2] * log_last[last > 0])
    kinds = [
        (parts, along, np.exp(-(bent @ along)), (share[:, parts] * variances[parts]))
        for parts, along in _kinds(step=step)
    ]
    covariance = np.diag(noise + shape.variance)
    for parts, _, correlation, weighted in kinds:
        covariance += correlation * (weighted @ share[:, parts].T)
    inverse = np.linalg.inv(covariance)
    weights = inverse @ residual
    value = 0.5 * float(residual @ weights + np.linalg.slogdet(covariance)[1])
    # What follows is 2 d value / d covariance, times that of the covariance.
    outer = inverse - np.outer(weights, weights)
    spreads, lengths, power = np.zeros(_K), np.zeros(len(powers)), 0.0
    slope = (last * log_last).ravel()
    for parts, along, correlation, weighted in kinds:
        own = outer * correlation
        spreads[parts] = (weighted * (own @ share[:, parts])).sum(axis=0)
        each = (own * (weighted @ share[:, parts].T)).ravel()
        lengths += 0.5 * along * powers * (each @ bent.reshape(-1, len(powers)))
        power -= 0.5 * float(along[2]) * float(each @ slope)
    power *= smooth * expit(x[-1]) * expit(-x[-1])
    return value, np.array([*spreads, *lengths, noise * np.trace(outer), power])
