"""Allocation, growth, prediction and comparison against what calculus says."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from simulation import TRUTH
from variants import without_discrepancy

from allometry.decisions.comparison import _root
from allometry.errors import InputError


def test_without_a_discrepancy_allocation_is_the_analytic_optimum_of_every_draw(fitted):
    flops = 1e21
    alone = without_discrepancy(fitted)
    table = alone.allocate([flops], architecture="xlstm", context_length=1024)
    # With C = 6 N D: alpha u^p = beta v^p at the optimum of the p-norm law.
    E, A, B, alpha, beta, gamma = (
        fitted.draws(name)[:, 2] for name in ("E", "A", "B", "alpha", "beta", "gamma")
    )
    log_ratio = gamma * np.log(alpha / beta) + np.log(A / B) + beta * np.log(flops / 6)
    params = np.exp(log_ratio / (alpha + beta))
    assert fitted.record.cost.kind == "table"
    assert table["params_median"][0] == pytest.approx(np.median(params), rel=1e-3)
    assert table["params_q95"][0] == pytest.approx(np.quantile(params, 0.95), rel=1e-3)
    tokens = flops / 6 / params
    u, v = A * params**-alpha, B * tokens**-beta
    law = E + (u ** (1 / gamma) + v ** (1 / gamma)) ** gamma
    assert table["loss_q5"][0] == pytest.approx(np.quantile(law, 0.05), rel=1e-4)
    assert table["extrapolation_factor"][0] == pytest.approx(10.0, rel=1e-6)


def test_growth_exponents_are_beta_over_alpha_plus_beta_under_6nd(fitted):
    table = without_discrepancy(fitted).growth_law()
    alpha, beta = fitted.draws("alpha"), fitted.draws("beta")
    expected = np.median(beta / (alpha + beta), axis=0)
    assert table["params_exponent_median"].to_numpy() == pytest.approx(expected, abs=1e-3)
    total = table["params_exponent_median"] + table["tokens_exponent_median"]
    assert total.to_numpy() == pytest.approx(1.0, abs=2e-3)
    assert (table["flops_low"] < table["flops_high"]).all()


def test_a_new_run_is_wider_than_the_law_and_drift_widens_with_distance(fitted):
    points = pd.DataFrame({"params": [1e8, 1e10], "tokens": [5e9, 5e11]})
    table = fitted.predict(points.assign(architecture="xlstm", context_length=1024))
    law = np.log(table["loss_q95"] / table["loss_q5"])
    run = np.log(table["run_loss_q95"] / table["run_loss_q5"])
    assert (run > law).all()
    assert law[1] > 2 * law[0]
    assert table["extrapolation_factor"].tolist() == pytest.approx([3e18 / 1e20, 300.0], rel=1e-6)


def test_prediction_covers_the_true_law_inside_the_data(fitted):
    E, alpha, beta, gamma = TRUTH["transformer", 4096]
    u, v = 0.5 * (2e8 / 3e8) ** -alpha, 0.5 * (4e9 / 6e9) ** -beta
    truth = E + (u ** (1 / gamma) + v ** (1 / gamma)) ** gamma
    point = pd.DataFrame({"params": [2e8], "tokens": [4e9]})
    row = fitted.predict(point.assign(architecture="transformer", context_length=4096)).iloc[0]
    spread = row["loss_q95"] - row["loss_q5"]
    assert abs(row["loss_median"] - truth) < spread  # 3.3 standard deviations


def test_points_without_a_group_are_asked_of_every_group(fitted):
    points = pd.DataFrame({"params": [1e8], "tokens": [5e9]})
    assert len(fitted.predict(points)) == 4
    assert len(fitted.predict(points.assign(context_length=1024))) == 2
    with pytest.raises(InputError, match="no group with architecture mamba"):
        fitted.predict(points.assign(architecture="mamba"))
    with pytest.raises(InputError, match=r"tokens must be positive and finite, got -1 \(row 0\)"):
        fitted.predict(points.assign(tokens=-1.0))
    with pytest.raises(InputError, match="no column tokens"):
        fitted.predict(points[["params"]])


def test_comparison_is_the_share_of_draws_and_changes_sign_with_its_order(fitted):
    one = fitted.compare("xlstm", "transformer", [1e20])
    other = fitted.compare("transformer", "xlstm", [1e20])
    assert one["context_length"].tolist() == [1024, 4096]
    total = one["probability_a_better"] + other["probability_a_better"]
    assert total.to_numpy() == pytest.approx(1.0)
    assert one["loss_difference_median"].to_numpy() == pytest.approx(
        -other["loss_difference_median"].to_numpy()
    )


def test_speedup_is_the_compute_at_which_losses_are_equal(fitted):
    row = fitted.effective_speedup("xlstm", "transformer", [1e20], context_length=4096).iloc[0]
    back = fitted.effective_speedup("transformer", "xlstm", [1e20], context_length=4096).iloc[0]
    assert row["speedup_q5"] < row["speedup_median"] < row["speedup_q95"]
    # Inverses only where both curves are as steep: each is asked at its own budget.
    assert row["speedup_median"] * back["speedup_median"] == pytest.approx(1.0, rel=0.2)
    same = fitted.compare("xlstm", "transformer", [1e20], context_length=4096).iloc[0]
    assert (row["speedup_median"] > 1) == (same["probability_a_better"] > 0.5)


def test_the_root_search_finds_steep_flat_and_missing_roots():
    where = np.linspace(-5.0, 5.0, 41)[None]  # beyond 4 decades there is no root to find
    for falling in (
        lambda decades: np.exp(-0.15 * decades) - np.exp(-0.15 * where),
        lambda decades: np.exp(-0.9 * decades) - np.exp(-0.9 * where),
    ):
        found = _root(falling, where.shape)
        assert found == pytest.approx(np.clip(where, -4.0, 4.0), abs=1e-6)


def test_bad_questions_are_one_clear_error(fitted):
    with pytest.raises(InputError, match="positive and finite, got -1"):
        fitted.allocate([-1.0])
    with pytest.raises(InputError, match="no budget given"):
        fitted.allocate([])
    with pytest.raises(InputError, match="compared with itself"):
        fitted.compare("xlstm", "xlstm", [1e20])
    with pytest.raises(InputError, match="no group with architecture mamba"):
        fitted.compare("xlstm", "mamba", [1e20])
    with pytest.raises(InputError, match="not grouped by data") as refused:
        fitted.compare("xlstm", "transformer", [1e20], group={"data": "c4"})
    assert "--by architecture context_length data" in refused.value.hint


@pytest.mark.parametrize("by", [(), ("context_length",)])
def test_groups_without_architectures_are_not_compared(fitted, by):
    posterior = replace(fitted, record=replace(fitted.record, by=by))
    with pytest.raises(InputError, match="the runs were not grouped by architecture") as refused:
        posterior.compare("xlstm", "transformer", [1e20])
    assert "--by architecture" in refused.value.hint


@pytest.mark.parametrize(
    ("flops", "words"),
    [
        (1e300, "flops: must be at most 1e+60, got 1e+300"),
        (np.nan, "flops: must be positive and finite, got nan"),
        ("much", "flops: not a number: 'much'"),
    ],
)
def test_budgets_that_nobody_has_are_one_clear_error(fitted, flops, words):
    for ask in (
        fitted.allocate,
        lambda c: fitted.compare("xlstm", "transformer", c),
        lambda c: fitted.growth_law(flops_high=c),
    ):
        with pytest.raises(InputError) as refused:
            ask(flops)
        assert words in str(refused.value).replace("flops_high", "flops")


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (1e300, "params must lie between 1e-09 and 1e+30, got 1e+300 (row 1)"),
        (-1e9, "params must be positive and finite, got -1e+09 (row 1)"),
        (np.nan, "params is missing (row 1)"),
        ("many", "params is not a number, got 'many' (row 1)"),
    ],
)
def test_points_that_no_run_can_have_are_one_clear_error(fitted, params, words):
    points = pd.DataFrame({"params": [1e9, params], "tokens": [1e10, 1e10]}, index=["a", "b"])
    with pytest.raises(InputError) as refused:
        fitted.predict(points)
    assert str(refused.value) == f"points: {words}"
    as_text = pd.DataFrame({"params": ["1e9"], "tokens": [10**10]}, index=["a"])
    assert fitted.predict(as_text).equals(
        fitted.predict(pd.DataFrame({"params": [1e9], "tokens": [1e10]}))
    )
