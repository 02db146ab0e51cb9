"""A law over all draws of a posterior, vectorised: loss at points, and a run's noise there."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from allometry.laws import Law, Point


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
