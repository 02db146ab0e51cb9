"""The scale that residuals tell is that of the process which made them."""

import numpy as np
import pytest

from allometry.errors import InputError
from allometry.inference.discrepancy import condition, covariance
from allometry.inference.discrepancy_scale import learn_scale, prior_scale
from allometry.inference.drift import LENGTH, STUDIES_LOG_SD, Drift
from allometry.inference.residuals import RunResiduals

MEDIAN = 0.08
NOISE = 0.003


def study(rng, *, scale, noise=1.0, count=40):
    """Residuals of a study after its law was fitted: what its slopes can take up is gone."""
    place = np.stack([rng.uniform(18, 21, count), rng.uniform(0.5, 2.5, count)], axis=1)
    correlation = covariance(place, place, LENGTH)
    slopes = np.column_stack([np.ones(count), place - place.mean(axis=0), place[:, 0] ** 2 / 400])
    variance = np.full(count, NOISE**2)
    made = scale * np.linalg.cholesky(correlation + 1e-9 * np.eye(count)) @ rng.normal(size=count)
    made += np.sqrt(noise * variance) * rng.normal(size=count)
    refit, *_ = np.linalg.lstsq(slopes, made, rcond=None)
    return made - slopes @ refit, variance, correlation, slopes


def test_truths_drawn_from_the_prior_are_ranked_by_their_posteriors():
    rng = np.random.default_rng(5)
    z = []
    for _ in range(120):
        truth = MEDIAN * np.exp(STUDIES_LOG_SD * rng.normal())
        found = learn_scale(*study(rng, scale=truth, noise=rng.uniform(0.5, 1.2)), scale=MEDIAN)
        z.append((np.log(truth) - np.log(found.scale)) / found.log_sd)
    # Standard errors over 120 studies: .09 of the mean, .065 of the standard deviation.
    assert abs(np.mean(z)) < 0.3
    assert np.std(z) == pytest.approx(1.0, abs=0.2)


def test_a_refit_that_hides_the_discrepancy_is_allowed_for():
    rng = np.random.default_rng(1)
    found = {"told": [], "hidden": []}
    for _ in range(30):
        residual, variance, correlation, slopes = study(rng, scale=MEDIAN)
        inputs = {"told": slopes, "hidden": np.zeros((len(residual), 1))}
        for name, given in inputs.items():
            learned = learn_scale(residual, variance, correlation, given, scale=MEDIAN)
            found[name].append(np.log(learned.scale / MEDIAN))
    # A standard error is .05, and a posterior is not unbiased at one truth.
    assert abs(np.mean(found["told"])) < 0.2
    assert np.mean(found["hidden"]) < np.mean(found["told"]) - 0.15


def test_noise_alone_lowers_the_scale_and_is_taken_as_noise():
    rng = np.random.default_rng(2)
    found = learn_scale(*study(rng, scale=0.0, count=150), scale=MEDIAN)
    assert found.scale < MEDIAN / 2
    assert found.noise == pytest.approx(1.0, abs=0.35)


def test_spare_residuals_tell_the_noise():
    rng = np.random.default_rng(3)
    inputs = study(rng, scale=MEDIAN)
    quiet = learn_scale(*inputs, scale=MEDIAN, spare=(500, 250.0))
    assert quiet.noise == pytest.approx(0.5, rel=0.1)
    silent = learn_scale(*inputs, scale=MEDIAN, spare=(500, 50.0))
    assert silent.noise == pytest.approx(0.1, rel=0.3)


def test_nothing_learned_is_the_prior():
    nothing = np.zeros(1), np.ones(1), np.ones((1, 1)), np.zeros((1, 1))
    found = learn_scale(*nothing, scale=MEDIAN)
    assert found.scale == pytest.approx(MEDIAN, rel=0.02)
    # The grid ends at 1/12 and 8 medians.
    assert found.log_sd == pytest.approx(prior_scale(MEDIAN).log_sd, rel=0.05)
    assert found.noise == pytest.approx(1.0, rel=0.15)  # one residual of zero says a little


def test_a_wider_prior_leaves_more_open_and_lets_a_study_say_more():
    nothing = np.zeros(1), np.ones(1), np.ones((1, 1)), np.zeros((1, 1))
    # A normal cut at 1/12 and 8 medians, near two and a half standard deviations.
    assert learn_scale(*nothing, scale=MEDIAN, log_sd=0.9).log_sd == pytest.approx(0.9, rel=0.1)
    rng = np.random.default_rng(4)
    inputs = study(rng, scale=5 * MEDIAN)
    known, open_ = (learn_scale(*inputs, scale=MEDIAN, log_sd=sd) for sd in (STUDIES_LOG_SD, 0.9))
    assert MEDIAN < known.scale < open_.scale


@pytest.mark.parametrize(
    "wrong", [{"scale": -0.1}, {"shared": 1.5}, {"log_sd": 0.0}, {"length": 0.0}]
)
def test_a_drift_that_cannot_be_is_refused(wrong):
    with pytest.raises(InputError, match="log_sd and length positive"):
        Drift(**{"scale": MEDIAN} | wrong)


def test_a_fit_passes_its_drift_on():
    place, group = np.zeros((2, 2)), np.zeros(2, dtype=np.int64)
    nothing = RunResiduals(residual=np.zeros(2), variance=np.ones(2))
    told = condition(place, group, nothing, Drift(scale=MEDIAN, log_sd=0.9))
    assert told.scale == prior_scale(MEDIAN, log_sd=0.9)
