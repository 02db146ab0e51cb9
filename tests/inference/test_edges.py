"""Tables at the edges: gross outliers, one token count, thin groups beside rich ones."""

import jax
import numpy as np
import pandas as pd
import pytest
from simulation import TRUTH, simulate_runs

from allometry.errors import InputError
from allometry.inference import Sampler, default_priors, fit, group_runs
from allometry.inference.arrays import law_structure, reference_scale, run_arrays
from allometry.inference.coordinates import Data, Program, centring
from allometry.inference.informative import require_informative
from allometry.inference.start import starts
from allometry.laws import get_law

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


@pytest.mark.slow
def test_groups_with_two_or_three_runs_borrow_from_the_rich_ones():
    runs = simulate_runs(12)
    rich = runs[~((runs["architecture"] == "xlstm") & (runs["context_length"] == 4096))]
    thin = runs.query("architecture == 'xlstm' and context_length == 4096").iloc[[0, 8, 16]]
    posterior = fit(pd.concat([rich, thin]), sampler=Sampler(draws=300, starts=2), seed=1)
    verdict = posterior.record.convergence
    assert verdict.converged, verdict.reasons
    assert any("fewer than 6 runs in xlstm/4096" in w for w in posterior.record.warnings)
    E, alpha, _, _ = TRUTH["xlstm", 4096]
    for name, truth in (("E", E), ("alpha", alpha)):
        draws = posterior.draws(name)[:, 3]
        assert abs(draws.mean() - truth) < 4 * draws.std()
    # Three runs alone leave alpha to its prior, log sd 0.35; the other groups narrow that.
    assert np.log(posterior.draws("alpha")[:, 3]).std() < 0.2


def test_one_token_count_is_refused_as_one_size_is():
    runs = simulate_runs(6, groups=ONE)
    with pytest.raises(InputError, match="all runs have one token count"):
        fit(runs.assign(tokens=1e9, flops=6e9 * runs["params"]))


def test_runs_at_one_tokens_per_param_are_told_and_can_be_climbed():
    """Params and tokens together alone: a singular regression, and nothing to tell them apart."""
    params = np.geomspace(1e7, 3e9, 14)
    loss = 1.7 + 400 * params**-0.34 + 1500 * (20 * params) ** -0.36
    table = pd.DataFrame({"params": params, "tokens": 20 * params, "loss": loss})
    (note,) = require_informative(table, group_runs(table))
    assert "tokens follow from params in all runs (as N to the 1)" in note
    assert require_informative(simulate_runs(6, groups=ONE), group_runs(table)) == ()
    law = get_law("pnorm")
    with jax.enable_x64(True):
        for count in (8, 9, 10, 11, 12, 13, 14):
            few = table.iloc[:count]
            groups = group_runs(few)
            program = Program(law=law, structure=law_structure(law, groups))
            data = Data(
                runs=run_arrays(few, groups, law, reference_scale(few)),
                priors=default_priors(law).arrays(),
                centred=centring(law, program.structure, groups.runs_per_group),
            )
            (start,) = starts(program, data, count=1, seed=0)
            assert np.isfinite(start).all()
