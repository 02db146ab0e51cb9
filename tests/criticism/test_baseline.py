import numpy as np
import pandas as pd
import pytest
from scipy.optimize import check_grad

from allometry.criticism import baseline
from allometry.criticism.baseline import huber_fit, start_grid
from allometry.observations import find_table, read_runs

TRUTH = np.array([0.34, 0.36, np.log(1.8), np.log(480.0), np.log(2000.0)])


def additive_runs(noise: float, seed: int = 0, count: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    params, tokens = 10 ** rng.uniform(7.5, 10, count), 10 ** rng.uniform(9, 11.5, count)
    log_loss = baseline.additive_log_loss(TRUTH[:, None], np.log(params), np.log(tokens))
    loss = np.exp(log_loss + noise * rng.standard_normal(count))
    return pd.DataFrame({"params": params, "tokens": tokens, "loss": loss})


def test_gradient_is_that_of_the_objective():
    runs = additive_runs(0.01)
    data = np.stack([np.log(runs[n].to_numpy()) for n in ("params", "tokens", "loss")])
    evaluate = baseline._value_and_gradient(data)
    place = TRUTH + np.array([0.02, -0.02, 0.05, 0.3, -0.2])
    scale = np.abs(evaluate(place)[1]).max()
    error = check_grad(lambda x: evaluate(x)[0], lambda x: evaluate(x)[1], place)
    # Forward differences of step 1.5e-8: curvature, some 30 times the gradient, times the step.
    assert error < 1e-5 * scale


def test_exact_losses_give_back_the_law():
    found = huber_fit(additive_runs(0.0))
    np.testing.assert_allclose(found.theta, TRUTH, rtol=1e-3)
    assert found.starts == baseline.GOOD_STARTS


def test_the_practice_has_4500_starts():
    grid = start_grid()
    assert grid.shape == (4500, 5)
    assert len(np.unique(grid, axis=0)) == 4500


@pytest.mark.slow
def test_the_good_starts_reach_what_all_4500_reach():
    runs = additive_runs(0.01, count=30)
    few, all_of_them = huber_fit(runs), huber_fit(runs, starts=None)
    assert all_of_them.starts == 4500
    assert few.objective == pytest.approx(all_of_them.objective, rel=1e-4)


@pytest.fixture(scope="module")
def quiet():
    return huber_fit(additive_runs(0.001, count=30), bootstraps=4)


def test_bootstrap_spreads_with_the_noise_and_repeats_with_its_seed(quiet):
    loud = huber_fit(additive_runs(0.02, count=30), starts=4, bootstraps=4)
    assert quiet.bootstrap.shape == (4, 5)
    assert loud.bootstrap[:, 0].std() > 3 * quiet.bootstrap[:, 0].std()
    again = huber_fit(additive_runs(0.001, count=30), bootstraps=4)
    np.testing.assert_array_equal(again.bootstrap, quiet.bootstrap)


def test_a_new_run_scatters_as_the_residuals_do(quiet):
    found = quiet
    rng = np.random.default_rng(0)
    centre, draws = found.predict_draws(np.full(500, 1e9), np.full(500, 1e11), rng)
    assert draws.shape == (4, 500)
    assert np.ptp(centre) == 0
    within = draws.std(axis=1)
    # 500 resampled residuals a refit: their standard deviation is known to about 5 %.
    np.testing.assert_allclose(within, found.residuals.std(), rtol=0.2)


def test_published_replication_of_chinchilla_is_found():
    if find_table("chinchilla") is None:
        pytest.skip("chinchilla is not at hand: set ALLOMETRY_DATA to a folder that has it")
    runs = read_runs("chinchilla").table
    data = np.stack([np.log(runs[n].to_numpy()) for n in ("params", "tokens", "loss")])
    published = np.array([[0.3478, 0.3658, np.log(1.8172), np.log(482.01), np.log(2085.43)]])
    found = huber_fit(runs)
    # Besiroglu et al. 2024, table 1: no better than ours, and near it.
    assert found.objective <= baseline._objectives(published, data)[0]
    assert found.coefficients["E"] == pytest.approx(1.8172, abs=2e-3)
    assert found.coefficients["alpha"] == pytest.approx(0.3478, abs=2e-3)
    assert found.coefficients["beta"] == pytest.approx(0.3658, abs=4e-3)
