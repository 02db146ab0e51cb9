"""What an imported prior is worth, from precisions alone."""

import numpy as np
import pytest

from allometry.inference.worth import MOST_RUNS, runs_worth

DEFAULT, INFORMATION, AHEAD = np.eye(2), np.diag([1.0, 0.5]), np.array([1.0, 1.0])


def test_a_prior_that_says_what_runs_say_is_worth_as_many():
    imported = DEFAULT + 7.0 * INFORMATION
    assert runs_worth(DEFAULT, imported, INFORMATION, AHEAD, runs=3.0) == pytest.approx(7.0)


def test_a_prior_that_says_less_than_the_default_is_worth_nothing():
    assert runs_worth(DEFAULT, 0.5 * DEFAULT, INFORMATION, AHEAD, runs=3.0) == 0.0


def test_a_prior_that_leaves_a_direction_open_is_worth_nothing():
    open_ended, one_way = np.diag([1.0, 0.0]), np.diag([1.0, 0.0])
    assert runs_worth(DEFAULT, open_ended, one_way, AHEAD, runs=3.0) == 0.0


def test_worth_is_bounded():
    imported = DEFAULT + 10.0 * MOST_RUNS * INFORMATION
    assert runs_worth(DEFAULT, imported, INFORMATION, AHEAD, runs=3.0) == MOST_RUNS
