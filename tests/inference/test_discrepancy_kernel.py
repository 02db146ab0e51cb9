"""What a law has taken up over a range is not in its discrepancy there, and all is far from it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from allometry.inference.discrepancy import condition
from allometry.inference.discrepancy_kernel import RIDGE, Kernel, covariance, taken_up
from allometry.inference.drift import Drift
from allometry.inference.fitted_range import CELL, RUNS_IN_FULL, FittedRange, count_cells
from allometry.inference.importing import BoundPrior, fitted_ranges
from allometry.inference.record import Record
from allometry.inference.residuals import RunResiduals, mean_law_slopes

LENGTH = 5.0
CELLS = tuple((c, r, 3.0) for c in np.arange(18.0, 22.0, CELL) for r in (0.5, 1.0, 1.5, 2.0))
RANGE = FittedRange(weight=1.0, cells=CELLS)


def plane(place):
    """Slopes of a law that is linear in c and r."""
    return np.column_stack([np.ones(len(place)), place - [20.0, 1.25]])


def kernel(found=RANGE, slopes=plane):
    return Kernel(length=LENGTH, taken=(taken_up(found, slopes, LENGTH),))


def test_what_is_left_is_orthogonal_to_the_law_over_the_range():
    cells = np.asarray(CELLS)[:, :2]
    anywhere = np.array([[19.3, 1.1], [25.0, 3.0]])
    before = plane(cells).T @ covariance(cells, anywhere, LENGTH) / len(cells)
    after = plane(cells).T @ kernel().between(cells, anywhere) / len(cells)
    # The law's own slopes are of order one: a ridge of 1e-5 leaves that share.
    assert np.abs(after).max() < 20 * RIDGE
    assert np.abs(before).max() > 0.1


def test_it_is_small_within_the_range_and_large_far_from_it():
    place = np.array([[20.0, 1.2], [23.0, 1.2], [30.0, 1.2]])
    inside, beyond, far = np.sqrt(kernel().variance(place))
    assert inside < 0.1
    assert inside < beyond < far
    assert far > 1.0  # the law goes on with what it took up, wrongly


def test_the_variance_is_the_diagonal_of_a_covariance():
    rng = np.random.default_rng(0)
    place = np.column_stack([rng.uniform(17, 25, 20), rng.uniform(0, 4, 20)])
    found = kernel()
    between = found.between(place, place)
    assert between == pytest.approx(between.T)
    assert found.variance(place) == pytest.approx(np.diag(between), abs=1e-12)
    assert np.linalg.eigvalsh(between).min() > -1e-10


def test_an_import_counts_by_its_weight():
    place = np.array([[20.0, 1.2], [21.0, 0.6]])
    none, half, all_ = (
        kernel(replace(RANGE, weight=w)).between(place, place) for w in (0.0, 0.5, 1.0)
    )
    assert none == pytest.approx(covariance(place, place, LENGTH))
    assert half == pytest.approx((none + all_) / 2)


def test_runs_of_one_budget_do_not_tell_of_a_discrepancy_far_from_them(fitted):
    one = FittedRange(weight=1.0, cells=tuple((19.0, r, 1.0) for r in (0.5, 1.0, 1.5)))
    # What no run tells is left alone: nothing far off is taken up with it.
    found = kernel(one, mean_law_slopes(fitted)).variance(np.array([[19.0, 1.0], [29.0, 1.0]]))
    assert found[0] < 0.01
    assert 0.5 < found[1] < 4.0


def test_a_cell_counts_by_how_many_studies_have_runs_there():
    many = tuple((c, r, n * (10.0 if c < 20 else 1.0)) for c, r, n in CELLS)
    near, beyond = np.array([[18.5, 1.2]]), np.array([[23.0, 1.2]])
    common = kernel(FittedRange(weight=1.0, cells=many))
    assert common.variance(near) < kernel().variance(near)
    assert common.variance(beyond) > kernel().variance(beyond)


def test_a_discrepancy_follows_residuals_with_what_is_left_of_it():
    place = np.column_stack([np.linspace(18.0, 19.0, 5), np.full(5, 1.3)])
    found = RunResiduals(residual=np.full(5, 0.02), variance=np.full(5, 1e-10))
    group, ahead = np.zeros(5, dtype=int), np.array([[21.0, 1.3]])
    drift = Drift(scale=0.08)
    whole, left = (condition(place, group, found, drift, k) for k in (None, kernel()))
    (mean, sd), (mean_left, sd_left) = (one.at(np.zeros(1, int), ahead) for one in (whole, left))
    assert sd_left < sd / 2
    assert abs(mean_left) < abs(mean)
    for one in (whole, left):  # at the runs both are their residuals
        at, spread = one.at(np.zeros(1, int), place[2:3])
        assert (at[0], spread[0]) == (pytest.approx(0.02, abs=1e-3), pytest.approx(0.0, abs=1e-3))
    between = left.between(np.zeros(2, int), np.vstack([ahead, place[2:3]]))
    assert np.sqrt(between[0, 0]) == pytest.approx(sd_left[0], rel=1e-6)


def test_the_slopes_of_the_mean_law_are_those_of_its_log_loss(fitted):
    slopes = mean_law_slopes(fitted)
    place = np.array([[19.0, 1.3], [21.0, 1.5], [23.0, 3.0]])
    found = slopes(place)
    assert found.shape == (3, len(fitted.law.names))
    assert np.array_equal(found[:2], slopes(place[:2]))
    by_name = dict(zip(fitted.law.names, found.T, strict=True))
    # A larger E raises the loss by its share of it, which grows along the budget; a larger alpha
    # lowers it beyond the reference run.
    assert (np.diff(by_name["log_E"][:2]) > 0).all()
    assert (by_name["log_E"] < 1.0).all()
    assert by_name["log_alpha"][1] < 0


def test_cells_count_studies_and_not_their_runs():
    one = np.full(5, 1e9), np.full(5, 2e10)
    other = np.array([1e9, 1e8]), np.array([2e10, 2e9])
    found = count_cells([one, other])
    assert found == ((17.5, 1.5, 1.0), (19.5, 1.5, 2.0))


def test_many_runs_and_runs_that_contradict_an_import_take_its_range_from_it():
    def bound(name, cells=CELLS):
        return BoundPrior(name=name, about=("law",), source=None, vague=0.2, fitted_over=cells)

    laws = [bound("a"), bound("b"), bound("noise", ())]
    members = [(0, 1), (2,)]

    def weights(*after, runs=8):
        told = [((0.2, 0.4, 0.4), after), ((0.2, 0.8), (0.1, 0.9))]
        return [one.weight for one in fitted_ranges(laws, members, told, runs=runs)]

    assert weights(0.2, 0.6, 0.2) == pytest.approx([0.75, 0.25])
    assert weights(0.05, 0.0, 0.95) == pytest.approx([1.0])  # more than all is not there
    assert weights(0.9, 0.05, 0.05) == pytest.approx([0.0625, 0.0625])
    assert weights(0.2, 0.6, 0.2, runs=4 * RUNS_IN_FULL) == pytest.approx([0.1875, 0.0625])


def test_a_record_keeps_ranges_and_older_ones_have_none(fitted):
    record = replace(fitted.record, fitted_ranges=(replace(RANGE, weight=0.3),))
    attributes = record.to_attributes()
    assert Record.from_attributes(attributes, source="x") == record
    old = {name: text for name, text in attributes.items() if name != "fitted_ranges"}
    assert Record.from_attributes(old, source="x").fitted_ranges == ()
    assert json.loads(attributes["fitted_ranges"])[0]["weight"] == 0.3
