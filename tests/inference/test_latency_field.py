"""What the law misses: its covariance, what timings tell of it, and how its numbers are learned."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from allometry.inference.latency_field import (
    _LOC,
    DIRECTIONS,
    PARTS,
    Field,
    Places,
    Residuals,
    _cost,
    learn_field,
    places,
)

FIELD = Field(
    step=False,
    spread=np.array([0.05, 0.03, 0.1, 0.2]),
    common=np.array([0.02, 0.04, 0.05, 0.1]),
    length=np.array([4.0, 6.0, 8.0, 2.0]),
    noise=0.002,
    power=1.3,
)


NOTHING = np.zeros(len(PARTS))


def some_places(rng, count, at=None, shape=0):
    """Places of one shape, whose number is the log2 of its params."""
    where = rng.integers(0, 8, size=(count, 3)) if at is None else at
    return placed(where, rng.dirichlet(np.ones(4), size=len(where)), shape)


def placed(at, share, shape=0):
    shapes = np.broadcast_to(shape, len(at))
    return Places(at=np.column_stack([at, shapes]).astype(float), share=share, shape=shapes)


def test_rows_are_the_tokens_of_the_prefill_and_only_launches_of_a_step_waited_for_it():
    table = pd.DataFrame(
        {"batch_size": [4, 4], "prefill_length": [256, 256], "quantity": ["ttft", "step_time"]}
        | {"params": [2.0**27, 2.0**28]}
    )
    found = places(table, np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]), np.array([3, 4]))
    assert found.at.tolist() == [[10.0, 2.0, 8.0, 27.0], [10.0, 2.0, 8.0, 28.0]]
    assert found.shape.tolist() == [3, 4]
    assert found.share.tolist() == [[0.5, 0.3, 0.2, 0.0], [0.5, 0.3, 0.2, 0.5]]


@pytest.mark.parametrize(
    ("part", "moved"),
    [
        ("launch", "sequences"),
        ("products", "sequences"),
        ("mixing", "sequences prompt"),
        ("wait", "rows prompt"),
    ],
)
def test_a_part_of_a_step_changes_along_what_its_kernels_see_and_nothing_else(part, moved):
    step = dataclasses.replace(FIELD, step=True)
    k = PARTS.index(part)
    share = np.tile(np.eye(len(PARTS))[k], (2, 1))
    for j, direction in enumerate(DIRECTIONS[:3]):
        there = placed(np.array([np.zeros(3), 2 * np.eye(3)[j]]), share)
        variance = FIELD.spread[k] ** 2 + FIELD.common[k] ** 2
        correlation = step.covariance(there, there)[0, 1] / variance
        power = FIELD.power if direction == "prompt" else 1.0
        far = (2 / FIELD.length[j]) ** power if direction in moved.split() else 0.0
        assert np.isclose(correlation, np.exp(-far), rtol=1e-12)


def test_shapes_share_what_is_common_the_less_the_more_their_params_differ():
    share = np.tile(np.eye(len(PARTS))[1], (3, 1))
    there = placed(np.ones((3, 3)), share, shape=np.array([0, 0, 3]))
    found = FIELD.covariance(there, there)
    assert np.isclose(found[0, 1], FIELD.spread[1] ** 2 + FIELD.common[1] ** 2, rtol=1e-12)
    # Three doublings of params at a length of two.
    assert np.isclose(found[0, 2], FIELD.common[1] ** 2 * np.exp(-2.25), rtol=1e-12)


def test_a_part_that_takes_no_time_is_not_missed():
    at = np.array([[1.0, 2.0, 3.0], [4.0, 4.0, 4.0]])
    alone = placed(at, np.eye(len(PARTS))[[0, 2]])
    found = FIELD.covariance(alone, alone)
    variance = FIELD.spread[[0, 2]] ** 2 + FIELD.common[[0, 2]] ** 2
    assert np.allclose(np.diag(found), variance, rtol=1e-12)
    assert found[0, 1] == 0.0  # no part in common


def test_draws_have_the_covariance_that_was_asked_for():
    rng = np.random.default_rng(0)
    places, size = some_places(rng, 3) + some_places(rng, 3, shape=1), 20_000
    drawn = FIELD.draw(places, size, rng)
    expected = FIELD.covariance(places, places)
    sd = np.sqrt(np.diag(expected))
    # A sample covariance is off by at most sqrt(2 / size) of the product of sds; five of these.
    error = np.abs(drawn.T @ drawn / size - expected) / np.outer(sd, sd)
    assert error.max() < 5 * np.sqrt(2 / size)


def test_points_of_one_shape_at_one_place_with_equal_shares_share_one_draw():
    rng = np.random.default_rng(1)
    one = some_places(rng, 3)
    drawn = FIELD.draw(one + one, 10, rng)
    assert np.allclose(drawn[:, :3], drawn[:, 3:], rtol=1e-12)


def test_a_timed_place_keeps_its_residual_and_a_far_one_knows_nothing():
    rng = np.random.default_rng(2)
    timed = some_places(rng, 6, at=np.array([[float(i), 2.0, 5.0] for i in range(6)]))
    residual = np.full((4000, 6), 0.05)
    near = FIELD.draw_given(timed, timed, residual, np.zeros(6), rng)
    # Noise of 0.2 % leaves each place where its timing is to less than that.
    assert np.abs(near.mean(axis=0) - 0.05).max() < FIELD.noise
    assert near.std(axis=0).max() < 1.1 * FIELD.noise
    far = placed(np.array([[400.0, 2.0, 5.0]]), timed.share[:1])
    found = FIELD.draw_given(far, timed, residual, np.zeros(6), rng)
    spread = np.sqrt(FIELD.covariance(far, far)[0, 0])
    assert abs(found.mean()) < 4 * spread / np.sqrt(4000)
    assert abs(found.std() / spread - 1) < 4 / np.sqrt(2 * 4000)


def test_draws_given_timings_have_the_mean_and_covariance_of_a_gaussian():
    rng = np.random.default_rng(8)
    timed = some_places(rng, 5) + some_places(rng, 5, shape=1)
    new = some_places(rng, 3, shape=1) + some_places(rng, 3, shape=2)
    residual, variance = 0.05 * rng.normal(size=10), np.full(10, 1e-4)
    size = 20_000
    drawn = FIELD.draw_given(new, timed, np.tile(residual, (size, 1)), variance, rng)
    own = FIELD.covariance(timed, timed) + np.diag(FIELD.noise**2 + variance)
    across = FIELD.covariance(timed, new)
    expected = FIELD.covariance(new, new) - across.T @ np.linalg.solve(own, across)
    sd = np.sqrt(np.diag(expected))
    # Sample means are off by sd / sqrt(size), covariances by sqrt(2 / size) of the product of sds.
    off = drawn.mean(axis=0) - residual @ np.linalg.solve(own, across)
    assert np.abs(off / sd).max() < 5 / np.sqrt(size)
    assert np.abs(np.cov(drawn.T) - expected).max() / sd.max() ** 2 < 5 * np.sqrt(2 / size)


def test_another_shape_tells_what_is_common_and_nothing_of_a_shapes_own():
    rng = np.random.default_rng(9)
    timed = some_places(rng, 6)
    same_place = dataclasses.replace(timed, shape=np.ones(6, dtype=int))
    residual = np.full((4000, 6), 0.05)
    alone = dataclasses.replace(FIELD, common=NOTHING)
    found = alone.draw_given(same_place, timed, residual, np.zeros(6), rng)
    assert np.abs(found.mean(axis=0) / found.std(axis=0)).max() < 4 / np.sqrt(4000)
    # With nothing of its own, a shape of as many params misses what the timed one did.
    shared = dataclasses.replace(FIELD, spread=NOTHING)
    found = shared.draw_given(same_place, timed, residual, np.zeros(6), rng)
    assert np.abs(found.mean(axis=0) - 0.05).max() < FIELD.noise


def test_a_timing_with_a_large_known_error_is_not_followed():
    rng = np.random.default_rng(3)
    timed = some_places(rng, 1)
    residual = np.full((2000, 1), 0.05)
    known = np.array([100 * FIELD.covariance(timed, timed)[0, 0]])
    found = FIELD.draw_given(timed, timed, residual, known, rng)
    assert abs(found.mean()) < 0.05 / 100 + 4 * found.std() / np.sqrt(2000)


@pytest.mark.parametrize(("step", "smooth"), [(True, True), (False, True), (False, False)])
def test_gradient_of_the_cost_is_its_slope(step, smooth):
    rng = np.random.default_rng(4)
    known = Residuals(
        places=some_places(rng, 10) + some_places(rng, 10, shape=2),
        residual=0.03 * rng.normal(size=20),
        variance=np.full(20, 1e-4),
    )
    x, small = _LOC + 0.3 * rng.normal(size=len(_LOC)), 1e-5

    def cost(y):
        return _cost(y, known, step=step, smooth=smooth)

    slope = [(cost(x + e)[0] - cost(x - e)[0]) / (2 * small) for e in small * np.eye(len(x))]
    # Central differences of a value near 1e2: small^2 and 1e-14 / small, relative to slopes near 1.
    assert np.allclose(cost(x)[1], slope, rtol=1e-5, atol=1e-6)


def timed_grids(rng, field, count):
    """Shapes timed at nine batches and eight prompts, all their time spent on products."""
    grid = np.array([(float(b + t), float(b), float(t)) for b in range(9) for t in range(7, 15)])
    share = np.tile([0.0, 1.0, 0.0, 0.0], (count * len(grid), 1))
    there = placed(np.tile(grid, (count, 1)), share, np.repeat(np.arange(count), len(grid)))
    residual = field.draw(there, 1, rng)[0] + field.noise * rng.normal(size=len(there.at))
    return Residuals(places=there, residual=residual, variance=np.zeros(len(there.at)))


def products_field(*, spread=0.0, common=0.0, length=(4.0, 8.0, 8.0, 3.0), noise=0.001, power=1.0):
    return Field(
        step=False,
        spread=np.full(len(PARTS), spread),
        common=np.full(len(PARTS), common),
        length=np.array(length),
        noise=noise,
        power=power,
    )


@pytest.mark.parametrize("noise", [0.02, 0.05])
def test_spread_length_and_noise_are_found_again(noise):
    rng, truth = np.random.default_rng(5), 0.04
    field = products_field(spread=truth, noise=noise)
    found = learn_field(timed_grids(rng, field, 6), rng, step=False, smooth=False)
    # 432 timings tell a noise well that is no less than the field changes between neighbours; a
    # spread is that of some 60 independent places. Each is held to a few times its error.
    assert abs(np.log(np.median([f.spread[1] for f in found]) / truth)) < 0.4
    assert abs(np.log(np.median([f.noise for f in found]) / noise)) < 0.5
    assert abs(np.log(np.median([f.length[0] for f in found]) / 4.0)) < 1.0
    assert np.median([f.common[1] for f in found]) < truth / 2
    assert {f.power for f in found} == {1.0}


def test_what_shapes_have_in_common_is_told_from_what_is_their_own():
    rng = np.random.default_rng(10)
    field = products_field(spread=0.01, common=0.04)
    found = learn_field(timed_grids(rng, field, 6), rng, step=False, smooth=False)
    # As many independent places as above and a third of the shapes: the same bounds.
    assert abs(np.log(np.median([f.common[1] for f in found]) / 0.04)) < 0.4
    assert np.median([f.spread[1] for f in found]) < 0.02


def test_how_smooth_a_prefill_is_along_its_prompt_is_found_again():
    rng = np.random.default_rng(7)
    for truth in (1.05, 1.9):
        field = products_field(spread=0.04, length=(50.0, 8.0, 4.0, 3.0), power=truth)
        found = learn_field(timed_grids(rng, field, 6), rng, step=False, smooth=True)
        # Over data sets its error has an sd near 0.15, for noise and a rough field are alike.
        assert abs(np.median([f.power for f in found]) - truth) < 0.45


def test_without_timings_the_numbers_follow_their_prior():
    rng = np.random.default_rng(6)
    none = Residuals(places=some_places(rng, 0), residual=np.zeros(0), variance=np.zeros(0))
    found = learn_field(none, rng, step=True, smooth=True)
    logs = np.log([f.noise for f in found])
    # Draws of a normal with sd 1 about log 0.7 %: four standard errors.
    assert abs(logs.mean() - _LOC[-2]) < 4 / np.sqrt(len(found))
    assert all(1.0 < f.power < 2.0 for f in found)
