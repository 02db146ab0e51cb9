"""Tables at the edges: outliers, thin groups beside rich ones, many groups, many runs."""

import numpy as np
import pandas as pd
import pytest
from simulation import TRUTH, simulate_runs

from allometry.errors import InputError
from allometry.inference import Sampler, fit

QUICK = Sampler(method="laplace", chains=2, draws=500, starts=2)
ONE = {("transformer", 1024): TRUTH["transformer", 1024]}


def test_gross_outliers_move_alpha_by_less_than_its_own_sd():
    runs = simulate_runs(11, groups=ONE, sizes=12, budgets=(1e17, 1e18, 1e19, 1e20))
    rng = np.random.default_rng(0)
    broken = runs.copy()
    rows = rng.choice(len(runs), size=2, replace=False)  # 2 of 48 runs: 4 %
    broken.loc[rows, "loss"] *= np.array([1.3, 1.2])  # a hundred times the noise
    clean, dirty = (fit(table, sampler=QUICK).draws("alpha")[:, 0] for table in (runs, broken))
    assert abs(dirty.mean() - clean.mean()) < clean.std()


def test_groups_with_two_or_three_runs_borrow_from_the_rich_ones():
    runs = simulate_runs(12)
    rich = runs[~((runs["architecture"] == "xlstm") & (runs["context_length"] == 4096))]
    thin = runs.query("architecture == 'xlstm' and context_length == 4096").iloc[[0, 8, 16]]
    posterior = fit(pd.concat([rich, thin]), sampler=Sampler(draws=300, starts=2), seed=1)
    verdict = posterior.record.convergence
    assert verdict.converged, verdict.reasons
    assert any("fewer than 6 runs in xlstm/4096" in w for w in posterior.record.warnings)
    spread = posterior.draws("alpha").std(axis=0)
    assert spread[3] > 1.2 * spread[2]  # wider than its sister, whose 18 runs speak
    # Three runs alone leave alpha to its prior, log sd 0.35; the other groups narrow that.
    assert spread[3] / posterior.draws("alpha")[:, 3].mean() < 0.25


def test_one_token_count_is_refused_as_one_size_is():
    runs = simulate_runs(6, groups=ONE)
    with pytest.raises(InputError, match="all runs have one token count"):
        fit(runs.assign(tokens=1e9, flops=6e9 * runs["params"]))


@pytest.mark.slow
def test_a_hundred_thousand_runs_are_fitted():
    runs = simulate_runs(0, budgets=tuple(np.geomspace(1e18, 1e20, 100)), sizes=250)
    assert len(runs) == 100_000
    posterior = fit(runs)
    verdict = posterior.record.convergence
    assert verdict.converged, verdict.reasons
    for index, (E, alpha, beta, _) in enumerate(TRUTH.values()):
        for name, value in (("E", E), ("alpha", alpha), ("beta", beta)):
            draws = posterior.draws(name)[:, index]
            assert abs(draws.mean() - value) < 4.5 * draws.std()
