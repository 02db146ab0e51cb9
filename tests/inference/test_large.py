"""Tables of very many runs, and the approximations that answer for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from simulation import TRUTH, simulate_runs

from allometry.criticism import check
from allometry.inference import Sampler, default_priors, derive, fit, group_runs, svi
from allometry.inference.arrays import law_structure, reference_scale, run_arrays
from allometry.inference.coordinates import Data, Program
from allometry.inference.derive import pointwise_step
from allometry.inference.importance import resample
from allometry.inference.mode import find_mode
from allometry.inference.start import starts
from allometry.inference.surrogate import Surrogate, expand, surrogate_draws
from allometry.laws import get_law

ONE = {("transformer", 1024): TRUTH["transformer", 1024]}
QUICK = Sampler(method="laplace", chains=2, draws=200, starts=1)


@pytest.fixture(scope="module")
def many():
    """A program, its data of 400 runs a group, and its mode."""
    budgets = tuple(np.geomspace(1e17, 1e20, 10))
    with jax.enable_x64(True):
        table, law = simulate_runs(1, budgets=budgets, sizes=40), get_law("pnorm")
        groups = group_runs(table)
        program = Program(law=law, structure=law_structure(law, groups))
        runs = run_arrays(table, groups, law, reference_scale(table))
        centred = jnp.ones((6, 4), dtype=bool)
        data = Data(runs=runs, priors=default_priors(law).arrays(), centred=centred)
        yield program, data, find_mode(starts(program, data, count=1, seed=0)[0], program, data)


def test_the_surrogate_leaves_an_error_of_third_order(many):
    program, data, mode = many
    with jax.enable_x64(True):
        expansion = expand(mode, program, data)
        surrogate = Surrogate(program=program)
        direction = np.random.default_rng(0).normal(size=program.size)

        def error(step):
            x = jnp.asarray(mode.whitening.apply(step * direction))
            return float(program.log_density(x, data) - surrogate.log_density(x, expansion))

        start, whole, half = error(0.0), error(0.4), error(0.2)
    # A step half as long leaves an eighth: a second-order error would leave a quarter.
    assert abs((half - start) / (whole - start)) < 0.19


def test_the_surrogate_with_its_weights_stands_for_the_posterior(many):
    program, data, mode = many
    with jax.enable_x64(True):
        found = surrogate_draws(mode, program, data, draws=1000, seed=0, workers=1)
    # The mode lies inside the middle of the draws of most coordinates that many runs determine.
    assert found.k_hat < 0.7
    theta = slice(program.size - 24, None)
    z = (found.x[:, theta].mean(axis=0) - mode.x[theta]) / found.x[:, theta].std(axis=0)
    assert np.abs(z).max() < 1.0
    assert found.effective > 100


def test_weights_that_miss_a_tail_are_not_believed():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 1))
    gaussian = -0.5 * x[:, 0] ** 2
    cauchy = -np.log1p(x[:, 0] ** 2)
    found = resample(x, cauchy - gaussian, draws=500, rng=rng)
    assert not found.believed
    same = resample(x, 1e-3 * x[:, 0], draws=500, rng=rng)
    assert same.believed
    assert same.effective == pytest.approx(4000, rel=1e-3)
    # Tilted by exp(x), a unit Gaussian has mean one.
    tilted = resample(x, x[:, 0], draws=4000, rng=rng)
    assert tilted.x.mean() == pytest.approx(1.0, abs=0.1)


def test_svi_answers_one_group_as_laplace_does(monkeypatch):
    monkeypatch.setattr(svi, "STEPS", 600)
    runs = simulate_runs(0, groups=ONE, sizes=8)
    answers = {}
    for method in ("laplace", "svi"):
        sampler = Sampler(method=method, chains=2, draws=500, starts=1)
        answers[method] = fit(runs, sampler=sampler, seed=1)
        assert answers[method].record.method == method
        assert answers[method].record.convergence.min_ess_bulk >= 400
    for name in ("E", "alpha", "beta"):
        a, b = (answers[method].draws(name)[:, 0] for method in answers)
        assert abs(a.mean() - b.mean()) < 4 * a.std() * np.sqrt(2 / 400)


def test_quantities_by_run_are_kept_of_evenly_spaced_draws(monkeypatch):
    assert pointwise_step(500, 4, 640) == 1
    assert pointwise_step(500, 4, 100_000) == 10
    runs = simulate_runs(0, groups=ONE)
    whole = fit(runs, sampler=QUICK, seed=1)
    monkeypatch.setattr(derive, "POINTWISE_VALUES", 100 * len(runs))
    thinned = fit(runs, sampler=QUICK, seed=1)
    kept = thinned.idata["log_likelihood"]["loss"].to_numpy()
    assert kept.shape == (2, 50, len(runs))
    assert (kept == whole.idata["log_likelihood"]["loss"].to_numpy()[:, ::4]).all()
    assert (thinned.draws("E") == whole.draws("E")).all()
    kept_names, names = ([s.name for s in check(p).statistics] for p in (thinned, whole))
    assert kept_names == names


@pytest.mark.slow
def test_ten_thousand_runs_are_answered_without_sampling_them():
    budgets = tuple(np.geomspace(1e17, 1e20, 25))
    table = simulate_runs(1, budgets=budgets, sizes=100)
    posterior = fit(table, sampler=Sampler(method="laplace", starts=2))
    assert posterior.record.method == "laplace"
    for index, truth in enumerate(TRUTH.values()):
        for name, value in zip(("E", "alpha", "beta"), truth[:3], strict=True):
            draws = posterior.draws(name)[:, index]
            assert abs(draws.mean() - value) < 4 * draws.std()
