import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allometry.accounting import (
    CostModel,
    accounting_cost,
    choose_shape,
    count_params,
    six_nd,
    table_cost,
    training_flops_per_token,
)
from allometry.errors import InputError

CELLS = [(a, t) for a in ("transformer", "xlstm") for t in (2048, 8192, 16384)]


@pytest.fixture(scope="module")
def family_cost():
    architectures, contexts = zip(*CELLS, strict=True)
    return accounting_cost(architectures, contexts)


def simulated_table(rng, slopes, rows, scatter=0.03):
    """Runs whose FLOPs a token are 6 N exp(.1 + slope log(N / 1e9)) with scatter."""
    group = np.repeat(np.arange(len(slopes)), rows)
    N = np.exp(rng.uniform(np.log(1e8), np.log(3e9), group.size))
    y = 0.1 + np.asarray(slopes)[group] * np.log(N / 1e9) + scatter * rng.normal(size=group.size)
    D = 20 * N
    return group, N, D, 6 * N * D * np.exp(y)


def test_accounting_cost_is_the_family_within_its_residual(family_cost):
    for g, (architecture, context) in enumerate(CELLS):
        errors = []
        for params in np.geomspace(9e7, 6.5e9, 40):
            shape = choose_shape(architecture, params).shape
            exact = training_flops_per_token(shape, context).total
            mine = family_cost.flops_per_token(g, count_params(shape).total)
            errors.append(math.log(mine / exact))
        rms = float(np.sqrt(np.mean(np.square(errors))))
        # Forty of the sizes it was fitted to, or near them: the residual within its own noise.
        assert rms < 1.25 * family_cost.residuals[g]
        assert abs(np.mean(errors)) < 0.02
        assert family_cost.residuals[g] < 0.06


def test_accounting_cost_stays_near_the_family_a_hundredfold_beyond_it(family_cost):
    # The range ends at 7e9; shapes there are extrapolated too, so this is a bound on folly.
    for g, (architecture, context) in enumerate(CELLS):
        for params in (2e10, 7e10, 2e11, 7e11):
            shape = choose_shape(architecture, params).shape
            exact = training_flops_per_token(shape, context).total
            mine = family_cost.flops_per_token(g, count_params(shape).total)
            assert abs(math.log(mine / exact)) < 0.2, (architecture, context, params)


@pytest.mark.parametrize("kind", ["table", "accounting"])
def test_cost_of_the_study_is_unbiased_in_every_group(study_runs, kind):
    cells = study_runs.groupby(["architecture", "context_length"])
    index = cells.ngroup().to_numpy()
    names = [str(cell) for cell, _ in cells]
    columns = [study_runs[name].to_numpy(float) for name in ("params", "tokens", "flops")]
    if kind == "table":
        cost = table_cost(index, *columns, groups=names)
    else:
        ranges = [(rows.params.min(), rows.params.max()) for _, rows in cells]
        architectures, contexts = zip(*(cell for cell, _ in cells), strict=True)
        cost = accounting_cost(architectures, contexts, range_params=ranges)
    error = np.log(cost.flops(index, columns[0], columns[1]) / columns[2])
    for g in range(len(names)):
        mine = error[index == g]
        # One size is several shapes: 1.4 % of scatter for the xLSTM, up to 5.8 % for attention.
        assert mine.std() < 0.06
        assert abs(mine.mean()) < 4 * mine.std() / math.sqrt(mine.size)


def test_table_cost_recovers_what_the_table_was_made_with():
    slopes = [-0.1, -0.05, 0.0, 0.08]
    cost = table_cost(*simulated_table(np.random.default_rng(1), slopes, 100), groups="abcd")
    for g, slope in enumerate(slopes):
        for params in (2e8, 1e9, 2.5e9):
            expected = 0.1 + slope * math.log(params / 1e9)
            # 3 % scatter over a hundred rows, three coefficients: sd below 1 %; four of them.
            assert abs(float(cost.log_correction(g, math.log(params))) - expected) < 0.04
        assert cost.residuals[g] == pytest.approx(0.03, rel=0.3)


