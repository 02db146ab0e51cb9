import math

import pytest

from allometry.harness.training import learning_rate_at
from allometry.harness.training.schedule import schedule_parts


def study_closed_form(step, steps, peak):
    """The reference study's rate at a moment in steps, as fitted to its logs (arXiv:2510.02228)."""
    if step < 750:
        return peak * step / 750
    if step < steps - 1000:
        share = (step - 750) / (steps - 1000 - 750)
        return peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))
    return 0.1 * peak * (steps - step) / 1000


@pytest.mark.parametrize("steps", [15_000, 40_000])
def test_long_runs_follow_the_study(config, steps):
    run = config(steps=steps, learning_rate=3e-3)
    for step in (0, 10, 749, 750, 5000, steps - 1001, steps - 1000, steps - 1):
        wanted = study_closed_form(step + 0.5, steps, 3e-3)
        assert math.isclose(learning_rate_at(run, step), wanted, rel_tol=1e-12)


def test_short_runs_keep_the_shares_of_a_run_of_15000_steps(config):
    assert schedule_parts(config(steps=15_000)) == (750, 1000)
    assert schedule_parts(config(steps=1_500)) == (75, 100)
    assert schedule_parts(config(steps=40_000)) == (750, 1000)
    assert schedule_parts(config(steps=1_500, warmup_steps=10, cooldown_steps=20)) == (10, 20)


@pytest.mark.parametrize("schedule", ["study", "wsd"])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 997])
def test_no_step_has_rate_zero_or_above_the_peak(config, schedule, steps):
    run = config(steps=steps, schedule=schedule)
    rates = [learning_rate_at(run, step) for step in range(steps)]
    assert all(0 < rate <= run.learning_rate for rate in rates)


def test_wsd_is_flat_between_its_ramps(config):
    run = config(steps=1000, schedule="wsd", warmup_steps=100, cooldown_steps=200)
    assert {learning_rate_at(run, step) for step in range(100, 800)} == {run.learning_rate}
    assert math.isclose(learning_rate_at(run, 899), run.learning_rate * 100.5 / 200)
