"""A law over all draws of a posterior, vectorised: loss at points, and along iso-compute curves."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from allometry.accounting import CostModel
from allometry.laws import Law, Point

HALF_WIDTH = 9.0
"""e-folds of params searched on both sides of sqrt(C / 6): tokens per param from 1e-8 to 1e8."""

GRID = 61
GOLDEN_STEPS = 36
GOLDEN = (5**0.5 - 1) / 2

TILT_REACH = 4.0
"""e-folds of params on both sides of the optimum beyond which a tilt goes no further."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LawDraws:
    """Draws of a law's coefficients at some points, shape (draw, point) each, and its units.

    Attributes
    ----------
    law : Law
    coefficients : dict of ndarray, shape (draw, point)
    log_reference : tuple of float
        log N0, log D0, log L0.
    """

    law: Law
    coefficients: Mapping[str, npt.NDArray[np.float64]]
    log_reference: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tilt:
    """What a discrepancy adds to log loss along the iso-compute curve of a budget.

    Attributes
    ----------
    slope : ndarray, shape (draw, point)
        Per e-fold of params.
    log_params : ndarray, shape (point,) or (draw, point)
        Where it adds nothing.
    """

    slope: npt.NDArray[np.float64]
    log_params: npt.NDArray[np.float64]

    def at(self, log_params: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """What it adds at params, (draw, point)."""
        return np.asarray(_tilted(self.slope, self.log_params, log_params, xp=np))


def _tilted(slope: Any, middle: Any, log_params: Any, *, xp: Any) -> Any:
    return slope * TILT_REACH * xp.tanh((log_params - middle) / TILT_REACH)


@partial(jax.jit, static_argnums=0)
def _at(
    law: Law,
    coefficients: Mapping[str, Float[Array, "draw point"]],
    log_params: Float[Array, "... point"],
    log_tokens: Float[Array, "... point"],
    columns: Mapping[str, Float[Array, " point"]],
    reference: Float[Array, " 3"],
) -> tuple[Float[Array, "draw point"], Float[Array, "draw point"]]:
    point = Point(
        log_params=log_params - reference[0],
        log_tokens=log_tokens - reference[1],
        columns=columns,
        log_reference=(reference[0], reference[1]),  # type: ignore[arg-type]
    )
    log_loss = law.log_loss(coefficients, point) + reference[2]
    return log_loss, law.imbalance(coefficients, point)


def log_loss_at(
    draws: LawDraws,
    params: npt.NDArray[np.float64],
    tokens: npt.NDArray[np.float64],
    columns: Mapping[str, npt.NDArray[np.float64]] | None = None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Log loss (of the law, in the table's unit) and imbalance t, each (draw, point).

    `params` and `tokens` have shape (point,) or (draw, point).
    """
    with jax.enable_x64(True):
        found = _at(
            draws.law,
            {name: jnp.asarray(value) for name, value in draws.coefficients.items()},
            jnp.log(jnp.asarray(params, dtype=jnp.float64)),
            jnp.log(jnp.asarray(tokens, dtype=jnp.float64)),
            {name: jnp.asarray(value) for name, value in (columns or {}).items()},
            jnp.asarray(draws.log_reference),
        )
        return np.asarray(found[0]), np.asarray(found[1])


@partial(jax.jit, static_argnums=(0, 1))
def _optimum(
    law: Law,
    cost: CostModel,
    coefficients: Mapping[str, Float[Array, "draw point"]],
    group: Array,
    log_flops: Float[Array, "... point"],
    reference: Float[Array, " 3"],
    tilt: tuple[Float[Array, "... point"], Float[Array, "... point"]],
) -> tuple[Float[Array, "draw point"], Float[Array, "draw point"], Float[Array, "draw point"]]:
    def loss(log_params: Array) -> Array:
        log_cost = jnp.log(6.0) + log_params + cost.log_correction(group, log_params, xp=jnp)
        at: Any = (log_params, log_flops - log_cost, {}, reference)
        found: Array = _at(law, coefficients, *at)[0] + _tilted(*tilt, log_params, xp=jnp)
        return found

    shape = jnp.broadcast_shapes(jnp.shape(log_flops), next(iter(coefficients.values())).shape)
    middle = jnp.broadcast_to(0.5 * (log_flops - jnp.log(6.0)), shape)
    offsets = jnp.linspace(-HALF_WIDTH, HALF_WIDTH, GRID)
    losses = jax.lax.map(lambda offset: loss(middle + offset), offsets)
    best = jnp.clip(jnp.argmin(losses, axis=0), 1, GRID - 2)
    width = offsets[1] - offsets[0]
    low, high = middle + offsets[best] - width, middle + offsets[best] + width

    def narrow(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        keep_left = loss(left) < loss(right)
        return jnp.where(keep_left, low, left), jnp.where(keep_left, right, high)

    low, high = jax.lax.fori_loop(0, GOLDEN_STEPS, narrow, (low, high))
    log_params = (low + high) / 2
    log_cost = jnp.log(6.0) + log_params + cost.log_correction(group, log_params, xp=jnp)
    return log_params, log_flops - log_cost, loss(log_params)


def compute_optimal(
    draws: LawDraws,
    cost: CostModel,
    group: npt.NDArray[np.int64],
    flops: npt.NDArray[np.float64],
    *,
    tilt: Tilt | None = None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
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
    flat = (np.zeros(len(group)), np.zeros(len(group)))
    with jax.enable_x64(True):
        found = _optimum(
            draws.law,
            cost,
            {name: jnp.asarray(value) for name, value in draws.coefficients.items()},
            jnp.asarray(group),
            jnp.log(jnp.asarray(flops, dtype=jnp.float64)),
            jnp.asarray(draws.log_reference),
            flat if tilt is None else (jnp.asarray(tilt.slope), jnp.asarray(tilt.log_params)),
        )
        log_params, log_tokens, log_loss = (np.asarray(part) for part in found)
    return np.exp(log_params), np.exp(log_tokens), log_loss


def run_noise(
    log_noise: npt.NDArray[np.float64],
    log_off_valley: npt.NDArray[np.float64],
    imbalance: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Scale of a new run's log loss around the law, (draw, point).

    `log_noise` is (draw, point), `log_off_valley` (draw,).
    """
    variance = np.exp(2 * log_noise) + np.exp(2 * log_off_valley)[:, None] * imbalance**4
    return np.asarray(np.sqrt(variance))
