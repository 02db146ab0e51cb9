"""Many groups of hardly more runs than coefficients: noise, coordinates and chains."""

import jax
import numpy as np
import pytest
from simulation import simulate_runs

from allometry.inference import Sampler, default_priors, fit, group_runs
from allometry.inference.arrays import law_structure, reference_scale, run_arrays
from allometry.inference.coordinates import Data, Program, centring, split
from allometry.inference.mode import find_mode
from allometry.inference.noise_level import is_thin
from allometry.inference.start import starts
from allometry.laws import get_law


def cells(groups):
    """E, alpha, beta and gamma of each."""
    rng = np.random.default_rng(5)
    return {
        (f"a{i:02}", 1024): tuple(
            np.array([1.8, 0.32, 0.36, 0.6]) * np.exp(0.04 * rng.normal(size=4))
        )
        for i in range(groups)
    }


def thin_table(noise, *, groups=12, sizes=2):
    found = cells(groups)
    return simulate_runs(2, groups=found, sizes=sizes, budgets=(1e18, 1e19), noise=noise)


def test_many_groups_of_few_runs_are_thin_and_no_others():
    for groups, sizes, thin in ((12, 2, True), (12, 5, False), (8, 2, False)):
        table = thin_table(0.003, groups=groups, sizes=sizes)
        structure = law_structure(get_law("pnorm"), group_runs(table))
        assert is_thin(structure, len(table)) == thin


@pytest.mark.parametrize("noise", [0.002, 0.02])
def test_the_climb_does_not_end_where_noise_vanishes(noise):
    """The joint mode is at a noise of e^-16 and e^-14, where groups follow every run."""
    table, law = thin_table(noise), get_law("pnorm")
    found = group_runs(table)
    with jax.enable_x64(True):
        program = Program(law=law, structure=law_structure(law, found), thin=True)
        data = Data(
            runs=run_arrays(table, found, law, reference_scale(table)),
            priors=default_priors(law).arrays(),
            centred=centring(law, program.structure, found.runs_per_group),
        )
        mode = find_mode(starts(program, data, count=1, seed=0)[0], program, data)
    found_noise = float(split(mode.x, program.structure)["log_noise"])
    assert abs(found_noise - np.log(noise)) < 1.5
    assert mode.gradient < 1.0


def test_chains_of_many_thin_groups_do_not_walk_along_a_ridge():
    """In fixed coordinates trees are cut off at 1,023 leapfrogs, or chains stay apart."""
    sampler = Sampler(chains=2, draws=100, starts=1)
    posterior = fit(thin_table(0.003), library=False, sampler=sampler, seed=1)
    assert posterior.record.convergence.tree_depth_hits == 0
    assert posterior.record.convergence.max_rhat < 1.2
    assert posterior.idata["sample_stats"]["n_steps"].mean() < 150


@pytest.mark.slow
def test_chains_of_many_thin_groups_converge_to_the_truth():
    """Four runs a group, of six coefficients; 36 of 40 truths are expected in a band of 90 %."""
    posterior = fit(thin_table(0.003, groups=40), seed=1)
    verdict = posterior.record.convergence
    assert verdict.converged, verdict.reasons
    assert posterior.groups["architecture"].tolist() == [name for name, _ in cells(40)]
    for column, name in enumerate(("E", "alpha", "beta")):
        truth = np.array([cell[column] for cell in cells(40).values()])
        low, high = np.quantile(posterior.draws(name), [0.05, 0.95], axis=0)
        inside = ((truth > low) & (truth < high)).sum()
        assert inside >= 28  # groups share errors of their population: four binomial sd
