r"""Too few unique tokens: params and epochs under the law of repeated data.

Tokens that are seen again are worth less: with U unique tokens and R = epochs - 1 repetitions,
``D' = U (1 + R* (1 - exp(-R / R*)))``, and params beyond what U deserves are worth less likewise
(Muennighoff et al. 2023, arXiv:2305.16264, eq. 5 and 6). A posterior that was fitted under the
``repetition`` law knows both R*; any other two-term law can borrow the published ones, if asked to.
"""

from dataclasses import replace
from typing import Unpack

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pandas as pd
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from allometry.accounting import CostModel
from allometry.decisions.asking import Which, ask, group_columns
from allometry.decisions.grids import least
from allometry.decisions.optimum import off_optimum, optimum
from allometry.decisions.outlook import law_draws, reach_columns, with_noise
from allometry.decisions.questions import check_budgets
from allometry.errors import InputError
from allometry.inference import Posterior, interval_columns
from allometry.inference.evaluate import LawDraws, log_loss_at
from allometry.laws import Law, Point, get_law
from allometry.laws.base import Coefficients
from allometry.laws.repetition import saturated

PUBLISHED_REPEATS = {"log_repeats_tokens": 15.387756, "log_repeats_params": 5.309743}
"""R_D* and R_N* of Muennighoff et al. 2023, section 5 and appendix A, fitted to C4 in nats."""

TWO_TERM = ("chinchilla", "pnorm", "gamma")
"""Laws in u and v that can borrow the published repetition."""

GRID = 241
HALF_WIDTH = 6.0
"""e-folds of params searched on both sides of the optimum without repetition."""

FREE = 4.0
"""Epochs up to which repetition costs little, by the same paper."""

Draws = npt.NDArray[np.float64]


def repeated(
    posterior: Posterior,
    unique_tokens: ArrayLike,
    flops: ArrayLike,
    *,
    published: bool = False,
    cost: CostModel | None = None,
    **which: Unpack[Which],
) -> pd.DataFrame:
    """Best params and epochs when only so many unique tokens can be had.

    Parameters
    ----------
    posterior : Posterior
    unique_tokens : array-like
        Tokens of text that can be had.
    flops : array-like
        Training budgets in FLOPs.
    published : bool
        For a posterior of another two-term law: discount repeated tokens and excess params by the
        published R_D* = 15.4 and R_N* = 5.3, which then have no uncertainty.
    cost : CostModel, optional
        Instead of the posterior's own.
    which : Which
        Only these groups, or one that was never run.

    Returns
    -------
    DataFrame
        One row a group, budget and U: group columns, ``unseen``, ``flops``, ``unique_tokens``,
        ``repetition`` (fitted or published); ``params_*``, ``tokens_*``, ``epochs_*``; ``loss_*``
        and ``run_loss_*``; ``probability_repeats`` (more than one epoch is best);
        ``params_unlimited_*`` and ``price_of_repeating_*`` (loss above that with unlimited data);
        and ``extrapolation_factor, distance_outside, reach`` at the medians; see `reach_columns`.

    Raises
    ------
    NotConvergedError, InputError
        As `allocate`; also if the posterior was not fitted under ``repetition`` and `published` is
        not set, or its law is not a two-term one.
    """
    budgets, unique = check_budgets(flops), check_budgets(unique_tokens, where="unique_tokens")
    law, kind = _repetition_law(posterior.law, published=published)
    posterior, groups = ask(posterior, cost=cost, **which)
    rows = [
        _row(posterior, law, kind, group, float(budget), float(supply))
        for group in groups
        for budget in budgets
        for supply in unique
    ]
    return pd.concat(rows, ignore_index=True)


def _repetition_law(law: Law, *, published: bool) -> tuple[Law, str]:
    """The law with repetition, and where its discount comes from."""
    if law.name == "repetition":
        return law, "fitted"
    if law.name not in TWO_TERM:
        what = f"law {law.name} has no terms that repetition could discount"
        raise InputError(what, hint=f"Fit repetition, or one of {', '.join(TWO_TERM)}.")
    if not published:
        what = f"the posterior was fitted under {law.name}, which knows nothing of repeated tokens"
        hint = "Fit runs with an epochs column under --law repetition, or borrow the published "
        raise InputError(what, hint=hint + "discount with --published (published=True).")
    return replace(law, name=f"{law.name} with published repetition", log_loss=_discounted(law),
                   columns=("epochs",)), "published"  # fmt: skip


