import numpy as np
import pytest
from scipy import stats

from allometry.criticism.scores import (
    covered,
    crps,
    honest_coverage,
    log_score,
    relative_error,
    shares_if_right,
)


def test_crps_of_a_normal_equals_its_closed_form():
    draws = stats.norm.ppf((np.arange(4000) + 0.5) / 4000)[:, None]
    observed = np.array([-2.0, 0.0, 0.7])
    # Gneiting and Raftery 2007, eq. 21.
    exact = observed * (2 * stats.norm.cdf(observed) - 1) + 2 * stats.norm.pdf(observed)
    exact -= 1 / np.sqrt(np.pi)
    # Quantile draws miss the tails beyond 1 / 8000: less than 1e-3 of a standard deviation.
    np.testing.assert_allclose(crps(np.repeat(draws, 3, axis=1), observed), exact, atol=1e-3)


def test_crps_of_a_point_mass_is_the_absolute_error():
    assert crps(np.full((7, 1), 2.0), np.array([2.5])) == pytest.approx(0.5)


def test_intervals_cover_at_their_level():
    draws = np.repeat(np.linspace(0, 1, 1001)[:, None], 4, axis=1)
    observed = np.array([0.04, 0.06, 0.94, 0.96])
    assert covered(draws, observed, 0.9).tolist() == [False, True, True, False]


def test_the_share_that_a_right_forecast_covers_moves_with_its_shared_errors():
    rng = np.random.default_rng(0)
    own, shared = rng.normal(size=(4000, 50)), rng.normal(size=(4000, 1))
    # Fifty independent points: binomial(50, .9) / 50 has its 5 and 95 % quantiles at 41 and 48.
    assert honest_coverage(own, 0.9) == pytest.approx((0.82, 0.96), abs=0.021)
    # One error for all: nearly all or nearly none of them are covered.
    low, high = honest_coverage(0.05 * own + shared, 0.9)
    assert low < 0.3
    assert high == 1.0


def test_shares_of_right_forecasts_are_of_whole_draws_and_average_the_level():
    draws = np.repeat(np.arange(101.0)[:, None], 3, axis=1)
    draws[:, 2] = draws[::-1, 2]
    # Ends at 5 and 95: each draw is inside at all three points or at none.
    assert shares_if_right(draws, 0.9).tolist() == [0.0] * 5 + [1.0] * 91 + [0.0] * 5
    mixed = draws.copy()
    mixed[:, 2] = np.roll(mixed[:, 2], 50)
    found = shares_if_right(mixed, 0.9)
    assert found[0] == pytest.approx(1 / 3)  # two points at their least, one in the middle
    assert found.mean() == pytest.approx(91 / 101)


def test_log_score_is_the_density_of_the_mixture():
    log_mean, sd = np.array([[0.0], [0.1]]), np.array([[0.02], [0.05]])
    observed = np.array([0.04])
    parts = stats.t.pdf(observed, 4.0, loc=log_mean[:, 0], scale=sd[:, 0])
    assert log_score(log_mean, sd, observed)[0] == pytest.approx(np.log(parts.mean()))


def test_relative_error_is_in_units_of_the_observed_loss():
    assert relative_error(np.log([2.2]), np.log([2.0]))[0] == pytest.approx(0.1)
