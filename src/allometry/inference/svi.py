"""Variational inference, checked: a Gaussian fitted to the posterior, then weighed by it.

NumPyro's SVI maximises the evidence bound of a Gaussian in whitened coordinates, from the Laplace
approximation: full in few dimensions, diagonal in many. The Gaussian is never taken for the
posterior: its draws are resampled by importance weights, whose tail index says whether it will do.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.infer import SVI, Trace_ELBO, init_to_value
from numpyro.infer.autoguide import AutoDiagonalNormal, AutoMultivariateNormal

from allometry.inference.coordinates import Data, Program
from allometry.inference.importance import Weighed, resample
from allometry.inference.laplace import log_posteriors
from allometry.inference.mode import DENSE_LIMIT, Mode

STEPS = 1500
PARTICLES = 8
"""Draws of the Gaussian for a gradient of the bound."""

RATES = (0.03, 0.001)
"""First and last step of Adam: the Laplace approximation is off by tenths of a unit, not more."""

PROPOSALS = 4000


def svi_draws(mode: Mode, program: Program, data: Data, *, draws: int, seed: int) -> Weighed:
    """Draws of the posterior by importance resampling of a variational Gaussian.

    Parameters
    ----------
    mode : Mode
        The mode, whose whitening the Gaussian starts from.
    draws : int
        Draws wanted.
    seed : int
        Seed of the bound's gradients, the proposals and the resampling.
    """
    d = program.size

    def target(data: Data) -> None:
        z = numpyro.sample("z", dist.ImproperUniform(dist.constraints.real_vector, (), (d,)))
        with numpyro.handlers.block():  # the model's own sites are not the variational ones
            density = program.log_density(mode.whitening.apply_traced(z), data)
        numpyro.factor("density", density)

    kind = AutoMultivariateNormal if d <= DENSE_LIMIT else AutoDiagonalNormal
    centre = init_to_value(values={"z": jnp.zeros(d)})
    guide = kind(target, init_loc_fn=centre, init_scale=1.0)
    first, last = RATES

    def rate(step: Any) -> Any:
        return first * (last / first) ** (step / STEPS)

    svi = SVI(target, guide, numpyro.optim.Adam(rate), Trace_ELBO(num_particles=PARTICLES))
    key, fit_key = jax.random.split(jax.random.key(seed))
    found = svi.run(fit_key, STEPS, data, progress_bar=False)
    gaussian = guide.get_posterior(found.params)
    z = gaussian.sample(key, (PROPOSALS,))
    proposal: Float[Array, " draw"] = gaussian.log_prob(z)
    x = mode.whitening.apply(np.asarray(z))
    log_ratio = log_posteriors(x, program, data) - np.asarray(proposal)
    return resample(x, log_ratio, draws=draws, rng=np.random.default_rng([seed, 9]))
