r"""Repeated data: tokens seen again are worth less, and large models waste them.

D' = U_D (1 + R_D^* (1 - e^{-R_D / R_D^*})), with U_D unique tokens and R_D = epochs - 1
repetitions, and likewise N' from U_N, the params that U_D would deserve. With one epoch D' = D, and
a model no larger than U_N has N' = N, so the law is the p-norm's sibling with p = 1.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from allometry.laws.base import Coefficient, Coefficients, Law, Point, Scale, register_law
from allometry.laws.smooth import natural
from allometry.laws.two_term import CHINCHILLA, TWO_TERM_GEOMETRY, rereference_two_terms


def effective_resources(
    c: Coefficients, at: Point
) -> tuple[Float[Array, "*points"], Float[Array, "*points"]]:
    """log(N'/N0) and log(D'/D0): what the run is worth without repetition."""
    epochs = jnp.maximum(at.columns["epochs"], 1.0)
    log_unique = at.log_tokens - jnp.log(epochs)
    log_effective_tokens = log_unique + saturated(epochs - 1.0, natural(c, "repeats_tokens"))
    # Compute-optimal params for the unique tokens alone: alpha u = beta v along C = 6 N D.
    alpha, beta = natural(c, "alpha"), natural(c, "beta")
    log_deserved = (
        c["log_alpha"] + c["log_u"] - c["log_beta"] - c["log_v"] + beta * log_unique
    ) / alpha
    log_base = jnp.minimum(log_deserved, at.log_params)
    excess = jnp.expm1(at.log_params - log_base)  # R_N = N / U_N - 1, zero for a model that is not
    log_effective_params = log_base + saturated(excess, natural(c, "repeats_params"))
    return log_effective_params, log_effective_tokens


def saturated(repeats: Float[Array, "*points"], worth: Float[Array, "*points"]) -> Array:
    """log(1 + R* (1 - e^(-R / R*)))."""
    return jnp.log1p(-worth * jnp.expm1(-repeats / worth))


def _log_loss(c: Coefficients, at: Point) -> Float[Array, "*points"]:
    log_params, log_tokens = effective_resources(c, at)
    return CHINCHILLA.log_loss(c, Point(log_params=log_params, log_tokens=log_tokens))


def _imbalance(c: Coefficients, at: Point) -> Float[Array, "*points"]:
    log_params, log_tokens = effective_resources(c, at)
    return CHINCHILLA.imbalance(c, Point(log_params=log_params, log_tokens=log_tokens))


def _published(c: Coefficients, scale: Scale) -> dict[str, Float[Array, "*points"]]:
    return CHINCHILLA.published(c, scale) | {
        "R_D": jnp.exp(c["log_repeats_tokens"]),
        "R_N": jnp.exp(c["log_repeats_params"]),
    }


REPETITION = register_law(
    Law(
        name="repetition",
        formula="L = E + A N'^-alpha + B D'^-beta, N' and D' discounted for repetition",
        reference="Muennighoff et al. 2023, arXiv:2305.16264, eq. 5 and 6",
        coefficients=(
            *CHINCHILLA.coefficients,
            Coefficient(
                name="log_repeats_tokens",
                meaning="log of R_D*: repeats after which more are worth little; 15.4 published",
                loc=2.3,  # log 10
                scale=0.8,
                between=0.2,
            ),
            Coefficient(
                name="log_repeats_params",
                meaning="log of R_N*: the same for excess params; 5.3 published",
                loc=1.6,  # log 5
                scale=0.8,
                between=0.2,
            ),
        ),
        log_loss=_log_loss,
        published=_published,
        imbalance=_imbalance,
        geometry=TWO_TERM_GEOMETRY,
        columns=("epochs",),
        rereference=rereference_two_terms,  # effective resources move with the reference run
    )
)
"""For tables with an ``epochs`` column (tokens seen over unique tokens)."""
