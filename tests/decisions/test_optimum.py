"""The optimum with the discrepancy against searches, its slope against differences of it."""

from dataclasses import replace

import numpy as np
import pytest
from variants import without_discrepancy

from allometry.decisions.optimum import off_optimum, optimum, tilt_at
from allometry.decisions.outlook import law_draws
from allometry.inference.discrepancy import discrepancy_at, study_scale
from allometry.inference.discrepancy_slope import NODES, path_budgets, slope_path
from allometry.inference.drift import far_square
from allometry.inference.evaluate import log_loss_at
from allometry.inference.iso_compute import compute_optimal
from allometry.laws import get_law

GROUP = np.array([2])  # xlstm at 1024
BUDGETS = np.array([1e20, 1e22])


def law_optimum(posterior, flops=BUDGETS):
    index = np.full(len(flops), 2)
    return compute_optimal(law_draws(posterior, index), posterior.record.cost, index, flops)


def spread(draws):
    return np.diff(np.quantile(draws, [0.05, 0.95], axis=0), axis=0)[0] / 3.29


def test_the_optimum_is_the_least_of_the_tilted_valley_of_its_draw(fitted):
    flops = BUDGETS[1:]
    params, tokens, log_loss = optimum(fitted, GROUP, flops)
    sizes = np.geomspace(params.min() / 2, params.max() * 2, 4001)
    many = np.full(len(sizes), 2)
    bought = np.asarray(fitted.record.cost.tokens_at(many, flops[0], sizes))
    law, _ = log_loss_at(law_draws(fitted, many), sizes, bought)
    valley = off_optimum(fitted, many, np.full(len(sizes), flops[0]), sizes, law)
    step = np.log(sizes[1] / sizes[0])
    apart = np.log(sizes[valley.argmin(axis=1)]) - np.log(params[:, 0])
    assert np.abs(apart).max() <= step
    np.testing.assert_allclose(valley.min(axis=1), log_loss[:, 0], atol=1e-6)
    spent = fitted.record.cost.flops(np.full(len(params), 2), params[:, 0], tokens[:, 0])
    np.testing.assert_allclose(spent, flops[0], rtol=1e-9)


def test_a_law_without_discrepancy_keeps_its_optimum(fitted):
    exact = without_discrepancy(fitted)
    found = optimum(exact, np.full(2, 2), BUDGETS)
    for ours, law in zip(found, law_optimum(exact), strict=True):
        np.testing.assert_array_equal(ours, law)


def test_far_from_the_runs_it_is_the_discrepancy_that_moves_the_optimum(fitted):
    alone, moved = law_optimum(fitted)[0], optimum(fitted, np.full(2, 2), BUDGETS)[0]
    ratio = spread(np.log(moved)) / spread(np.log(alone))
    assert 1.0 < ratio[0] < ratio[1]
    assert ratio[1] > 2.0


def test_slopes_are_those_of_the_discrepancy(fitted):
    flops = path_budgets(fitted, 2)
    log_params = np.median(np.log(law_optimum(fitted, flops)[0]), axis=0)
    path = slope_path(fitted, 2, flops, log_params)
    node = NODES // 2
    sides = np.exp(log_params[node] + np.array([-0.5, 0.5]))
    tokens = np.asarray(fitted.record.cost.tokens_at(np.full(2, 2), flops[node], sides))
    mean, _ = discrepancy_at(fitted, np.full(2, 2), sides, tokens)
    assert path.mean[node] == pytest.approx(mean[1] - mean[0], rel=1e-6)
    tilt = tilt_at(fitted, GROUP, flops[[node]])
    sd = np.sqrt((path.root[node] ** 2).sum())
    # The mean square over 1,200 draws whose scale is log-normal with a log sd near one half.
    assert np.square(tilt.slope - path.mean[node]).mean() == pytest.approx(
        sd**2 * far_square(log_sd=study_scale(fitted).log_sd), rel=0.2
    )
    # Between the sides a tilt is the line that it is named after.
    gain = tilt.at(np.log(sides)) @ np.array([-1.0, 1.0])
    np.testing.assert_allclose(gain, tilt.slope[:, 0], rtol=0.01)


def test_a_budget_of_a_list_is_answered_as_it_is_alone(fitted):
    together = fitted.allocate([1e19, 1e21, 1e23], architecture="xlstm", context_length=1024)
    alone = fitted.allocate([1e21], architecture="xlstm", context_length=1024)
    for name in ("params_q5", "params_q95", "loss_median"):
        assert together[name][1] == pytest.approx(alone[name][0], rel=1e-6)


def test_budgets_by_draw_are_answered_draw_by_draw(fitted):
    each = np.geomspace(1e19, 1e23, fitted.n_draws)[:, None]
    tilt = tilt_at(fitted, GROUP, each)
    params, _, log_loss = optimum(fitted, GROUP, each)
    for draw in (0, 500, fitted.n_draws - 1):
        one = tilt_at(fitted, GROUP, each[draw])
        assert tilt.slope[draw, 0] == pytest.approx(one.slope[draw, 0], rel=1e-9)
        assert tilt.log_params[draw, 0] == pytest.approx(one.log_params[0], rel=1e-12)
        again = optimum(fitted, GROUP, each[draw])
        assert params[draw, 0] == pytest.approx(again[0][draw, 0], rel=1e-6)
        assert log_loss[draw, 0] == pytest.approx(again[2][draw, 0], abs=1e-6)


def test_groups_of_a_study_share_a_part_of_their_tilt(fitted):
    flops = np.full(4, 1e23)
    slopes = tilt_at(fitted, np.arange(4), flops).slope
    correlation = np.corrcoef(slopes.T)[np.triu_indices(4, 1)]
    assert correlation.min() > 0.3
    assert correlation.max() < 0.8


def test_what_was_asked_before_does_not_change_an_answer(fitted):
    group = np.array([2, 1, 2, 0])
    flops = np.array([1e20, 1e21, 1e22, 1e20])
    optimum(fitted, group[:2], flops[:2])  # known when all are asked
    optimum(fitted, group[2:], flops[2:], law=get_law("chinchilla"))  # of another law
    known = optimum(fitted, group, flops)
    fresh = optimum(replace(fitted), group, flops)
    for ours, theirs in zip(known, fresh, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    known[0][:] = 0.0  # an answer is the caller's
    np.testing.assert_array_equal(optimum(fitted, group, flops)[1], known[1])
    assert optimum(fitted, group, flops)[0].min() > 0
