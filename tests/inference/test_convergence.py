"""The verdict on chains: its reasons, and advice that is not given twice."""

import numpy as np

from allometry.inference.convergence import MIN_ESS, judge


def verdict(draws):
    quiet = {"divergences": 0, "tree_depth_hits": 0, "log_posteriors": np.zeros(4), "seconds": 1.0}
    return judge(draws=draws, **quiet)


def test_more_draws_are_advised_once_for_chains_apart_and_for_few_effective_draws():
    rng = np.random.default_rng(0)
    apart = rng.normal(size=(4, 400, 1)) + np.arange(4.0)[:, None, None]
    found = verdict(apart)
    assert [reason.split()[0] for reason in found.reasons] == ["R-hat", "effective"]
    assert " ".join(found.advice).count("run more draws") == 1
    few = verdict(rng.normal(size=(4, int(MIN_ESS) // 8, 1)))
    assert "effective draws" in few.reasons[-1]
    assert " ".join(few.advice).count("run more draws") == 1
