"""The discrepancy follows residuals where there are runs and forgets them far away."""

from types import SimpleNamespace

import numpy as np
import pytest

from allometry.inference.discrepancy import CELL, MAX_CELLS, condition, places
from allometry.inference.drift import (
    STUDIES_LOG_SD,
    Drift,
    default_drift,
    draw_drift,
    draw_study,
)
from allometry.laws import get_law

DRIFT = Drift(scale=0.04, shared=0.5)
EXACT = 1e-10  # variance of a residual: 1e-5 of log loss


def line(group: int = 0, residual: float = 0.0, variance: float = EXACT, count: int = 9):
    """Runs of one group on a line of growing compute at 30 tokens a parameter."""
    place = np.stack([np.linspace(18.0, 20.0, count), np.full(count, np.log10(30.0))], axis=1)
    return place, np.full(count, group), np.full(count, residual), np.full(count, variance)


def at(found, c: float, r: float = np.log10(30.0), group: int = 0):
    mean, sd = found.at(np.asarray([group]), np.asarray([[c, r]]))
    return float(mean[0]), float(sd[0])


def test_at_the_runs_it_is_their_residual_and_certain():
    found = condition(*line(residual=0.02), DRIFT)
    mean, sd = at(found, 19.0)
    assert mean == pytest.approx(0.02, abs=1e-4)
    assert sd < 1e-4


def test_far_away_it_is_unknown_to_the_scale():
    found = condition(*line(residual=0.02), DRIFT)
    mean, sd = at(found, 60.0)
    assert abs(mean) < 1e-4
    assert sd == pytest.approx(DRIFT.scale, rel=1e-3)


def test_a_trend_of_the_residuals_goes_on_beyond_the_runs():
    place, group, _, variance = line()
    slope = 0.01
    found = condition(place, group, slope * (place[:, 0] - 19.0), variance, DRIFT)
    mean, _ = at(found, 20.3)
    # The process is smooth: three tenths of a decade on, most of the slope is still there.
    assert 0.011 < mean < 0.0131


def test_it_widens_with_compute_and_with_tokens_per_param():
    found = condition(*line(), DRIFT)
    inside, near, far = (at(found, c)[1] for c in (19.0, 21.0, 23.0))
    assert inside < near < far
    overtrained = at(found, 19.0, r=np.log10(3000.0))[1]
    assert overtrained > 10 * inside


def test_groups_share_a_part_and_an_unseen_group_only_that():
    found = condition(*line(group=0, residual=0.02), DRIFT)
    own, other = at(found, 19.0, group=0)[0], at(found, 19.0, group=5)[0]
    assert other == pytest.approx(DRIFT.shared * own, rel=1e-3)
    # What is not shared stays unknown: sd^2 = scale^2 (1 - shared^2).
    sd = at(found, 19.0, group=5)[1]
    assert sd == pytest.approx(DRIFT.scale * np.sqrt(1 - DRIFT.shared**2), rel=1e-3)
    alone = condition(*line(residual=0.02), Drift(scale=0.04, shared=0.0))
    assert at(alone, 19.0, group=5) == (0.0, pytest.approx(0.04))


def test_noisy_residuals_say_little():
    found = condition(*line(residual=0.02, variance=1.0), DRIFT)
    mean, sd = at(found, 19.0)
    assert abs(mean) < 0.001
    assert sd == pytest.approx(DRIFT.scale, rel=0.01)


def test_no_scale_is_no_discrepancy():
    found = condition(*line(residual=0.02), Drift(scale=0.0))
    assert at(found, 19.0) == (0.0, 0.0)


def test_runs_of_one_cell_count_as_their_weighted_mean():
    place = np.asarray([[19.0, 1.5], [19.0 + CELL[0] / 4, 1.5]])
    twice = condition(
        place, np.zeros(2, int), np.asarray([0.0, 0.03]), np.asarray([2e-4, 1e-4]), DRIFT
    )
    assert len(twice.place) == 1
    once = condition(
        twice.place, np.zeros(1, int), np.asarray([0.02]), np.asarray([2e-4 / 3]), DRIFT
    )
    assert at(twice, 19.1, 1.5) == pytest.approx(at(once, 19.1, 1.5))


def test_over_fitted_runs_say_little_of_fresh_text():
    params, tokens = np.full(9, 1e9), np.geomspace(1e10, 1e11, 9)
    asked = np.asarray([1e9]), np.asarray([3e10])
    means = {}
    for law in ("repetition", "chinchilla"):
        fitted = SimpleNamespace(law=get_law(law))
        place = places(fitted, params, tokens, np.full(9, 100.0))
        found = condition(place, np.zeros(9, int), np.full(9, 0.02), np.full(9, EXACT), DRIFT)
        for epochs in (None, np.asarray([90.0])):
            where = places(fitted, *asked, epochs)
            means[law, epochs is None] = float(found.at(np.zeros(1, int), where)[0][0])
    # Matérn 3/2 at two lengths: (1 + 2 sqrt 3) exp(-2 sqrt 3) = .14 of the residual.
    assert means["repetition", True] == pytest.approx(0.14 * 0.02, rel=0.1)
    assert means["repetition", False] == pytest.approx(0.02, rel=0.02)
    assert means["chinchilla", True] == pytest.approx(0.02, rel=0.01)  # a law that reads no epochs


def test_cells_grow_until_there_are_few_enough():
    rng = np.random.default_rng(0)
    n = 4 * MAX_CELLS
    place = np.stack([rng.uniform(15, 25, n), rng.uniform(0, 3, n)], axis=1)
    found = condition(place, rng.integers(3, size=n), np.zeros(n), np.full(n, 1e-5), DRIFT)
    assert len(found.place) <= MAX_CELLS
    assert set(found.group) == {0, 1, 2}
    more_groups = np.arange(n)
    kept = condition(place, more_groups, np.zeros(n), np.full(n, 1e-5), DRIFT)
    assert len(kept.place) == n  # a group is never mixed with another


def test_drift_draws_have_the_scale_and_the_shared_part():
    draws = draw_drift(DRIFT, draws=20_000, n_groups=2, seed=1)
    # Relative error of a standard deviation of n draws: 1 / sqrt(2 n) = 0.5 %.
    assert draws.std() == pytest.approx(DRIFT.scale, rel=0.02)
    assert np.corrcoef(draws.T)[0, 1] == pytest.approx(DRIFT.shared, abs=0.03)


def test_the_scale_of_a_study_is_log_normal_around_one():
    logs = np.log(draw_study(draws=20_000, seed=1))
    assert np.median(logs) == pytest.approx(0.0, abs=0.02)
    assert logs.std() == pytest.approx(STUDIES_LOG_SD, rel=0.02)


def test_default_drift_does_not_depend_on_the_number_of_groups():
    assert default_drift(1) == default_drift(6)
