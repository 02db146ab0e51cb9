"""Few precise runs are sampled around themselves, few noisy ones around the other groups."""

import jax
import numpy as np
import pandas as pd
import pytest

from allometry.inference import Sampler, default_priors, fit, group_runs, nuts
from allometry.inference.arrays import law_structure, reference_scale, run_arrays
from allometry.inference.convergence import Statistics
from allometry.inference.coordinates import Data, Program, centring
from allometry.inference.recentring import centred_where_precise
from allometry.laws import get_law

RUNS = {"data": 3, "größe": 6}


def small_study(noise, seed=0):
    """Two groups of few runs, their params fractions as a spreadsheet may hold them."""
    rng = np.random.default_rng(seed)
    group = np.repeat(list(RUNS), list(RUNS.values()))
    flops = 10 ** rng.uniform(17, 20, len(group))
    params = np.sqrt(flops / 120) * 10 ** rng.normal(0, 0.4, len(group))
    tokens = flops / 6 / params
    level = np.where(group == "data", 1.7, 1.8)
    loss = (level + 400 * params**-0.34 + 1500 * tokens**-0.36) * np.exp(
        noise * rng.normal(size=len(group))
    )
    return pd.DataFrame({"params": params, "tokens": tokens, "loss": loss, "corpus": group})


def problem(table):
    law = get_law("pnorm")
    groups = group_runs(table, ["corpus"])
    program = Program(law=law, structure=law_structure(law, groups))
    data = Data(
        runs=run_arrays(table, groups, law, reference_scale(table)),
        priors=default_priors(law).arrays(),
        centred=centring(law, program.structure, groups.runs_per_group),
    )
    return program, data, groups.runs_per_group


def test_few_precise_runs_are_centred_and_few_noisy_ones_are_not():
    with jax.enable_x64(True):
        for noise, centred in ((0.003, [5, 5]), (0.1, [0, 0])):
            program, data, runs = problem(small_study(noise))
            found = centred_where_precise(program, data, runs, seed=0)
            assert np.asarray(found.centred).sum(axis=0).tolist() == centred
            assert not np.asarray(found.centred)[5].any()  # log_gamma stays with the others
        program, data, runs = problem(small_study(0.003).iloc[1:])
        found = centred_where_precise(program, data, runs, seed=0)
        assert np.asarray(found.centred).sum(axis=0).tolist() == [0, 5]


def test_chains_of_few_precise_runs_do_not_walk_along_a_ridge():
    sampler = Sampler(chains=2, draws=100, starts=1)
    posterior = fit(small_study(0.003), by=["corpus"], library=False, sampler=sampler, seed=1)
    assert posterior.record.convergence.tree_depth_hits == 0
    assert posterior.idata["sample_stats"]["n_steps"].mean() < 400  # around the population: 800
    assert list(posterior.groups["corpus"]) == list(RUNS)


@pytest.mark.parametrize(
    ("cut", "effective", "ends"), [(0.5, 30, True), (0.5, 60, False), (0.05, 30, False)]
)
def test_chains_end_early_only_on_a_ridge_that_they_cannot_walk(cut, effective, ends):
    """400 draws of at most 2,000: cut off at the largest tree, and far from 400 effective ones."""
    steps = np.where(np.arange(400) < 400 * cut, 2**nuts.MAX_TREE_DEPTH - 1, 63)
    statistics = Statistics(rhat=1.1, bulk=effective, tail=2 * effective)
    assert nuts.hopeless(np.tile(steps, (4, 1)), statistics, longest=2000) == ends


@pytest.mark.parametrize(
    ("rhat", "effective", "ends"), [(1.9, 6, True), (1.9, 30, False), (1.1, 6, False)]
)
def test_chains_end_early_that_are_far_apart(rhat, effective, ends):
    """400 draws of at most 2,000, no tree cut off: of 6 effective ones 30 would become."""
    statistics = Statistics(rhat=rhat, bulk=effective, tail=2 * effective)
    assert nuts.hopeless(np.full((4, 400), 63), statistics, longest=2000) == ends
