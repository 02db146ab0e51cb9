"""The discrepancy follows residuals where there are runs and forgets them far away."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from allometry.inference.discrepancy import (
    TELLING_GROUPS,
    condition,
    discrepancy_at,
    discrepancy_between,
    places,
)
from allometry.inference.discrepancy_cells import CELL, MAX_CELLS
from allometry.inference.drift import (
    FAR_LOG_SD,
    FORMER_LENGTH,
    LENGTH,
    Drift,
    default_drift,
    draw_drift,
    draw_far,
    far_square,
)
from allometry.inference.record import Record
from allometry.inference.residuals import RunResiduals
from allometry.laws import get_law

DRIFT = Drift(scale=0.04, shared=0.5)
EXACT = 1e-10  # variance of a residual: 1e-5 of log loss


def line(group: int = 0, residual: float = 0.0, variance: float = EXACT, count: int = 9):
    """Runs of one group on a line of growing compute at 30 tokens a parameter."""
    place = np.stack([np.linspace(18.0, 20.0, count), np.full(count, np.log10(30.0))], axis=1)
    return place, np.full(count, group), runs(np.full(count, residual), np.full(count, variance))


def runs(residual, variance, slopes=None) -> RunResiduals:
    return RunResiduals(residual=np.asarray(residual), variance=np.asarray(variance), slopes=slopes)


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
    place, group, still = line()
    slope = 0.01
    found = condition(place, group, runs(slope * (place[:, 0] - 19.0), still.variance), DRIFT)
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
    twice = condition(place, np.zeros(2, int), runs([0.0, 0.03], [2e-4, 1e-4]), DRIFT)
    assert len(twice.place) == 1
    once = condition(twice.place, np.zeros(1, int), runs([0.02], [2e-4 / 3]), DRIFT)
    assert at(twice, 19.1, 1.5) == pytest.approx(at(once, 19.1, 1.5))


def test_over_fitted_runs_say_little_of_fresh_text():
    params, tokens = np.full(9, 1e9), np.geomspace(1e10, 1e11, 9)
    asked = np.asarray([1e9]), np.asarray([3e10])
    means = {}
    for law in ("repetition", "chinchilla"):
        fitted = SimpleNamespace(law=get_law(law))
        place = places(fitted, params, tokens, np.full(9, 100.0))
        residuals = runs(np.full(9, 0.02), np.full(9, EXACT))
        found = condition(place, np.zeros(9, int), residuals, DRIFT)
        for epochs in (None, np.asarray([90.0])):
            where = places(fitted, *asked, epochs)
            means[law, epochs is None] = float(found.at(np.zeros(1, int), where)[0][0])
    # Matérn 5/2 at two lengths: (1 + 2 sqrt 5 + 20 / 3) exp(-2 sqrt 5) = .139 of the residual.
    # The runs lie a decade apart in all, and so tell a little more than one would.
    assert means["repetition", True] == pytest.approx(0.139 * 0.02, rel=0.2)
    assert means["repetition", False] == pytest.approx(0.02, rel=0.02)
    assert means["chinchilla", True] == pytest.approx(0.02, rel=0.01)  # a law that reads no epochs


def test_cells_grow_until_there_are_few_enough():
    rng = np.random.default_rng(0)
    n = 4 * MAX_CELLS
    place = np.stack([rng.uniform(15, 25, n), rng.uniform(0, 3, n)], axis=1)
    still = runs(np.zeros(n), np.full(n, 1e-5))
    found = condition(place, rng.integers(3, size=n), still, DRIFT)
    assert len(found.place) <= MAX_CELLS
    assert set(found.group) == {0, 1, 2}
    more_groups = np.arange(n)
    kept = condition(place, more_groups, still, DRIFT)
    assert len(kept.place) == n  # a group is never mixed with another


def test_drift_draws_have_the_scale_and_the_shared_part():
    draws = draw_drift(DRIFT, draws=20_000, n_groups=2, seed=1)
    # Relative error of a standard deviation of n draws: 1 / sqrt(2 n) = 0.5 %.
    assert draws.std() == pytest.approx(DRIFT.scale, rel=0.02)
    assert np.corrcoef(draws.T)[0, 1] == pytest.approx(DRIFT.shared, abs=0.03)


def test_the_scale_far_away_is_log_normal_around_the_one_near_the_runs():
    logs = np.log(draw_far(log_sd=0.3, draws=20_000, seed=1))
    assert np.median(logs) == pytest.approx(0.0, abs=0.02)
    assert logs.std() == pytest.approx(np.hypot(0.3, FAR_LOG_SD), rel=0.02)


def test_a_study_tells_its_own_scale():
    place, group, still = line(count=9)
    rough = np.asarray([1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    level = np.ones((9, 1))
    smooth = condition(place, group, runs(0.0 * rough, still.variance, level), DRIFT)
    jagged = condition(place, group, runs(0.03 * rough, still.variance, level), DRIFT)
    assert smooth.scale.scale < DRIFT.scale / 2
    assert jagged.scale.scale > 2 * DRIFT.scale
    # Exact runs at 0 say nothing of a study whose noise is as large as the discrepancy.
    noisy = condition(place, group, runs(0.0 * rough, np.full(9, 1.0), level), DRIFT)
    assert noisy.scale.scale == pytest.approx(DRIFT.scale, rel=0.05)


def test_the_scale_comes_from_the_groups_with_most_runs():
    rng = np.random.default_rng(0)
    sizes = [9] * TELLING_GROUPS + [2] * 5
    lines = [line(group=g, count=n)[0] for g, n in enumerate(sizes)]
    place, group = np.concatenate(lines), np.repeat(np.arange(len(sizes)), sizes)
    residual = 0.01 * rng.normal(size=len(place))
    slopes, variance = np.ones((len(place), 1)), np.full(len(place), 1e-6)
    told = condition(place, group, runs(residual, variance, slopes), DRIFT)
    kept = group < TELLING_GROUPS
    alone = condition(
        place[kept], group[kept], runs(residual[kept], variance[kept], slopes[kept]), DRIFT
    )
    assert told.scale == alone.scale
    assert set(told.group) == set(range(len(sizes)))


def test_default_drift_does_not_depend_on_the_number_of_groups():
    assert default_drift(1) == default_drift(6)


def test_the_covariance_between_points_has_their_variance_on_its_diagonal(fitted):
    rng = np.random.default_rng(0)
    group = rng.integers(0, 4, size=12)
    params, tokens = 10.0 ** rng.uniform(8, 11, size=12), 10.0 ** rng.uniform(9, 12, size=12)
    between = discrepancy_between(fitted, group, params, tokens)
    _, sd = discrepancy_at(fitted, group, params, tokens)
    assert np.diag(between) == pytest.approx(sd**2, abs=1e-12)
    assert between == pytest.approx(between.T)
    assert np.linalg.eigvalsh(between).min() > -1e-12
    # Points far from all runs are as correlated as groups are: the runs say nothing there.
    far = discrepancy_between(fitted, np.array([0, 1]), np.full(2, 1e25), np.full(2, 1e28))
    assert far[0, 1] / far[0, 0] == pytest.approx(fitted.record.drift.shared, rel=0.01)


def test_the_mean_square_of_the_far_scale_is_that_of_its_draws():
    drawn = draw_far(log_sd=0.3, draws=200_000, seed=0)
    assert far_square(log_sd=0.3) == pytest.approx((drawn**2).mean(), rel=0.03)


def test_a_file_that_does_not_say_how_long_its_discrepancy_is_has_the_former_length(fitted):
    attributes = fitted.record.to_attributes()
    drift = json.loads(attributes["drift"])
    assert drift.pop("length") == LENGTH
    old = Record.from_attributes(attributes | {"drift": json.dumps(drift)}, source="x")
    assert old.drift == replace(fitted.record.drift, length=FORMER_LENGTH)


def test_a_longer_discrepancy_is_known_farther_from_its_runs():
    short, long = (condition(*line(residual=0.02), replace(DRIFT, length=n)) for n in (2.0, 5.0))
    assert at(long, 22.0)[1] < at(short, 22.0)[1]
