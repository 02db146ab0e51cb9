"""What the timings of one setting share: its density and its draws, and where a climb starts."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from latency_simulation import latency_grid

from allometry.inference.latency_arrays import group_timings, prior_of_theta
from allometry.inference.latency_settings import draw_settings, settings_log_density
from allometry.inference.model import STUDENT_DF
from allometry.laws.latency import latency_law

VARIANCE = np.array([[0.01, 0.02, 0.04, 1.0]])
RESIDUAL = np.array([[0.1, -0.2, 0.15, 0.0]])
WEIGHT = np.array([[1.0, 1.0, 1.0, 0.0]])
SHARED = np.array([0.03])


def density(residual, weight=WEIGHT):
    with jax.enable_x64(True):
        parts = (jnp.asarray(x) for x in (residual, VARIANCE, weight, SHARED))
        return float(settings_log_density(*parts)[0])


def test_density_is_the_multivariate_student_of_a_shared_error():
    covariance = np.diag(VARIANCE[0, :3]) + SHARED
    expected = scipy.stats.multivariate_t.logpdf(RESIDUAL[0, :3], None, covariance, STUDENT_DF)
    assert np.isclose(density(RESIDUAL), expected, rtol=1e-12)


def test_an_empty_slot_says_nothing():
    assert density(RESIDUAL) == density(np.where(WEIGHT > 0, RESIDUAL, 7.0))
    assert density(RESIDUAL, np.zeros_like(WEIGHT)) == 0.0


def test_effect_is_what_many_timings_have_in_common_and_a_lone_one_is_shrunk():
    rng = np.random.default_rng(0)
    draws, slots, common, own = 2000, 40, 0.3, 0.05
    residual = common + own * rng.normal(size=(1, 1, slots))
    many = draw_settings(
        np.broadcast_to(residual, (draws, 1, slots)),
        np.full((draws, 1, slots), own**2),
        np.ones((1, slots)),
        np.full((draws, 1), common**2),
        rng,
    )
    # The mean of 40 timings has a standard error of 0.008; the prior of width 0.3 adds nothing.
    assert abs(many.effect.mean() - residual.mean()) < 0.003
    assert 0.005 < many.effect.std() < 0.012
    lone = draw_settings(
        np.full((draws, 1, 1), common),
        np.full((draws, 1, 1), common**2),
        np.ones((1, 1)),
        np.full((draws, 1), common**2),
        rng,
    )
    # Own and shared variance are equal: half of the residual is shared. Sd 0.2 / sqrt(2000) x 4.
    assert abs(lone.effect.mean() - common / 2) < 0.02


def test_architectures_share_the_mean_of_a_coefficient_and_nothing_else():
    law = latency_law("roofline")
    structure = group_timings(latency_grid()).structure(law, bounded=True)
    loc, factor = prior_of_theta(law, structure)
    covariance = factor @ factor.T
    for i, (k, a) in enumerate(structure.active):
        coefficient = law.coefficients[k]
        assert loc[i] == coefficient.loc
        for j, (other, b) in enumerate(structure.active):
            same = coefficient.scale**2 + (coefficient.between**2 if a == b else 0.0)
            assert np.isclose(covariance[i, j], same if k == other else 0.0, atol=1e-12)


def test_every_timing_has_its_own_place_in_its_setting():
    table = latency_grid()
    groups = group_timings(table)
    places = set(zip(groups.setting, groups.slot, strict=True))
    assert len(places) == len(table)
    assert len(groups.settings) == 4 * 3 * 2  # shapes, batches, quantities
    assert groups.slot.max() == 2  # three prompts
    for name, row in zip(
        np.asarray(groups.settings)[groups.setting], table.itertuples(), strict=True
    ):
        cell = f"{row.architecture}/{row.params:.0f}/{row.quantity}"
        assert name == f"{cell}/{row.batch_size}"
        assert groups.cells[groups.cell[groups.settings.index(name)]] == cell
