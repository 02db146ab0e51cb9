"""Many groups of hardly more runs than coefficients: noise, centring and chains."""

import jax
import numpy as np
import pytest
from simulation import simulate_runs

from allometry.inference import default_priors, group_runs
from allometry.inference.arrays import law_structure, reference_scale, run_arrays
from allometry.inference.coordinates import Data, Program, centring, split
from allometry.inference.mode import find_mode
from allometry.inference.noise_level import is_thin
from allometry.inference.recentring import centred_where_precise
from allometry.inference.start import starts
from allometry.laws import get_law


def problem(noise, *, groups=12, sizes=2):
    rng = np.random.default_rng(5)
    cells = {
        (f"a{i}", 1024): tuple(np.array([1.8, 0.32, 0.36, 0.6]) * np.exp(0.04 * rng.normal(size=4)))
        for i in range(groups)
    }
    table = simulate_runs(2, groups=cells, sizes=sizes, budgets=(1e18, 1e19), noise=noise)
    law, found = get_law("pnorm"), group_runs(table)
    program = Program(law=law, structure=law_structure(law, found))
    data = Data(
        runs=run_arrays(table, found, law, reference_scale(table)),
        priors=default_priors(law).arrays(),
        centred=centring(law, program.structure, found.runs_per_group),
    )
    return program, data, found.runs_per_group


def test_many_groups_of_few_runs_are_thin_and_no_others():
    assert is_thin(*problem(0.003)[:2])
    assert not is_thin(*problem(0.003, sizes=5)[:2])
    assert not is_thin(*problem(0.003, groups=8)[:2])


@pytest.mark.parametrize("noise", [0.002, 0.02])
def test_the_climb_does_not_end_where_noise_vanishes(noise):
    """The joint mode is at a noise of e^-16 and e^-14, where groups follow every run."""
    with jax.enable_x64(True):
        program, data, runs = problem(noise)
        data = centred_where_precise(program, data, runs, seed=0)
        mode = find_mode(starts(program, data, count=1, seed=0)[0], program, data)
    found = float(split(mode.x, program.structure)["log_noise"])
    assert abs(found - np.log(noise)) < 1.5
    assert mode.gradient < 1.0


def test_thin_groups_are_sampled_around_their_runs_where_these_are_precise():
    with jax.enable_x64(True):
        program, data, runs = problem(0.002)
        precise = centred_where_precise(program, data, runs, seed=0)
        program, data, runs = problem(0.05)
        noisy = centred_where_precise(program, data, runs, seed=0)
    assert np.asarray(precise.centred).sum(axis=1).tolist() == [12] * 5 + [0]
    assert not np.asarray(noisy.centred).any()