def test_a_group_with_one_run_borrows_the_slope_of_the_others():
    rng = np.random.default_rng(2)
    group, N, D, C = simulated_table(rng, [-0.1, -0.1, -0.1, -0.1], 60)
    keep = (group < 3) | (np.arange(group.size) == group.size - 1)
    cost = table_cost(group[keep], N[keep], D[keep], C[keep], groups="abcd")
    at = cost.range_params[3][0]
    _, b1, b2 = cost.coefficients[3]
    slope = b1 + 2 * b2 * math.log(at / cost.reference_params)
    assert slope == pytest.approx(-0.1, abs=0.03)
    # Its own level: within the noise scale of that one run.
    level = float(cost.log_correction(3, math.log(at)))
    assert abs(level - math.log(C[-1] / (6 * N[-1] * D[-1]))) < 0.05


def test_a_group_without_runs_gets_the_pooled_cost():
    group, N, D, C = simulated_table(np.random.default_rng(3), [-0.05, -0.05], 50)
    cost = table_cost(group, N, D, C, groups="abc")
    others = np.mean([cost.log_correction(g, math.log(1e9)) for g in (0, 1)])
    assert float(cost.log_correction(2, math.log(1e9))) == pytest.approx(others, abs=0.02)


def test_a_table_of_6nd_gives_6nd():
    N, D = np.geomspace(1e7, 1e10, 9), np.full(9, 1e11)
    cost = table_cost(np.zeros(9, int), N, D, 6 * N * D, groups=["all"])
    far = np.geomspace(1e3, 1e15, 7)
    np.testing.assert_allclose(cost.flops_per_token(0, far), 6 * far, rtol=1e-12)


def test_a_table_whose_flops_fall_with_params_still_gives_a_cost_that_rises():
    N = np.geomspace(1e8, 1e10, 20)
    C_per_token = 1e10 * (1e9 / N) ** 0.5  # nonsense: larger models cheaper
    cost = table_cost(np.zeros(20, int), N, np.ones(20), C_per_token, groups=["all"])
    per_token = cost.flops_per_token(0, np.geomspace(1e6, 1e13, 200))
    assert (np.diff(per_token) > 0).all()


@given(
    group=st.integers(0, len(CELLS) - 1),
    log_params=st.floats(math.log(1e3), math.log(1e15)),
    step=st.floats(1e-3, 10.0),
)
def test_cost_rises_with_params_and_stays_within_a_factor_of_6nd(
    family_cost, group, log_params, step
):
    here, there = (
        float(family_cost.flops_per_token(group, math.exp(x)))
        for x in (log_params, log_params + step)
    )
    assert here < there
    assert 0.2 < here / (6 * math.exp(log_params)) < 5


def test_cost_is_smooth_where_the_polynomial_ends(family_cost):
    step = 1e-4
    for g in range(len(CELLS)):
        for end in family_cost.range_params[g]:
            x = math.log(end) + step * np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
            slopes = np.diff(family_cost.log_correction(g, x)) / step
            # Slopes change by the second derivative (< 1) times a step, and by no jump.
            assert np.ptp(slopes) < 3 * step


@given(
    params=st.floats(1e6, 1e12), flops=st.floats(1e15, 1e26), group=st.integers(0, len(CELLS) - 1)
)
def test_tokens_at_a_budget_cost_that_budget(family_cost, params, flops, group):
    tokens = family_cost.tokens_at(group, flops, params)
    assert float(family_cost.flops(group, params, tokens)) == pytest.approx(flops, rel=1e-15)


