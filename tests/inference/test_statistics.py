"""R-hat and effective draws are those of ArviZ."""

import numpy as np
import pytest
from arviz_stats.base import array_stats

from allometry.inference.statistics import bulk_ess, rank_rhat, tail_ess

AXES = {"chain_axis": 0, "draw_axis": 1}


def chains(draws, memory, n_chains=4, n_parameters=5):
    """Autoregressive chains of the given correlation between neighbours."""
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(n_chains, draws, n_parameters))
    x = np.empty_like(noise)
    x[:, 0] = noise[:, 0]
    for t in range(1, draws):
        x[:, t] = memory * x[:, t - 1] + np.sqrt(1 - memory**2) * noise[:, t]
    return x


CASES = {
    "independent": chains(200, 0.0),
    "sticky": chains(400, 0.95),
    "swinging": chains(300, -0.7),
    "odd length": chains(251, 0.4),
    "short": chains(20, 0.9),
    "one chain": chains(300, 0.5, n_chains=1),
    "far apart": chains(200, 0.3) + 3 * np.arange(4)[:, None, None],
    "repeated": np.repeat(chains(100, 0.2), 3, axis=1),
    "heavy tails": chains(300, 0.5) ** 5,
    "constant": np.concatenate([chains(100, 0.1), np.ones((4, 100, 1))], axis=2),
}


@pytest.mark.parametrize("case", CASES)
def test_effective_draws_are_those_of_arviz(case):
    x = CASES[case]
    bulk = array_stats.ess(x, method="bulk", **AXES)
    tail = array_stats.ess(x, method="tail", prob=(0.05, 0.95), **AXES)
    # The same sums in another order.
    np.testing.assert_allclose(bulk_ess(x), bulk, rtol=1e-9)
    np.testing.assert_allclose(tail_ess(x, low=0.05, high=0.95), tail, rtol=1e-9)


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("one chain", "constant")])
def test_rhat_is_that_of_arviz(case):
    x = CASES[case]
    np.testing.assert_allclose(rank_rhat(x), array_stats.rhat(x, **AXES), rtol=1e-9)


def test_rhat_of_one_chain_or_of_a_constant_is_not_a_number():
    assert np.isnan(rank_rhat(CASES["one chain"])).all()
    assert np.isnan(rank_rhat(CASES["constant"])[-1])
