r"""What the law misses about a shape: a field over the rows of its products, sequences and prompt.

Residuals of log seconds are no noise. Kernels are chosen by the rows of the products (sequences x
prompt tokens of a prefill, sequences of a step), by the sequences and by the prompt, so that
timings near one another in these share what the law misses. Each part of the time (launches;
products and element-wise work; mixing) is off by a Gaussian field of its own, and a part counts for
as much as its share of the seconds:

.. math:: r(x) = \sum_k h_k(x)\,f_k(x) + e,\qquad
   \mathrm{cov}(f_k(x), f_k(y)) = \bigl(\tau_k^2\,[x \sim y] +
   \gamma_k^2 e^{-(n_x - n_y)^2 / \ell_n^2}\bigr) \exp\bigl(-\textstyle\sum_{j \in J_k}
   (|x_j - y_j| / \ell_j)^{p_j}\bigr),

with x in doublings. The first summand is of one shape alone (x ~ y: both are of it), the second is
alike in shapes of nearly as many params, n doublings of them: much of what the law misses about a
batch and a prompt is missed in every size, for all of them run the same kernels. It is smooth in
the params, so that among sizes that are tried none is fast by luck.

In a prefill every part follows all three directions (J_k). In a step a part follows what its
kernels see: launches and products the sequences, mixing the sequences and the prompt. Besides, the
first launches of a step are slow after a long wait for the prefill before it; this *wait* follows
what decides how long that took: its rows and its prompt.

p is one where another place may take another kernel, which is a jump. The prompt before a step
changes only how far the same kernels walk, as do more chunks of a recurrent prefill, whose products
take other kernels by their rows: there p, between one and two, says how smoothly. A prompt's
attention has several kernels to choose from. Numbers
of the field of an architecture and phase are drawn from the Gaussian at the mode of their posterior
given the residuals of its shapes. Then what was not timed is drawn given what was (kriging), in
other shapes as well.

The law's own fit does not know of the field: see `allometry.inference.latency_settings`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.linalg import solve_triangular
from scipy.optimize import minimize
from scipy.special import expit

Draws = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Index = npt.NDArray[np.int64]

PARTS = ("launch", "products", "mixing", "wait")
DIRECTIONS = ("rows", "sequences", "prompt", "params")
PREFILL_FOLLOWS = np.ones((len(PARTS), 3), dtype=bool)
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
MOST = 1500
"""Timings that a field is learned from, or a prediction is told by: their cube is the time."""

_K = len(PARTS)
_COMMON, _LENGTHS = slice(_K, 2 * _K), slice(2 * _K, 2 * _K + len(DIRECTIONS))
_LOC, _SD = np.array([SPREAD] * (2 * _K) + [LENGTH] * len(DIRECTIONS) + [NOISE, SMOOTHNESS]).T


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where points are, what the time of each is spent on, and of which shape they are.

    Attributes
    ----------
    at : ndarray, shape (point, direction)
        Log2 of rows, sequences, prompt tokens and params.
    share : ndarray, shape (point, part)
        Shares of launches, products and mixing in the seconds; of a step's launches again, which
        are what a wait slows down.
    shape : ndarray of int, shape (point,)
        Equal where points are of one shape.
    """

    at: Draws
    share: Draws
    shape: Index

    def __getitem__(self, index: Index) -> "Places":
        return Places(at=self.at[index], share=self.share[index], shape=self.shape[index])

    def __add__(self, other: "Places") -> "Places":
        pairs = ((getattr(self, n), getattr(other, n)) for n in ("at", "share", "shape"))
        at, share, shape = (np.concatenate(pair) for pair in pairs)
        return Places(at=at, share=share, shape=shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """Numbers of the field of one architecture and phase.

    Attributes
    ----------
    step : bool
        The phase: a step, or a prefill.
    spread, common : ndarray, shape (part,)
        Standard deviations of the log error of each part: a shape's own, and that in common.
    length : ndarray, shape (direction,)
        Doublings of rows, sequences, prompt and params over which it is correlated.
    noise : float
        Standard deviation of a log timing's own noise.
    power : float
        Smoothness p along the prompt, from one (rough) to two.
    """

    step: bool
    spread: Draws
    common: Draws
    length: Draws
    noise: float
    power: float

    def correlations(self, a: Draws, b: Draws) -> list[tuple[Flags, Draws]]:
        """Between places of one shape, (a, b), each with the parts that it is of."""
        far = np.abs(a[:, None, :3] - b[:, :3]) / self.length[:3]
        far[..., 2] **= self.power
        return [(parts, np.exp(-(far @ along))) for parts, along in _kinds(step=self.step)]

    def sizes(self, a: Draws, b: Draws) -> Draws:
        """Correlation of what is common to shapes of these log2 params, (a, b)."""
        return np.asarray(np.exp(-(((a[:, None] - b) / self.length[3]) ** 2)))

    def covariance(self, a: Places, b: Places) -> Draws:
        """Of what the law misses at two sets of places, shape (a, b)."""
        found = np.zeros((len(a.at), len(b.at)))
        same, sizes = a.shape[:, None] == b.shape, self.sizes(a.at[:, 3], b.at[:, 3])
        for parts, correlation in self.correlations(a.at, b.at):
            own, common = (
                (a.share[:, parts] * spread[parts] ** 2) @ b.share[:, parts].T
                for spread in (self.spread, self.common)
            )
            found += correlation * (own * same + common * sizes)
        return found

    def draw(self, new: Places, size: int, rng: np.random.Generator) -> Draws:
        """What the law misses at places of shapes of which none was timed, shape (size, point)."""
        at, place = np.unique(new.at[:, :3], axis=0, return_inverse=True)
        params, level = np.unique(new.at[:, 3], return_inverse=True)
        shapes, shape = np.unique(new.shape, return_inverse=True)
        place, across = place.ravel(), _root(self.sizes(params, params))
        found = np.zeros((size, len(new.at)))
        for parts, correlation in self.correlations(at, at):
            factor = _root(correlation)
            for k in np.flatnonzero(parts):
                own = self.spread[k] * rng.normal(size=(size, len(shapes), len(at)))
                common = self.common[k] * rng.normal(size=(size, len(params), len(at)))
                drawn = (own @ factor.T)[:, shape, place]
                drawn += (across @ (common @ factor.T))[:, level, place]
                found += new.share[:, k] * drawn
        return found

    def draw_given(
        self,
        new: Places,
        timed: Places,
        residual: Draws,
        variance: Draws,
        rng: np.random.Generator,
    ) -> Draws:
        """The same given residuals of timings, (draw, timed), with known variances beside noise.

        A draw of everything is moved by what its timings are off from those that were taken
        (Matheron's rule).
        """
        own = self.covariance(timed, timed) + np.diag(self.noise**2 + variance)
        weights = np.linalg.solve(own, self.covariance(timed, new))
        drawn = self.draw(timed + new, len(residual), rng)
        noise = np.sqrt(self.noise**2 + variance) * rng.normal(size=residual.shape)
        count = len(timed.at)
        return np.asarray(drawn[:, count:] + (residual - drawn[:, :count] - noise) @ weights)


def _root(covariance: Draws) -> Draws:
    """A matrix whose product with its transpose is a covariance that rounding may have bent."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _kinds(*, step: bool) -> list[tuple[Flags, Draws]]:
    """Parts that follow the same directions, with one for each direction they follow."""
    follows = STEP_FOLLOWS if step else PREFILL_FOLLOWS
    kinds, kind = np.unique(follows, axis=0, return_inverse=True)
    return [(kind.ravel() == i, along.astype(np.float64)) for i, along in enumerate(kinds)]


def places(table: pd.DataFrame, share: Draws, shape: Index) -> Places:
    """Where timings or points are.

    `share` is that of launches, products and mixing in the seconds of each, (point, 3).
    """
    sequences, prompt, params = (
        np.log2(table[name].to_numpy(dtype=np.float64))
        for name in ("batch_size", "prefill_length", "params")
    )
    waited = share[:, 0] * (table["quantity"] == "step_time").to_numpy()
    return Places(
        at=np.stack([sequences + prompt, sequences, prompt, params], axis=1),
        share=np.column_stack([share, waited]),
        shape=np.asarray(shape),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Residuals:
    """What the law misses of timings of one architecture and phase.

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
    known: Residuals, rng: np.random.Generator, *, step: bool, smooth: bool
) -> list[Field]:
    """Draws of the field's numbers given residuals of a phase: the Gaussian at their mode.

    `smooth`: the smoothness along the prompt is learned; else it is one.
    """
    bounds = np.transpose([_LOC - 3 * _SD, _LOC + 3 * _SD])
    if len(known.residual) > MOST:
        some = np.sort(rng.permutation(len(known.residual))[:MOST])
        known = Residuals(
            places=known.places[some],
            residual=known.residual[some],
            variance=known.variance[some],
        )

    def cost(x: Draws) -> tuple[float, Draws]:
        z = (x - _LOC) / _SD
        value, slope = _cost(x, known, step=step, smooth=smooth)
        return 0.5 * float(z @ z) + value, z / _SD + slope

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
            common=np.exp(d[_COMMON]),
            length=np.exp(d[_LENGTHS]),
            noise=float(np.exp(d[-2])),
            power=float(1.0 + smooth * expit(d[-1])),
        )
        for d in np.clip(drawn, *bounds.T)
    ]


