"""The posterior mode in sampling coordinates, and the Laplace approximation there."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from allometry.inference.coordinates import Data, Density, Program
from allometry.inference.hessian import Arrow, Evaluate, arrow_hessian, dense_hessian
from allometry.inference.spreads import held_levels, learned_levels
from allometry.inference.whitening import Whitening, arrow_whitening, dense_whitening

LANES = 16
"""Points evaluated in one call: a batch of 16 costs about as much as two single calls."""

DENSE_LIMIT = 400
"""Length of the flat vector up to which the whole Hessian is taken."""

SPREAD_ROUNDS = 6
SETTLED = 0.1
"""Rounds of climbing and learning spreads, and the change of a log spread that ends them."""

ROUGH_CLIMB = 8
"""Iterations of a climb that only learns spreads."""

WHITENINGS = 6
"""Times that a long climb whitens its coordinates anew."""

Vector = npt.NDArray[np.float64]
Held = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mode:
    """A posterior mode.

    Attributes
    ----------
    x : ndarray, shape (d,)
        Sampling coordinates of the mode.
    log_posterior : float
        Log joint density there, up to a constant.
    gradient : float
        Largest whitened gradient component that the climb could move: zero at an exact mode.
    whitening : Whitening
        Map from unit Gaussian to sampling coordinates.
    """

    x: Vector
    log_posterior: float
    gradient: float
    whitening: Whitening


@partial(jax.jit, static_argnums=1)
def _batch(
    x: Float[Array, "lane d"], program: Density, data: Any
) -> tuple[Float[Array, " lane"], Float[Array, "lane d"]]:
    def negative(point: Float[Array, " d"]) -> Float[Array, ""]:
        return -program.log_density(point, data)

    return jax.vmap(jax.value_and_grad(negative))(x)


def evaluator(program: Density, data: Any, *, lanes: int = LANES) -> Evaluate:
    """Negative log posterior and gradient of a stack of points, `lanes` of them in one call."""

    def evaluate(points: Vector) -> tuple[Vector, Vector]:
        values, gradients = [], []
        for start in range(0, len(points), lanes):
            part = points[start : start + lanes]
            full = np.concatenate([part, np.repeat(part[:1], lanes - len(part), axis=0)])
            value, gradient = _batch(full, program, data)
            values.append(np.asarray(value)[: len(part)])
            gradients.append(np.asarray(gradient)[: len(part)])
        value, gradient = np.concatenate(values), np.concatenate(gradients)
        return np.where(np.isfinite(value), value, np.inf), np.nan_to_num(gradient)

    return evaluate


def find_mode(
    start: Vector, program: Density, data: Any, *, iterations: int = 60, settle: bool = True
) -> Mode:
    """Climb from a start to a mode, by Newton steps whose length is searched in one batch.

    A long vector climbs by blocks where its program has some: groups of a loss law. Spreads between
    many groups are learned between climbs, unless `settle` is off.
    """
    if not isinstance(program, Program):
        held = np.zeros(program.size, dtype=bool)
        return _newton(start, evaluator(program, data), held, iterations)[0]
    held = held_levels(program)
    for _ in range(SPREAD_ROUNDS if settle and held.any() else 0):
        mode, free = _climb(start, program, data, held, ROUGH_CLIMB)
        start = learned_levels(mode.x, free, program, data)
        if np.abs(start - mode.x)[held].max() < SETTLED:
            break
    return _climb(start, program, data, held, iterations)[0]


def every_nth(data: Data, wanted: int) -> Data:
    """About as many runs as wanted, each group's share kept as near as its order allows."""
    runs = data.runs
    real = np.flatnonzero(np.asarray(runs.weight))
    by_group = real[np.argsort(np.asarray(runs.group)[real], kind="stable")]
    kept = np.sort(by_group[:: -(-len(by_group) // wanted)])
    return replace(data, runs=runs.take(kept))


def _climb(
    x: Vector, program: Program, data: Data, held: Held, iterations: int
) -> tuple[Mode, Whitening]:
    """The mode with some coordinates held, and the Gaussian approximation of the others."""
    if program.size > DENSE_LIMIT:
        return _arrow_climb(x, program, data, held, iterations)
    return _newton(x, evaluator(program, data), held, iterations)


def _newton(x: Vector, evaluate: Evaluate, held: Held, iterations: int) -> tuple[Mode, Whitening]:
    lengths = 2.0 ** -np.arange(LANES)
    value, gradient = (part[0] for part in evaluate(x[None]))
    for _ in range(iterations):
        free = dense_whitening(x, _freed(dense_hessian(x, evaluate), held))
        gradient = np.where(held, 0.0, gradient)
        root = np.asarray(free.hyper)
        direction = -root @ (root.T @ gradient)
        decrement = float(-gradient @ direction)  # squared whitened gradient
        values, gradients = evaluate(x + lengths[:, None] * direction)
        best = int(np.argmin(values))
        if not values[best] < value:
            break
        x, value, gradient = x + lengths[best] * direction, values[best], gradients[best]
        if decrement < 1e-8:
            break
    hessian = dense_hessian(x, evaluate)
    whitening = dense_whitening(x, hessian)
    mode = _mode(x, value, np.where(held, 0.0, gradient), whitening)
    return mode, dense_whitening(x, _freed(hessian, held))


def _arrow_climb(
    x: Vector, program: Program, data: Data, held: Held, iterations: int
) -> tuple[Mode, Whitening]:
    """L-BFGS in coordinates whitened by the arrow of groups below the levels above."""
    import scipy.optimize  # a sixth of a second, which small studies need not wait

    evaluate, single = evaluator(program, data), evaluator(program, data, lanes=1)
    parent = np.asarray(data.runs.parent)

    def at(x: Vector) -> tuple[Arrow, Arrow]:
        whole = arrow_hessian(x, program.structure, parent, evaluate)
        above = held[: len(whole.hyper)]
        cross = np.where(above[whole.columns][:, None, :], 0.0, whole.cross)
        return whole, replace(whole, hyper=_freed(whole.hyper, above), cross=cross)

    value, gradient = (part[0] for part in single(x[None]))
    for _ in range(WHITENINGS):
        whole, freed = at(x)
        free = arrow_whitening(x, freed)

        def objective(z: Vector, free: Whitening = free) -> tuple[float, Vector]:
            values, gradients = single(free.apply(z)[None])
            return float(values[0]), free.transpose_times(np.where(held, 0.0, gradients[0]))

        options = {"maxiter": iterations, "maxcor": 30, "ftol": 1e-13, "gtol": 1e-5}
        found = scipy.optimize.minimize(
            objective, np.zeros_like(x), jac=True, method="L-BFGS-B", options=options
        )
        gain, x = value - found.fun, free.apply(found.x)
        value, gradient = (part[0] for part in single(x[None]))
        if gain < 1e-6 or iterations <= ROUGH_CLIMB:
            break
    whole, freed = at(x)
    whitening = arrow_whitening(x, whole)
    mode = _mode(x, value, np.where(held, 0.0, gradient), whitening)
    return mode, arrow_whitening(x, freed)


def _freed(hessian: Vector, held: Held) -> Vector:
    """The Hessian of the free coordinates; held ones are apart, with curvature one."""
    free = ~held
    return np.where(free[:, None] & free, hessian, np.diag(np.where(free, 0.0, 1.0)))


def _mode(x: Vector, value: float, gradient: Vector, whitening: Whitening) -> Mode:
    steepest = float(np.abs(whitening.transpose_times(gradient)).max())
    return Mode(x=x, log_posterior=-float(value), gradient=steepest, whitening=whitening)
