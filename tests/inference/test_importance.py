"""Importance weights: smoothed as ArviZ smooths them, and believed when they should be."""

import numpy as np
import pytest
from arviz_stats.base import array_stats

from allometry.inference.importance import resample, smoothed_weights


@pytest.mark.parametrize("count", [100, 1000, 4000])
@pytest.mark.parametrize("scale", [0.05, 0.5, 2.0, 5.0])
def test_smoothed_weights_and_their_tail_index_are_those_of_arviz(count, scale):
    log_ratio = scale * np.random.default_rng(0).normal(size=count)
    weights, k_hat = smoothed_weights(log_ratio)
    log_weights, expected = array_stats.psislw(-log_ratio)
    # The same arithmetic in another order: some roundings of float64.
    assert k_hat == pytest.approx(float(expected), rel=1e-9, abs=1e-9)
    np.testing.assert_allclose(weights, np.exp(log_weights), rtol=1e-9, atol=1e-15)


def test_draws_follow_the_target_and_a_target_with_heavier_tails_is_not_believed():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4000, 1))
    moved = resample(x, 0.5 * x[:, 0], draws=2000, rng=rng)  # normal with mean 0.5
    # 2,000 draws of weights that 4 proposals in 5 share: 0.03 is the standard error.
    assert abs(moved.x.mean() - 0.5) < 0.1
    assert moved.believed
    wide = resample(x, 0.48 * x[:, 0] ** 2, draws=2000, rng=rng)  # normal with sd 5
    assert not wide.believed
