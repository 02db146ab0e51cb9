"""The checks on a model small enough to know its posterior: log loss around one unknown mean."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from allometry.criticism.fitted_runs import FittedRuns, noise_cdf, noise_log_density
from allometry.criticism.ppc import calibrated_p, posterior_predictive_checks, thirds

RUNS, SD, DRAWS = 60, 0.01, 200


def location_posterior(rng: np.random.Generator, shift=0.0) -> FittedRuns:
    """Runs around a mean drawn from its prior, and draws of that mean from its exact posterior."""
    truth = rng.normal(1.0, 0.05)
    design = pd.DataFrame(
        {"params": rng.uniform(1e7, 1e9, RUNS), "tokens": rng.uniform(1e9, 1e11, RUNS)}
    )
    log_loss = truth + shift * np.asarray(design["params"] > 6e8) + SD * rng.standard_t(4.0, RUNS)
    grid = truth + np.linspace(-0.02, 0.02, 401)
    density = noise_log_density((log_loss[None] - grid[:, None]) / SD).sum(axis=1)
    density += stats.norm.logpdf(grid, 1.0, 0.05)
    weights = np.exp(density - density.max())
    mean = rng.choice(grid, size=DRAWS, p=weights / weights.sum())
    table = design.assign(
        run=[str(i) for i in range(RUNS)],
        group="all",
        flops=6 * design["params"] * design["tokens"],
        loss=np.exp(log_loss),
    )
    return FittedRuns(
        table=table,
        group=np.zeros(RUNS, dtype=np.int64),
        log_loss=log_loss,
        log_mean=np.repeat(mean[:, None], RUNS, axis=1),
        sd=np.full((DRAWS, RUNS), SD),
    )


def p_values(fitted: FittedRuns) -> dict[str, float]:
    return {s.name: s.p for s in posterior_predictive_checks(fitted)}


def test_p_values_are_uniform_when_the_model_holds():
    found = [p_values(location_posterior(np.random.default_rng([5, i]))) for i in range(100)]
    for name in found[0]:
        p = np.array([f[name] for f in found])
        # Fixed seeds: either always passes or never. Seven checks at 1e-3.
        assert stats.kstest(p, "uniform").pvalue > 1e-3, name


def test_a_third_that_the_law_misses_is_named():
    fitted = location_posterior(np.random.default_rng(1), shift=2.5 * SD)
    found = {s.name: s for s in posterior_predictive_checks(fitted)}
    assert found["params"].p < 1e-4
    assert found["tokens"].p > 1e-3
    assert (found["params"].where, found["params"].effect > 0) == ("largest", True)


def test_a_wrong_spread_a_skew_and_an_outlier_are_seen():
    from dataclasses import replace

    fitted = location_posterior(np.random.default_rng(2))
    assert p_values(replace(fitted, sd=0.4 * fitted.sd))["spread"] < 1e-4
    # An exponential, less its mean: its third Hermite moment is 2, that of a normal 0.
    skewed = 1.0 + SD * (np.random.default_rng(3).exponential(size=RUNS) - 1.0)
    centred = replace(fitted, log_loss=skewed, log_mean=np.full_like(fitted.log_mean, 1.0))
    skew = next(s for s in posterior_predictive_checks(centred) if s.name == "skew")
    assert (skew.p < 1e-2, skew.where) == (True, "above")
    with_outlier = fitted.log_loss.copy()
    with_outlier[17] += 60 * SD
    worst = posterior_predictive_checks(replace(fitted, log_loss=with_outlier))[-1]
    assert (worst.name, worst.where) == ("worst_residual", "17")
    assert worst.p < 1e-4


def test_what_the_fit_absorbs_cannot_be_checked():
    rng = np.random.default_rng(0)
    absorbed = 2.5 + rng.normal(size=(4000, 1))  # as uncertain after the fit as without one
    assert math.isnan(calibrated_p(absorbed))
    fixed = np.full((10, 1), 2.5) + 1e-9 * rng.normal(size=(10, 1))
    assert calibrated_p(fixed) == pytest.approx(2 * stats.norm.sf(2.5), rel=1e-6)


def test_thirds_are_taken_inside_each_group():
    values = np.array([1.0, 2.0, 3.0, 10.0, 20.0, 30.0])
    assert thirds(values, np.array([0, 0, 0, 1, 1, 1])).tolist() == [0, 1, 2, 0, 1, 2]


def test_the_fast_noise_functions_are_student_t():
    z = np.array([-30.0, -2.0, -0.1, 0.0, 0.3, 5.0])
    np.testing.assert_allclose(noise_cdf(z), stats.t.cdf(z, 4.0), rtol=1e-12)
    np.testing.assert_allclose(noise_log_density(z), stats.t.logpdf(z, 4.0), rtol=1e-12)
