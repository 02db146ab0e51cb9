"""A law whose return on tokens depends on the size of the model."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from allometry.laws.base import Coefficient, Coefficients, Law, Point, Scale, register_law
from allometry.laws.smooth import log_add_exp, natural
from allometry.laws.two_term import CHINCHILLA, TWO_TERM_GEOMETRY

MOST_BEND = 0.5
"""Largest change of log beta for an e-fold of N that the law can express, by a tanh."""


def _terms(c: Coefficients, at: Point) -> tuple[Float[Array, "*points"], Float[Array, "*points"]]:
    log_u = c["log_u"] - natural(c, "alpha") * at.log_params
    bend = MOST_BEND * jnp.tanh(c["beta_slope"] / MOST_BEND)
    # exp(tanh): beta changes with N and stays between a third and three times its value at N0.
    beta = jnp.exp(c["log_beta"] + jnp.tanh(bend * at.log_params))
    log_v = c["log_v"] + c["v_slope"] * at.log_params - beta * at.log_tokens
    return log_u, log_v


def _log_loss(c: Coefficients, at: Point) -> Float[Array, "*points"]:
    return log_add_exp(c["log_E"], log_add_exp(*_terms(c, at)))


def _imbalance(c: Coefficients, at: Point) -> Float[Array, "*points"]:
    log_u, log_v = _terms(c, at)
    return c["log_alpha"] + log_u - c["log_beta"] - log_v


def _published(c: Coefficients, scale: Scale) -> dict[str, Float[Array, "*points"]]:
    return CHINCHILLA.published(c, scale) | {
        "v_slope": c["v_slope"],
        "beta_slope": MOST_BEND * jnp.tanh(c["beta_slope"] / MOST_BEND),
    }


INTERACTION = register_law(
    Law(
        name="interaction",
        formula="L = E + A N^-alpha + B(N) D^-beta(N), B and beta changing with log N around N0",
        reference="in the spirit of Farseer, arXiv:2506.10972, with two slopes instead of powers",
        coefficients=(
            *CHINCHILLA.coefficients,
            Coefficient(
                name="v_slope",
                meaning="change of log B for an e-fold of params; zero is the additive law",
                loc=0.0,
                scale=0.1,
                between=0.02,
            ),
            Coefficient(
                name="beta_slope",
                meaning="change of log beta for an e-fold of params; zero is the additive law",
                loc=0.0,
                scale=0.1,
                between=0.02,
            ),
        ),
        log_loss=_log_loss,
        published=_published,
        imbalance=_imbalance,
        geometry=TWO_TERM_GEOMETRY,
    )
)
"""For dense grids of runs: seven coefficients want budgets and sizes to spare."""
