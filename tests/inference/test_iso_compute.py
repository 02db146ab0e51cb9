"""The search along iso-compute curves against closed forms, root finding, and odd valleys."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from allometry.accounting import accounting_cost, six_nd
from allometry.inference.evaluate import LawDraws
from allometry.inference.iso_compute import BLOCK, HALF_WIDTH, compute_optimal
from allometry.inference.tilt import Tilt, tilted
from allometry.laws import Point, get_law

REFERENCE = (np.log(2e9), np.log(4e10), np.log(2.6))
CENTRES = {
    "log_E": np.log(0.6),
    "log_u": -1.6,
    "log_v": -1.8,
    "log_alpha": np.log(0.3),
    "log_beta": np.log(0.37),
    "log_gamma": -0.5,
}
SIX_ND = six_nd(["all"])


def law_draws(law, shape, seed=1):
    rng = np.random.default_rng(seed)
    coefficients = {n: CENTRES[n] + rng.normal(0, 0.2, shape) for n in law.names}
    return LawDraws(law=law, coefficients=coefficients, log_reference=REFERENCE)


def shaped_as(law, log_loss):
    """Draws of a law whose log loss is a function of log N over the reference alone."""
    odd = replace(law, log_loss=lambda c, at: log_loss(at.log_params) + 0.0 * c["log_E"])
    return LawDraws(
        law=odd,
        coefficients={n: np.full((1, 1), CENTRES[n]) for n in odd.names},
        log_reference=REFERENCE,
    )


@pytest.mark.parametrize("name", ["chinchilla", "pnorm", "gamma"])
def test_along_six_nd_it_is_the_closed_form(name):
    law, budgets = get_law(name), np.geomspace(1e18, 1e26, 9)
    draws = law_draws(law, (300, len(budgets)))
    params, tokens, _ = compute_optimal(draws, SIX_ND, np.zeros(len(budgets), dtype=int), budgets)
    c = draws.coefficients
    alpha, beta = np.exp(c["log_alpha"]), np.exp(c["log_beta"])
    gamma = np.exp(c["log_gamma"]) if "log_gamma" in c else 1.0
    # alpha u^p = beta v^p with log u = log_u - alpha n and log v = log_v - beta (total - n)
    total = np.log(budgets / 6) - REFERENCE[0] - REFERENCE[1]
    balance = gamma * (c["log_alpha"] - c["log_beta"]) + c["log_u"] - c["log_v"]
    log_params = REFERENCE[0] + (balance + beta * total) / (alpha + beta)
    np.testing.assert_allclose(np.log(params), log_params, rtol=0, atol=1e-12)
    np.testing.assert_allclose(6 * params * tokens, np.broadcast_to(budgets, params.shape), 1e-12)


def test_with_true_cost_and_a_tilt_it_is_where_the_slope_is_zero():
    law, budgets = get_law("pnorm"), np.array([1e19, 1e22, 1e25])
    cost = accounting_cost(
        ["transformer", "xlstm"], [2048, 16384], range_params=np.array([[8e7, 7e9]] * 2)
    )
    group = np.array([0, 1, 1])
    draws = law_draws(law, (20, 3), seed=2)
    slope = np.random.default_rng(3).normal(0, 0.02, (20, 3))
    tilt = Tilt(slope=slope, log_params=np.log(np.sqrt(budgets / 120)))
    params, tokens, log_loss = compute_optimal(draws, cost, group, budgets, tilt=tilt)

    def loss(x, i, j):
        y = cost.log_correction(group[j], x, xp=jnp)
        d = np.log(budgets[j] / 6) - x - y
        point = Point(log_params=x - REFERENCE[0], log_tokens=d - REFERENCE[1])
        found = law.log_loss({n: c[i, j] for n, c in draws.coefficients.items()}, point)
        return found + REFERENCE[2] + tilted(slope[i, j], tilt.log_params[j], x, xp=jnp)

    with jax.enable_x64(True):
        for i in range(0, 20, 5):
            for j in range(3):
                zero = brentq(jax.grad(loss), *np.log([1e6, 1e13]), args=(i, j), xtol=1e-13)
                assert np.log(params[i, j]) == pytest.approx(zero, abs=1e-11)
                assert log_loss[i, j] == pytest.approx(float(loss(zero, i, j)), abs=1e-14)
    np.testing.assert_allclose(
        cost.flops(group, params, tokens), np.broadcast_to(budgets, (20, 3)), rtol=1e-12
    )


def test_budgets_by_draw_and_blocks_that_are_not_full_change_no_element():
    draws = law_draws(get_law("pnorm"), (BLOCK + 7, 1), seed=4)
    each = np.geomspace(1e18, 1e25, BLOCK + 7)[:, None]
    at = np.zeros(1, dtype=int)
    together = compute_optimal(draws, SIX_ND, at, each)
    for i in (0, BLOCK - 1, BLOCK, BLOCK + 6):
        one = replace(draws, coefficients={n: c[[i]] for n, c in draws.coefficients.items()})
        alone = compute_optimal(one, SIX_ND, at, each[i])
        for many, single in zip(together, alone, strict=True):
            assert many[i, 0] == pytest.approx(single[0, 0], rel=1e-12)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_of_two_valleys_it_is_the_deeper_one(sign):
    def two(x):
        return 0.01 * (x**2 - 9.0) ** 2 + 0.02 * sign * x

    middle = 6 * np.exp(2 * REFERENCE[0])  # the search starts at the reference params
    params, _, log_loss = compute_optimal(
        shaped_as(get_law("pnorm"), two), SIX_ND, np.zeros(1, dtype=int), np.array([middle])
    )
    x = np.linspace(-5, 5, 200_001)
    assert np.log(params[0, 0]) - REFERENCE[0] == pytest.approx(x[two(x).argmin()], abs=1e-4)
    assert log_loss[0, 0] <= two(x).min() + REFERENCE[2]


def test_at_a_kink_the_halvings_go_on_where_newton_cannot():
    found = compute_optimal(
        shaped_as(get_law("pnorm"), lambda x: jnp.abs(x - 0.777)),
        SIX_ND,
        np.zeros(1, dtype=int),
        np.array([6 * np.exp(2 * REFERENCE[0])]),
    )
    assert np.log(found[0][0, 0]) - REFERENCE[0] == pytest.approx(0.777, abs=1e-6)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_loss_that_never_rises_ends_where_the_search_does(sign):
    found = compute_optimal(
        shaped_as(get_law("pnorm"), lambda x: -sign * 0.05 * x),
        SIX_ND,
        np.zeros(1, dtype=int),
        np.array([6 * np.exp(2 * REFERENCE[0])]),
    )
    assert np.log(found[0][0, 0]) - REFERENCE[0] == pytest.approx(sign * HALF_WIDTH, abs=1e-6)
