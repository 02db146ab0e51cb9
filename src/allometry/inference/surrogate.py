r"""Many runs: NUTS on the exact prior times a Gaussian likelihood, corrected by exact weights.

With thousands of runs in a group the likelihood of its coefficients is a parabola over the width of
the posterior, while populations and spreads, which only groups inform, stay as skewed as ever. So
the log likelihood :math:`\ell` alone is replaced by its expansion at the mode,

.. math:: \ell(\hat x) + g'(x - \hat x) - \tfrac12 (x - \hat x)' H (x - \hat x),

which costs the same for any number of runs; NUTS draws from the product, and one exact density a
draw gives the weights. Their tail index says whether the expansion holds.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from allometry.inference.coordinates import Data, Program
from allometry.inference.hessian import dense_hessian
from allometry.inference.importance import Weighed, evaluated, resample
from allometry.inference.laplace import log_posteriors
from allometry.inference.mode import Mode, evaluator
from allometry.inference.model import RunArrays
from allometry.inference.nuts import Progress, sample

MANY_RUNS = 8192
"""Runs (padded) from which on `laplace` tries this before it gives up."""

PROPOSALS = 4000
NONE_LEFT = 8
"""Runs of weight zero that stand for no runs, so that the prior is the same program."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["prior", "centre", "gradient", "curvature"],
    meta_fields=[],
)
@dataclass(frozen=True, kw_only=True, slots=True)
class Expansion:
    """The model without its runs, and their log likelihood to second order.

    Attributes
    ----------
    prior : Data
        The same priors with no runs.
    centre, gradient : shape (d,)
        Where the log likelihood is expanded, and its gradient there.
    curvature : shape (d, d)
        Minus its Hessian there, positive semidefinite.
    """

    prior: Data
    centre: Float[Array, " d"]
    gradient: Float[Array, " d"]
    curvature: Float[Array, "d d"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Surrogate:
    """Density of the prior times the expanded likelihood."""

    program: Program

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return self.program.size

    def log_density(self, x: Float[Array, " d"], data: Any) -> Float[Array, ""]:
        """Log joint density of a flat vector, up to a constant."""
        step = x - data.centre
        likelihood = data.gradient @ step - 0.5 * step @ (data.curvature @ step)
        joint: Float[Array, ""] = self.program.log_density(x, data.prior) + likelihood
        return joint


@partial(jax.jit, static_argnums=1)
def _densities(
    x: Float[Array, "draw d"], program: Surrogate, data: Expansion
) -> Float[Array, " draw"]:
    return jax.vmap(lambda point: program.log_density(point, data))(x)


def surrogate_draws(
    mode: Mode,
    program: Program,
    data: Data,
    *,
    draws: int,
    seed: int,
    workers: int,
    progress: Progress | None = None,
) -> Weighed:
    """Draws of the posterior by weights on NUTS draws of the surrogate."""
    expansion = expand(mode, program, data)
    surrogate = Surrogate(program=program)
    chains = sample(
        surrogate,
        expansion,
        mode.whitening,
        chains=4,
        warmup=200,
        draws=PROPOSALS // 4,
        seed=seed,
        workers=workers,
        progress=progress,
    )
    x = chains.x.reshape(-1, program.size)
    approximate = evaluated(x, lambda part: _densities(part, surrogate, expansion))
    log_ratio = log_posteriors(x, program, data) - approximate
    return resample(x, log_ratio, draws=draws, rng=np.random.default_rng([seed, 8]))


def expand(mode: Mode, program: Program, data: Data) -> Expansion:
    """The log likelihood to second order: of the posterior less that of the prior."""
    prior = replace(data, runs=without_runs(data.runs))
    x = mode.x
    derivatives = []
    for part in (data, prior):
        evaluate = evaluator(program, part)
        derivatives.append((evaluate(x[None])[1][0], dense_hessian(x, evaluate)))
    (gradient, hessian), (prior_gradient, prior_hessian) = derivatives
    values, vectors = np.linalg.eigh(hessian - prior_hessian)
    curvature = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return Expansion(
        prior=prior,
        centre=jnp.asarray(x),
        gradient=jnp.asarray(prior_gradient - gradient),  # of the negative log density
        curvature=jnp.asarray(curvature),
    )


def without_runs(runs: RunArrays) -> RunArrays:
    """Arrays of the same groups that hold no run."""
    nothing: npt.NDArray[np.int64] = np.zeros(NONE_LEFT, dtype=np.int64)
    kept = runs.take(nothing)
    return replace(kept, weight=jnp.zeros(NONE_LEFT))