def _cost(x: Draws, known: Residuals, *, step: bool, smooth: bool) -> tuple[float, Draws]:
    """Minus log density of residuals and its gradient in the log numbers."""
    at, share, residual = known.places.at, known.places.share, known.residual
    own, common = (np.exp(2 * x[part]) for part in (slice(_K), _COMMON))
    noise = float(np.exp(2 * x[-2]))
    powers = np.array([1.0, 1.0, 1.0 + smooth * expit(x[-1])])
    apart = np.moveaxis(np.abs(at[:, None] - at) * np.exp(-x[_LENGTHS]), 2, 0)
    last, levels = apart[2], apart[3] ** 2
    log_last = np.log(np.where(last > 0, last, 1.0))
    last[last > 0] = np.exp(powers[2] * log_last[last > 0])
    same = known.places.shape[:, None] == known.places.shape
    sizes = np.exp(-levels)
    covariance = np.diag(noise + known.variance)
    kinds = []
    for parts, along in _kinds(step=step):
        correlation = np.exp(-sum(far for far, on in zip(apart[:3], along, strict=True) if on))
        alone, shared = (
            ((share[:, parts] * variances[parts]) @ share[:, parts].T) * correlation * where
            for variances, where in ((own, same), (common, sizes))
        )
        covariance += alone + shared
        kinds.append((parts, along, correlation, alone, shared))
    factor = np.linalg.cholesky(covariance)
    half = solve_triangular(factor, np.eye(len(at)), lower=True)
    inverse = half.T @ half
    weights = inverse @ residual
    value = 0.5 * float(residual @ weights) + float(np.log(np.diag(factor)).sum())
    # What follows is 2 d value / d covariance, times that of the covariance.
    outer = inverse - np.outer(weights, weights)
    slopes, lengths, power = np.zeros((2, _K)), np.zeros(len(DIRECTIONS)), 0.0
    for parts, along, correlation, alone, shared in kinds:
        told = outer * correlation
        for row, variances, where in ((0, own, same), (1, common, sizes)):
            each = share[:, parts] * ((told * where) @ share[:, parts])
            slopes[row, parts] = variances[parts] * each.sum(axis=0)
        both = outer * (alone + shared)
        lengths[:3] += 0.5 * along * powers * np.array([np.vdot(both, far) for far in apart[:3]])
        lengths[3] += float(np.vdot(outer * shared, levels))
        power -= 0.5 * float(along[2]) * float(np.vdot(both, last * log_last))
    power *= smooth * expit(x[-1]) * expit(-x[-1])
    return value, np.array([*slopes.ravel(), *lengths, noise * np.trace(outer), power])
