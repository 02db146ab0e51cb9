"""The law of Kaplan et al.: no irreducible loss, one bend between the two resources."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from allometry.laws.base import Coefficient, Coefficients, Law, Point, Scale, register_law
from allometry.laws.smooth import log_add_exp, natural


def _terms(c: Coefficients, at: Point) -> tuple[Float[Array, "*points"], Float[Array, "*points"]]:
    log_u = c["log_u"] - natural(c, "alpha") * at.log_params
    log_v = c["log_v"] - natural(c, "beta") * at.log_tokens
    return log_u, log_v


def _log_loss(c: Coefficients, at: Point) -> Float[Array, "*points"]:
    log_u, log_v = _terms(c, at)
    beta = natural(c, "beta")  # the study's alpha_D is the exponent of both the bend and D
    return beta * log_add_exp(log_u / beta, log_v / beta)


def _imbalance(c: Coefficients, at: Point) -> Float[Array, "*points"]:
    log_u, log_v = _terms(c, at)
    return c["log_alpha"] + log_u - c["log_beta"] - log_v


def _published(c: Coefficients, scale: Scale) -> dict[str, Float[Array, "*points"]]:
    alpha, beta = jnp.exp(c["log_alpha"]), jnp.exp(c["log_beta"])
    return {
        "E": jnp.zeros_like(alpha),
        "A": scale.loss * jnp.exp(c["log_u"] + alpha * jnp.log(scale.params)),
        "B": scale.loss * jnp.exp(c["log_v"] + beta * jnp.log(scale.tokens)),
        "alpha": alpha,
        "beta": beta,
    }


def _rereference(
    c: Float[Array, "k *batch"], shift: Float[Array, " 3"]
) -> Float[Array, "k *batch"]:
    # The bend is homogeneous of degree one in u and v, so both scale with the loss.
    log_u = c[0] - jnp.exp(c[2]) * shift[0] - shift[2]
    log_v = c[1] - jnp.exp(c[3]) * shift[1] - shift[2]
    return jnp.stack([log_u, log_v, *c[2:]])


KAPLAN = register_law(
    Law(
        name="kaplan",
        formula="L = ((A N^-alpha)^(1/beta) + (B D^-beta)^(1/beta))^beta",
        reference="Kaplan et al. 2020, arXiv:2001.08361, eq. 1.5: A = N_c^alpha, B = D_c^beta",
        coefficients=(
            Coefficient(
                name="log_u",
                meaning="log of the loss of infinite data over the reference loss, at N0",
                loc=-0.2,
                scale=0.4,
                between=0.1,
            ),
            Coefficient(
                name="log_v",
                meaning="log of the loss of infinite params over the reference loss, at D0",
                loc=-0.2,
                scale=0.4,
                between=0.1,
            ),
            Coefficient(
                name="log_alpha",
                meaning="log of the params exponent; 0.076 in the original",
                loc=-2.6,
                scale=0.5,
                between=0.1,
            ),
            Coefficient(
                name="log_beta",
                meaning="log of the tokens exponent; 0.095 in the original",
                loc=-2.35,
                scale=0.5,
                between=0.1,
            ),
        ),
        log_loss=_log_loss,
        published=_published,
        imbalance=_imbalance,
        rereference=_rereference,
    )
)
"""Without irreducible loss: for comparison, it bends too little at large compute."""
