"""The verdict on chains: its reasons, and advice that is not given twice."""

import numpy as np

from allometry.inference.convergence import MIN_ESS, judge, lonely_mode


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


def test_a_mode_that_one_start_alone_reached_is_told_of_a_fit_that_converged():
    rng = np.random.default_rng(0)
    quiet = {"divergences": 0, "tree_depth_hits": 0, "seconds": 1.0}
    draws = rng.normal(size=(4, 400, 1))
    for gaps, told in (([0.0, 30.0, 40.0, 50.0], True), ([0.0, 0.01, 40.0, 50.0], False)):
        found = judge(draws=draws, log_posteriors=-np.array(gaps), **quiet)
        assert found.converged
        assert bool(lonely_mode(found)) is told
    (text,) = lonely_mode(judge(draws=draws, log_posteriors=np.array([0.0, -3.0]), **quiet))
    assert text.startswith("1 of 2 starts reached the best mode")
    alone = judge(draws=draws, log_posteriors=np.zeros(1), **quiet)
    assert lonely_mode(alone) == ()
