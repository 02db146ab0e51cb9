r"""Laws with one term in N and one in D: additive, p-norm, and the study's gamma form.

With u = A N^-alpha and v = B D^-beta, all three are L = E + (u^p + v^p)^(1/p). The additive law has
p = 1. The gamma form (A' N^-alpha' + B' D^-beta')^gamma is the same curve with gamma = 1/p and
primed exponents p times larger; it is sampled as a p-norm and only *reported* in its own units,
because p, A' and alpha' are hardly separable to a sampler.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from allometry.laws.base import (
    Coefficient,
    Coefficients,
    Geometry,
    Law,
    Point,
    Scale,
    register_law,
)
from allometry.laws.smooth import log_add_exp, natural

_LOG_E = Coefficient(
    name="log_E",
    meaning="log of E over the reference loss: the irreducible part is one half to nine tenths "
    "of the loss of a typical run, whatever the unit of loss",
    loc=-0.43,  # log 0.65
    scale=0.30,
    between=0.05,
)
_LOG_U = Coefficient(
    name="log_u",
    meaning="log of the params term over the reference loss, at the reference run",
    loc=-1.9,  # log 0.15
    scale=0.7,
    between=0.12,
)
_LOG_V = Coefficient(
    name="log_v",
    meaning="log of the tokens term over the reference loss, at the reference run",
    loc=-1.9,
    scale=0.7,
    between=0.12,
)
_LOG_ALPHA = Coefficient(
    name="log_alpha",
    meaning="log of the params exponent: public fits lie between 0.15 and 0.7",
    loc=-1.1,  # log 0.33
    scale=0.35,
    between=0.08,
)
_LOG_BETA = Coefficient(
    name="log_beta",
    meaning="log of the tokens exponent: public fits lie between 0.15 and 0.7",
    loc=-1.05,  # log 0.35
    scale=0.35,
    between=0.08,
)
_LOG_GAMMA = Coefficient(
    name="log_gamma",
    meaning="log of gamma = 1/p: below zero the terms add less than in the additive law",
    loc=-0.35,
    scale=0.5,
    between=0.08,
)


def _terms(c: Coefficients, at: Point) -> tuple[Float[Array, "*points"], Float[Array, "*points"]]:
    log_u = c["log_u"] - natural(c, "alpha") * at.log_params
    log_v = c["log_v"] - natural(c, "beta") * at.log_tokens
    return log_u, log_v


def _additive(c: Coefficients, at: Point) -> Float[Array, "*points"]:
    log_u, log_v = _terms(c, at)
    return log_add_exp(c["log_E"], log_add_exp(log_u, log_v))


def _pnorm(c: Coefficients, at: Point) -> Float[Array, "*points"]:
    log_u, log_v = _terms(c, at)
    gamma = natural(c, "gamma")
    return log_add_exp(c["log_E"], gamma * log_add_exp(log_u / gamma, log_v / gamma))


def _imbalance(c: Coefficients, at: Point) -> Float[Array, "*points"]:
    log_u, log_v = _terms(c, at)
    return c["log_alpha"] + log_u - c["log_beta"] - log_v


def _published_additive(c: Coefficients, scale: Scale) -> dict[str, Float[Array, "*points"]]:
    alpha, beta = jnp.exp(c["log_alpha"]), jnp.exp(c["log_beta"])
    return {
        "E": scale.loss * jnp.exp(c["log_E"]),
        "A": scale.loss * jnp.exp(c["log_u"] + alpha * jnp.log(scale.params)),
        "B": scale.loss * jnp.exp(c["log_v"] + beta * jnp.log(scale.tokens)),
        "alpha": alpha,
        "beta": beta,
    }


def _published_pnorm(c: Coefficients, scale: Scale) -> dict[str, Float[Array, "*points"]]:
    return _published_additive(c, scale) | {"gamma": jnp.exp(c["log_gamma"])}


def _published_gamma(c: Coefficients, scale: Scale) -> dict[str, Float[Array, "*points"]]:
    gamma = jnp.exp(c["log_gamma"])
    inner = _published_additive(c, scale)
    return {
        "E": inner["E"],
        "A": inner["A"] ** (1 / gamma),
        "B": inner["B"] ** (1 / gamma),
        "alpha": inner["alpha"] / gamma,
        "beta": inner["beta"] / gamma,
        "gamma": gamma,
    }


def rereference_two_terms(
    c: Float[Array, "k *batch"], shift: Float[Array, " 3"]
) -> Float[Array, "k *batch"]:
    """Coefficients of the same curve relative to another run; `shift` is log(new / old).

    The rows are log_E, log_u, log_v, log_alpha, log_beta and others that keep their value.
    """
    log_u = c[1] - jnp.exp(c[3]) * shift[0] - shift[2]
    log_v = c[2] - jnp.exp(c[4]) * shift[1] - shift[2]
    return jnp.stack([c[0] - shift[2], log_u, log_v, *c[3:]])


def _forward(x: Float[Array, "k *batch"]) -> Float[Array, "k *batch"]:
    """Coefficients from what the data determine at the reference run.

    Coordinates: log loss there; logs of the (negative) slopes of log loss in log N and log D;
    logit of the reducible share; logit of the share of u in it; and log gamma if there is one.
    """
    log_loss, log_slope_n, log_slope_d, reducible, share = x[:5]
    gamma = jnp.exp(x[5]) if x.shape[0] == 6 else jnp.ones_like(log_loss)
    log_reducible = log_loss + jax.nn.log_sigmoid(reducible)
    of_u, of_v = jax.nn.log_sigmoid(share), jax.nn.log_sigmoid(-share)
    log_phi = jax.nn.log_sigmoid(reducible)
    rows = [
        log_loss + jax.nn.log_sigmoid(-reducible),
        log_reducible + gamma * of_u,
        log_reducible + gamma * of_v,
        log_slope_n - log_phi - of_u,
        log_slope_d - log_phi - of_v,
    ]
    return jnp.stack([*rows, *x[5:]])


def _inverse(c: Float[Array, "k *batch"]) -> Float[Array, "k *batch"]:
    log_e, log_u, log_v, log_alpha, log_beta = c[:5]
    gamma = jnp.exp(c[5]) if c.shape[0] == 6 else jnp.ones_like(log_e)
    log_reducible = gamma * log_add_exp(log_u / gamma, log_v / gamma)
    share = (log_u - log_v) / gamma
    reducible = log_reducible - log_e
    log_phi = jax.nn.log_sigmoid(reducible)
    rows = [
        log_add_exp(log_e, log_reducible),
        log_alpha + log_phi + jax.nn.log_sigmoid(share),
        log_beta + log_phi + jax.nn.log_sigmoid(-share),
        reducible,
        share,
    ]
    return jnp.stack([*rows, *c[5:]])


def _log_det(x: Float[Array, "k *batch"]) -> Float[Array, "*batch"]:
    # (log_loss, reducible) -> (log_E, log_reducible) has determinant 1; (log_reducible, share) ->
    # (log_u, log_v) has gamma; the rest is triangular with ones.
    return x[5] if x.shape[0] == 6 else jnp.zeros_like(x[0])


TWO_TERM_GEOMETRY = Geometry(forward=_forward, inverse=_inverse, log_det=_log_det, unmoved=5)
"""Of the five coefficients, with log_gamma as a sixth; with two more they are left as they are."""

_ADDITIVE_COEFFICIENTS = (_LOG_E, _LOG_U, _LOG_V, _LOG_ALPHA, _LOG_BETA)

CHINCHILLA = register_law(
    Law(
        name="chinchilla",
        formula="L = E + A N^-alpha + B D^-beta",
        reference="Hoffmann et al. 2022, arXiv:2203.15556, eq. 2",
        coefficients=_ADDITIVE_COEFFICIENTS,
        log_loss=_additive,
        published=_published_additive,
        imbalance=_imbalance,
        geometry=TWO_TERM_GEOMETRY,
        rereference=rereference_two_terms,
    )
)
"""The additive law."""

PNORM = register_law(
    Law(
        name="pnorm",
        formula="L = E + ((A N^-alpha)^(1/gamma) + (B D^-beta)^(1/gamma))^gamma",
        reference="the gamma law of arXiv:2510.02228 with u and v that keep their meaning",
        coefficients=(*_ADDITIVE_COEFFICIENTS, _LOG_GAMMA),
        log_loss=_pnorm,
        published=_published_pnorm,
        imbalance=_imbalance,
        geometry=TWO_TERM_GEOMETRY,
        rereference=rereference_two_terms,
    )
)
"""The default: a p-norm of the two terms, p = 1/gamma."""

GAMMA = register_law(
    Law(
        name="gamma",
        formula="L = E + (A N^-alpha + B D^-beta)^gamma",
        reference="xLSTM Scaling Laws, arXiv:2510.02228",
        coefficients=(*_ADDITIVE_COEFFICIENTS, _LOG_GAMMA),
        log_loss=_pnorm,
        published=_published_gamma,
        imbalance=_imbalance,
        geometry=TWO_TERM_GEOMETRY,
        rereference=rereference_two_terms,
    )
)
"""The study's form: the curve of `PNORM`, reported with its own A, B, alpha, beta, gamma."""
