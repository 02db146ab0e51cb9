"""The noise of many thin groups, where the posterior is and not where its mode would be.

Groups with about as many runs as coefficients can follow every run: towards no noise at all the
joint density of such a table rises until the prior stops it, and its mode is a spike that holds
nothing of the posterior. A climb therefore holds the noise, and moves it between climbs towards the
mode of its marginal posterior, by EM over the Gaussian approximation. (The spreads of such groups
need no holding: see `conditional`.)
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from allometry.inference.coordinates import Data, Program, to_sites
from allometry.inference.model import STUDENT_DF, Structure, expected_log_loss
from allometry.laws import Law

THIN = 1.5
"""Runs a coefficient of their groups below which tables of many groups have no mode in noise."""

CLIMBED_LEVELS = 8
"""Groups up to which the climb moves spreads and noise as any other coordinate."""

NOISE = ("log_noise", "log_off_valley")
"""Sites that are held."""

Values = npt.NDArray[np.float64]


def is_thin(structure: Structure, runs: int) -> bool:
    """Whether there are many groups that have hardly more runs than coefficients."""
    few = runs < THIN * structure.n_coefficients * structure.n_groups
    return structure.n_groups > CLIMBED_LEVELS and few


def thin_advice(law: Law, runs_per_group: npt.NDArray[np.int64]) -> str:
    """What to do where a fit of many thin groups did not converge."""
    few = int((runs_per_group < THIN * len(law.names)).sum())
    return (
        f"{few} of {len(runs_per_group)} groups have hardly more runs than {law.name} has "
        f"coefficients ({len(law.names)}), or fewer: group by fewer columns (--by), leave such "
        f"groups out (--exclude), add runs to them, or use a law with fewer coefficients (--law)"
    )


def learned_noise(points: Values, program: Program, data: Data) -> dict[str, Values]:
    """One EM step: noise sites given draws of everything else, shape (draw, d)."""
    import scipy.optimize  # a sixth of a second, which studies of few groups need not wait

    squares, quartic, offset = map(np.asarray, _residuals(points, program, data))
    known = np.asarray(data.runs.relative_stderr) ** 2
    weight = np.asarray(data.runs.weight)
    centre, scale = np.stack([data.priors.noise, data.priors.off_valley], axis=1)

    def negative(levels: Values) -> float:
        near, far = np.exp(2 * levels)
        variance = near * offset + far * quartic + known
        tails = (STUDENT_DF + 1) / 2 * np.log1p(squares / (STUDENT_DF * variance))
        expected = ((np.log(variance) / 2 + tails) * weight).sum() / len(points)
        return float(expected + (((levels - centre) / scale) ** 2).sum() / 2)

    found = scipy.optimize.minimize(negative, centre, method="Nelder-Mead", options={"xatol": 1e-3})
    return {name: np.asarray(value) for name, value in zip(NOISE, found.x, strict=True)}


@partial(jax.jit, static_argnums=1)
def _residuals(
    points: Float[Array, "draw d"], program: Program, data: Data
) -> tuple[Array, Array, Array]:
    """Squared residual, t^4 and squared factor of the group's noise; each (draw, run)."""

    def one(x: Float[Array, " d"]) -> tuple[Array, Array, Array]:
        sites, _ = to_sites(x, program, data)
        mean, imbalance = expected_log_loss(program.law, sites["theta"], data.runs)
        factor = jnp.exp(2 * sites["noise_offset"])[data.runs.group]
        return (data.runs.log_loss - mean) ** 2, imbalance**4, factor

    return jax.vmap(one)(points)
