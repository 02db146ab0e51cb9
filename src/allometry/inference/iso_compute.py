"""Where a law's loss is least along the iso-compute curve of a budget, draw by draw.

A grid over params finds the valley, whatever its shape; Newton's method on the slope of log loss
finds its bottom, inside of ends between which the slope changes its sign. Elements (one draw at one
budget of one group) are searched in blocks of one size, so that one compiled program serves
all questions and no array is larger than a block times the grid.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from allometry.accounting import CostModel
from allometry.accounting.cost import correction
from allometry.inference.evaluate import LawDraws
from allometry.inference.tilt import Tilt, tilted
from allometry.laws import Law, Point, with_naturals

HALF_WIDTH = 9.0
"""e-folds of params searched on both sides of sqrt(C / 6): tokens per param from 1e-8 to 1e8."""

GRID = 31
BLOCK = 2048
"""Elements of a block: its arrays stay in a processor's cache."""

CLOSE = 1e-7
"""e-folds of params: a Newton step that is shorter leaves an error of about its square."""

MOST_STEPS = 40
"""Where Newton's method is of no use, halvings reach `CLOSE` from the grid's step in 24."""

State = tuple[Array, Array, Array, Array, Array]
Floats = npt.NDArray[np.float64]


def compute_optimal(
    draws: LawDraws,
    cost: CostModel,
    group: npt.NDArray[np.int64],
    flops: Floats,
    *,
    tilt: Tilt | None = None,
) -> tuple[Floats, Floats, Floats]:
    """N*, D* and log loss there, each (draw, point), along C(N, D) = flops.

    Without a tilt they are the law's.

    Parameters
    ----------
    draws : LawDraws
        Coefficients at each point.
    cost : CostModel
        C(N, D) of the groups.
    group : ndarray of int, shape (point,)
        Group of each point, as the cost model counts them.
    flops : ndarray, shape (point,) or (draw, point)
        Training budgets.
    tilt : Tilt, optional
        Of the law's discrepancy; it is part of the log loss.
    """
    flat = (np.zeros(()), np.zeros(()))
    by_element = [
        np.log(np.asarray(flops, dtype=np.float64)),
        *cost.curves()[:, np.asarray(group)],
        *(flat if tilt is None else (tilt.slope, tilt.log_params)),
        *(draws.coefficients[name] for name in draws.law.names),
    ]
    shape = np.broadcast_shapes(*(np.shape(values) for values in by_element))
    by_element = [np.broadcast_to(values, shape) for values in by_element]
    units = np.array(
        [*draws.log_reference, np.log(cost.reference_params), cost.fade_above, cost.fade_below]
    )
    found = np.empty((3, *shape))
    flat_found = found.reshape(3, -1)
    size = flat_found.shape[1]
    with jax.enable_x64(True):
        for start in range(0, size, BLOCK):
            stop = min(start + BLOCK, size)
            # A last block that is not full repeats its last element.
            at = np.unravel_index(np.minimum(np.arange(start, start + BLOCK), size - 1), shape)
            block = np.stack([values[at] for values in by_element])
            flat_found[:, start:stop] = np.asarray(_search(draws.law, block, units))[
                :, : stop - start
            ]
    return np.exp(found[0]), np.exp(found[1]), found[2]


@partial(jax.jit, static_argnums=0)
def _search(
    law: Law, elements: Float[Array, "row element"], units: Float[Array, " 6"]
) -> Float[Array, "3 element"]:
    """Log N*, log D* and log loss there; rows as `compute_optimal` stacks them."""
    log_flops, curve, tilt, coefficients = elements[0], elements[1:6], elements[6:8], elements[8:]
    law_at = with_naturals(dict(zip(law.names, coefficients, strict=True)))

    def log_tokens(log_params: Array) -> Array:
        y = correction(log_params - units[3], tuple(curve), (units[4], units[5]), xp=jnp)
        tokens: Array = log_flops - jnp.log(6.0) - log_params - y
        return tokens

    def loss(log_params: Array) -> Array:
        point = Point(
            log_params=log_params - units[0],
            log_tokens=log_tokens(log_params) - units[1],
            log_reference=(units[0], units[1]),  # type: ignore[arg-type]
        )
        found: Array = law.log_loss(law_at, point) + units[2]
        found = found + tilted(tilt[0], tilt[1], log_params, xp=jnp)
        return found

    log_params = _bottom(loss, *_valley(loss, 0.5 * (log_flops - jnp.log(6.0))))
    return jnp.stack([log_params, log_tokens(log_params), loss(log_params)])


def _valley(loss: Any, middle: Array) -> tuple[Array, Array, Array]:
    """Where a parabola through the least point of a grid is least, and both of its neighbours."""
    offsets = jnp.linspace(-HALF_WIDTH, HALF_WIDTH, GRID)
    losses = jax.lax.map(lambda offset: loss(middle + offset), offsets)
    best = jnp.argmin(losses, axis=0)
    inner = jnp.clip(best, 1, GRID - 2)
    before, here, after = (
        jnp.take_along_axis(losses, (inner + k)[None], axis=0)[0] for k in (-1, 0, 1)
    )
    step = offsets[1] - offsets[0]
    low, high = middle + offsets[inner] - step, middle + offsets[inner] + step
    vertex = middle + offsets[inner] + 0.5 * step * (before - after) / (before - 2 * here + after)
    at_best = middle + offsets[best]
    return jnp.where((vertex > low) & (vertex < high), vertex, at_best), low, high


def _bottom(loss: Any, start: Array, low: Array, high: Array) -> Array:
    """Where the slope is zero: Newton, or a halving where it leaves the ends or is slow."""

    def slope(x: Array) -> Array:
        found: Array = jax.jvp(loss, (x,), (jnp.ones_like(x),))[1]
        return found

    def step(state: State) -> State:
        x, low, high, last, count = state
        first, second = jax.jvp(slope, (x,), (jnp.ones_like(x),))
        low, high = jnp.where(first < 0, x, low), jnp.where(first < 0, high, x)
        newton = x - first / second
        good = (newton >= low) & (newton <= high) & (jnp.abs(newton - x) < 0.5 * last)
        new = jnp.where(good, newton, 0.5 * (low + high))
        done = last <= CLOSE  # rounding would send it away again
        new, moved = jnp.where(done, x, new), jnp.where(done, last, jnp.abs(new - x))
        return new, low, high, moved, count + 1

    def unfinished(state: State) -> Array:
        return (state[3].max() > CLOSE) & (state[4] < MOST_STEPS)

    first = (start, low, high, 4.0 * (high - low), jnp.zeros((), dtype=jnp.int32))
    return jax.lax.while_loop(unfinished, step, first)[0]
