"""How far a prediction is beyond the runs, in numbers and in words."""

import itertools

import numpy as np
import pytest

from allometry.inference.reach import (
    FAR_ASIDE,
    _from_hull,
    far_outside,
    known_reaches,
    reach_sentence,
)

SQUARE = np.asarray([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0], [1.0, 1.0]])


def test_distance_is_to_the_hull_and_zero_inside():
    points = np.asarray([[1.0, 0.5], [3.0, 1.0], [3.0, 3.0], [2.0, 2.0]])
    np.testing.assert_allclose(_from_hull(points, SQUARE), [0.0, 1.0, np.sqrt(2), 0.0], atol=1e-9)


@pytest.mark.parametrize(
    "runs", [SQUARE[:1], SQUARE[:2], np.asarray([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])]
)
def test_runs_on_a_line_have_no_inside(runs):
    points = np.asarray([[3.0, 3.0], [0.0, 0.0]])
    found = _from_hull(points, runs)
    ends = runs[-1] if len(runs) != 2 else runs[1]
    assert found[0] == pytest.approx(np.hypot(*(points[0] - ends)))
    assert found[1] == pytest.approx(0.0, abs=1e-9)


def test_the_bundled_table_covers_every_distance_once():
    rows = known_reaches()
    assert rows[0].low == 1.0
    assert rows[-1].high == np.inf
    for near, far in itertools.pairwise(rows):
        assert near.high == far.low
    for row in rows:
        assert row.runs > 0
        assert 0 <= row.coverage_50 <= row.coverage_90 <= 1
        assert 0 < row.median_error <= row.high_error


def test_the_sentence_quotes_the_row_of_its_distance():
    row = next(r for r in known_reaches() if r.low < 5.0 <= r.high)
    words = reach_sentence(5.0)
    assert words.startswith("5 times the compute")
    assert f"{row.runs} hidden runs of {row.studies} public studies" in words
    assert f"{row.median_error:.1f} %" in words
    assert f"{100 * row.coverage_90:.0f} % lay within their" in words


def test_nothing_vouches_beyond_the_farthest_hidden_run():
    assert "nothing vouches" in reach_sentence(1e9)
    assert reach_sentence(1.0) == "Within the compute of the group's runs."


def test_a_point_aside_of_the_runs_is_told_though_it_costs_less_than_they_did():
    near, far = 0.9 * FAR_ASIDE, 1.1 * FAR_ASIDE
    assert reach_sentence(0.5, aside=near) == reach_sentence(0.5)
    assert "0.3 decades from their params and tokens" in reach_sentence(0.5, aside=far)
    assert [far_outside(0.5, near), far_outside(0.5, far), far_outside(1.5, 0.0)] == [
        False,
        True,
        True,
    ]


def test_the_run_that_a_group_never_run_is_far_from_is_of_another_group():
    assert "times the compute of the largest run of a group like it:" in reach_sentence(
        5.0, unseen=True
    )


def test_a_distance_beyond_all_counting_is_a_power():
    assert reach_sentence(1.87e41).startswith("1.9e41 times")
