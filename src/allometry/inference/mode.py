"""The posterior mode in sampling coordinates, and the Laplace approximation there."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import scipy.optimize
from jaxtyping import Array, Float

from allometry.inference.coordinates import Data, Density, Program
from allometry.inference.model import site_shapes
from allometry.inference.whitening import Whitening, block_whitening, dense_whitening, layout

LANES = 16
"""Points evaluated in one call: a batch of 16 costs about as much as two single calls."""

DENSE_LIMIT = 400
"""Length of the flat vector up to which the whole Hessian is taken."""

CLIMBED_SPREADS = 8
"""Groups up to which the climb moves the spreads between groups. Each group adds one to the slope
of the joint density towards a spread of zero, and the prior yields 0.2 in log spread for each: with
many groups that the data leave loose, the mode is not where the posterior is."""

FIRST_CLIMB = 8192
"""Runs above which a thinned table is climbed first."""

STEP = 1e-5
"""Central-difference step of the Hessian: errors STEP^2 and eps / STEP are both near 1e-10."""

Vector = npt.NDArray[np.float64]


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


def evaluator(program: Density, data: Any) -> Callable[[Vector], tuple[Vector, Vector]]:
    """Negative log posterior and gradient of a stack of points, shape (point, d)."""

    def evaluate(points: Vector) -> tuple[Vector, Vector]:
        values, gradients = [], []
        for start in range(0, len(points), LANES):
            part = points[start : start + LANES]
            full = np.concatenate([part, np.repeat(part[:1], LANES - len(part), axis=0)])
            value, gradient = _batch(jnp.asarray(full), program, data)
            values.append(np.asarray(value)[: len(part)])
            gradients.append(np.asarray(gradient)[: len(part)])
        value, gradient = np.concatenate(values), np.concatenate(gradients)
        return np.where(np.isfinite(value), value, np.inf), np.nan_to_num(gradient)

    return evaluate


def find_mode(start: Vector, program: Density, data: Any, *, iterations: int = 60) -> Mode:
    """Climb from a start to a mode, by Newton steps whose length is searched in one batch.

    A long vector climbs by blocks where its program has some: groups of a loss law. Of very many
    runs every n-th is climbed first, so that few steps are left for all of them.
    """
    if isinstance(program, Program) and len(data.runs.group) > FIRST_CLIMB:
        start = find_mode(start, program, every_nth(data, FIRST_CLIMB // 2)).x
    evaluate = evaluator(program, data)
    held = held_spreads(program)
    if isinstance(program, Program) and program.size > DENSE_LIMIT:
        return _block_newton(start, program, evaluate, held, iterations)
    return _newton(start, evaluate, held, iterations)


def every_nth(data: Data, wanted: int) -> Data:
    """About as many runs as wanted, each group's share kept as near as its order allows."""
    runs = data.runs
    real = np.flatnonzero(np.asarray(runs.weight))
    by_group = real[np.argsort(np.asarray(runs.group)[real], kind="stable")]
    kept = np.sort(by_group[:: -(-len(by_group) // wanted)])

    per_run = ("group", "log_params", "log_tokens", "log_loss", "relative_stderr", "weight")
    thinned = replace(
        runs,
        columns={name: values[kept] for name, values in runs.columns.items()},
        **{name: getattr(runs, name)[kept] for name in per_run},
    )
    return replace(data, runs=thinned)


def held_spreads(program: Density) -> npt.NDArray[np.bool_]:
    """Coordinates that the climb leaves at their start: spreads between many groups."""
    if not isinstance(program, Program) or program.structure.n_groups <= CLIMBED_SPREADS:
        return np.zeros(program.size, dtype=bool)
    spreads = ("log_spread", "log_parent_spread")
    shapes = site_shapes(program.structure)
    return np.concatenate([np.full(prod(shape), name in spreads) for name, shape in shapes.items()])


def _newton(
    x: Vector,
    evaluate: Callable[[Vector], tuple[Vector, Vector]],
    held: npt.NDArray[np.bool_],
    iterations: int,
) -> Mode:
    lengths = 2.0 ** -np.arange(LANES)
    value, gradient = (part[0] for part in evaluate(x[None]))
    for _ in range(iterations):
        hessian = dense_hessian(x, evaluate)
        hessian[held, :], hessian[:, held] = 0.0, 0.0
        whitening = dense_whitening(x, hessian)
        gradient = np.where(held, 0.0, gradient)
        direction = -whitening.covariance_times(gradient)
        decrement = float(-gradient @ direction)  # squared whitened gradient
        values, gradients = evaluate(x + lengths[:, None] * direction)
        best = int(np.argmin(values))
        if not values[best] < value:
            break
        x, value, gradient = x + lengths[best] * direction, values[best], gradients[best]
        if decrement < 1e-8:
            break
    whitening = dense_whitening(x, dense_hessian(x, evaluate))
    return _mode(x, value, np.where(held, 0.0, gradient), whitening)


def _block_newton(
    x: Vector,
    program: Program,
    evaluate: Callable[[Vector], tuple[Vector, Vector]],
    held: npt.NDArray[np.bool_],
    iterations: int,
) -> Mode:
    """L-BFGS in coordinates whitened by blocks: one a group, one for the levels above."""
    value, gradient = (part[0] for part in evaluate(x[None]))
    for _ in range(6):
        hyper, groups = block_hessian(x, program, evaluate)
        free = ~held[: len(hyper)]
        hyper = np.where(free[:, None] & free, hyper, np.diag(np.where(free, 0.0, 1.0)))
        whitening = block_whitening(x, hyper, groups)

        def objective(z: Vector, whitening: Whitening = whitening) -> tuple[float, Vector]:
            values, gradients = evaluate(whitening.apply(z)[None])
            return float(values[0]), whitening.transpose_times(np.where(held, 0.0, gradients[0]))

        options = {"maxiter": 5 * iterations, "maxcor": 30, "ftol": 1e-13, "gtol": 1e-5}
        found = scipy.optimize.minimize(
            objective, np.zeros_like(x), jac=True, method="L-BFGS-B", options=options
        )
        gain, x = value - found.fun, whitening.apply(found.x)
        value, gradient = (part[0] for part in evaluate(x[None]))
        if gain < 1e-6:
            break
    whitening = block_whitening(x, *block_hessian(x, program, evaluate))
    return _mode(x, value, np.where(held, 0.0, gradient), whitening)


def _mode(x: Vector, value: float, gradient: Vector, whitening: Whitening) -> Mode:
    steepest = float(np.abs(whitening.transpose_times(gradient)).max())
    return Mode(x=x, log_posterior=-float(value), gradient=steepest, whitening=whitening)


def dense_hessian(
    x: Vector, evaluate: Callable[[Vector], tuple[Vector, Vector]]
) -> npt.NDArray[np.float64]:
    """Hessian of the negative log posterior by central differences of its gradient."""
    steps = STEP * np.eye(len(x))
    _, up = evaluate(x + steps)
    _, down = evaluate(x - steps)
    hessian = (up - down) / (2 * STEP)
    return (hessian + hessian.T) / 2


def block_hessian(
    x: Vector, program: Program, evaluate: Callable[[Vector], tuple[Vector, Vector]]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Diagonal blocks of the Hessian: of the levels above (h, h) and of each group (g, k, k).

    Groups are independent given the levels above, so that one difference serves them all.
    """
    g, above = program.structure.n_groups, layout(program.structure)
    k = (len(x) - above) // g
    steps = np.zeros((above + k, len(x)))
    steps[:above, :above] = np.eye(above)
    for row in range(k):
        steps[above + row, above + row * g : above + (row + 1) * g] = 1.0
    _, up = evaluate(x + STEP * steps)
    _, down = evaluate(x - STEP * steps)
    change = (up - down) / (2 * STEP)
    hyper = change[:above, :above]
    groups = change[above:, above:].reshape(k, k, g).transpose(2, 0, 1)
    return (hyper + hyper.T) / 2, (groups + groups.transpose(0, 2, 1)) / 2