def _discounted(law: Law):  # type: ignore[no-untyped-def]  # as Law.log_loss is typed
    worth_tokens, worth_params = (
        PUBLISHED_REPEATS[n] for n in ("log_repeats_tokens", "log_repeats_params")
    )

    def log_loss(c: Coefficients, at: Point) -> Float[Array, "*points"]:
        epochs = jnp.maximum(at.columns["epochs"], 1.0)
        log_unique = at.log_tokens - jnp.log(epochs)
        log_tokens = log_unique + saturated(epochs - 1.0, jnp.asarray(worth_tokens))
        # Params that the unique tokens deserve along C = 6 N D: alpha u^p = beta v^p.
        gamma = jnp.exp(c["log_gamma"]) if "log_gamma" in c else 1.0
        alpha, beta = jnp.exp(c["log_alpha"]), jnp.exp(c["log_beta"])
        balance = gamma * (c["log_alpha"] - c["log_beta"]) + c["log_u"] - c["log_v"]
        log_base = jnp.minimum((balance + beta * log_unique) / alpha, at.log_params)
        excess = jnp.expm1(at.log_params - log_base)
        log_params = log_base + saturated(excess, jnp.asarray(worth_params))
        return law.log_loss(c, Point(log_params=log_params, log_tokens=log_tokens))

    return log_loss


def _row(
    posterior: Posterior, law: Law, kind: str, group: int, flops: float, unique: float
) -> pd.DataFrame:
    at, budget = np.array([group]), np.array([flops])
    # Of unlimited text: the coefficients that it does not know are not read.
    plain = get_law("chinchilla") if law.name == "repetition" else posterior.law
    n_free, _, loss_free = optimum(posterior, at, budget, law=plain)
    low, high = np.quantile(n_free, [0.005, 0.995])
    sizes = np.geomspace(low * np.exp(-HALF_WIDTH), high * np.exp(HALF_WIDTH), GRID)
    many = np.full(GRID, group)
    tokens = np.asarray(posterior.record.cost.tokens_at(many, flops, sizes))
    epochs = np.maximum(tokens / unique, 1.0)
    repeated_law = replace(law_draws(posterior, at), law=law)
    log_loss, _ = log_loss_at(repeated_law, sizes, tokens, {"epochs": epochs})
    log_loss = off_optimum(posterior, many, np.full(GRID, flops), sizes, log_loss, law=plain)
    place, best = least(log_loss, np.log(sizes))
    params = np.exp(place)
    own = np.full(len(params), group)
    bought = np.asarray(posterior.record.cost.tokens_at(own, flops, params))
    passes = np.maximum(bought / unique, 1.0)
    run = _run(posterior, repeated_law, at, best, params, bought, passes)
    medians = (np.median(values, keepdims=True) for values in (params, bought))
    labels = group_columns(posterior, at).assign(flops=flops, unique_tokens=unique, repetition=kind)
    return labels.assign(
        **interval_columns("params", params),
        **interval_columns("tokens", bought),
        **interval_columns("epochs", passes),
        **interval_columns("loss", np.exp(best)),
        **interval_columns("run_loss", np.exp(run)),
        probability_repeats=float((passes > 1.0).mean()),
        **interval_columns("params_unlimited", n_free[:, 0]),
        **interval_columns(
            "price_of_repeating", np.maximum(np.exp(best) - np.exp(loss_free[:, 0]), 0.0)
        ),
        **reach_columns(posterior, at, budget, *medians),
    )


def _run(
    posterior: Posterior,
    draws: LawDraws,
    at: npt.NDArray[np.int64],
    log_loss: Draws,
    params: Draws,
    tokens: Draws,
    epochs: Draws,
) -> Draws:
    """Log loss of a new run there, (draw,)."""
    columns = {"epochs": epochs[:, None]}
    _, imbalance = log_loss_at(draws, params[:, None], tokens[:, None], columns)
    return with_noise(posterior, at, log_loss[:, None], imbalance, stream=2)[:, 0]