def test_jax_evaluates_and_differentiates_the_same_formula(family_cost):
    group = np.arange(len(CELLS))[:, None]
    params = np.geomspace(1e6, 1e12, 25)
    with jax.enable_x64(True):
        evaluate = jax.jit(lambda N: family_cost.flops_per_token(group, N, xp=jnp))
        np.testing.assert_allclose(
            evaluate(params), family_cost.flops_per_token(group, params), rtol=1e-13
        )

        def log_cost(x):
            return x + family_cost.log_correction(0, x, xp=jnp)

        slopes = jax.vmap(jax.grad(log_cost))(jnp.log(params))
        assert bool(jnp.all((slopes > 0.2) & (slopes < 2)))


def test_cost_survives_json_and_can_be_a_static_argument(family_cost):
    again = CostModel.from_dict(json.loads(json.dumps(family_cost.to_dict())))
    assert again == family_cost
    assert hash(again) == hash(family_cost)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "guess"}, "kind must be one of accounting, table, 6nd"),
        ({"groups": ["a", "b"]}, "needs one entry a group: groups 2, coefficients 1"),
        ({"coefficients": [[0.0, -1.5, 0.0]]}, "FLOPs fall with params"),
        ({"coefficients": [[0.0, 0.0]]}, "3 numbers expected, got 2"),
        ({"coefficients": [[0.0, 0.0, math.nan]]}, "coefficients .*nan"),
        ({"range_params": [[2e9, 1e9]]}, "range_params 2000000000.0 to 1000000000.0"),
        ({"reference_params": "many"}, "not readable"),
        ({"fade_above": 0.0}, "must be positive"),
        ({"surprise": 1}, "fields missing or unknown: surprise"),
    ],
)
def test_a_damaged_cost_model_is_one_clear_error(change, message):
    with pytest.raises(InputError, match=message):
        CostModel.from_dict(six_nd(["a"]).to_dict() | change)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (([0, 0], [1e9, -1], [1e10, 1e10], [6e19, 6e19]), "params must be positive"),
        (([0, 0], [1e9, 1e9], [1e10, 1e10], [6e19, math.nan]), r"flops .*\(row 1\)"),
        (([0, 3], [1e9, 1e9], [1e10, 1e10], [6e19, 6e19]), "group must be 0 to 0, got 0 to 3"),
        (([], [], [], []), "no runs to learn a cost model from"),
        (([0], [1e9, 1e9], [1e10], [6e19]), "columns differ in length"),
    ],
)
def test_unusable_tables_are_refused(rows, message):
    with pytest.raises(InputError, match=message):
        table_cost(*rows, groups=["a"])


def test_accounting_cost_refuses_unequal_lists_and_empty_ranges():
    with pytest.raises(InputError, match="2 architectures and 1 context lengths"):
        accounting_cost(["xlstm", "transformer"], [8192])
    with pytest.raises(InputError, match="range_params must be"):
        accounting_cost(["xlstm"], [8192], range_params=(1e9, 1e8))


def test_a_fit_that_bends_too_far_is_made_straight_about_the_middle_of_its_range():
    # Two groups far apart, so neither middle is N_ref; y bends by -0.5 about each middle.
    N = np.concatenate([np.geomspace(1e7, 1e9, 60), np.geomspace(1e10, 1e12, 60)])
    group = np.repeat([0, 1], 60)
    from_middle = np.log(N / np.array([1e8, 1e11])[group])
    y = 0.4 + 0.1 * from_middle - 0.5 * from_middle**2
    cost = table_cost(group, N, np.ones(120), 6 * N * np.exp(y), groups=["low", "high"])
    for g, middle in enumerate((1e8, 1e11)):
        assert cost.coefficients[g][2] == 0.0
        # Shrinkage moves the level of a parabola this steep by a few hundredths.
        assert float(cost.log_correction(g, math.log(middle))) == pytest.approx(0.4, abs=0.1)
    assert (np.diff(cost.flops_per_token(0, np.geomspace(1e5, 1e11, 99))) > 0).all()
