"""The verdict on chains: its reasons, and advice that is not given twice."""

from dataclasses import replace

import numpy as np

from allometry.inference.convergence import (
    LOOSE_RHAT,
    MAX_RHAT,
    MIN_ESS,
    Convergence,
    doubted_mode,
    fallen_through,
    judge,
    judge_published,
    loose_published,
    worst_published,
)
from allometry.inference.statistics import rank_rhat


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
        assert bool(doubted_mode(found, -np.array(gaps))) is told
    two = np.array([0.0, -3.0])
    (text,) = doubted_mode(judge(draws=draws, log_posteriors=two, **quiet), two)
    assert text.startswith("1 of 2 starts reached the best mode")
    alone = judge(draws=draws, log_posteriors=np.zeros(1), **quiet)
    assert doubted_mode(alone, np.zeros(1)) == ()


def test_rival_modes_of_a_laplace_fit_are_told_since_nothing_else_judges_them():
    laplace = Convergence(
        converged=True, divergences=0, max_rhat=1.0, min_ess_bulk=900.0, min_ess_tail=900.0,
        tree_depth_hits=0, starts_agree=2, starts=4, seconds=1.0, pareto_k=0.3,
    )  # fmt: skip
    (text,) = doubted_mode(laplace, -np.array([0.0, 0.01, 2.5, 40.0]))
    assert text.startswith("1 of 4 starts end in another mode 2.5 nats below; draws are around the")
    assert "--method nuts" in text
    assert doubted_mode(laplace, -np.array([0.0, 0.01, 30.0, 40.0])) == ()
    (text,) = doubted_mode(replace(laplace, starts_agree=1), -np.array([0.0, 20.0, 30.0, 40.0]))
    assert text.startswith("1 of 4 starts reached the best mode")
    assert "--method nuts" in text


def test_a_method_that_did_not_answer_is_told():
    assert fallen_through("laplace", "laplace", 0.3) == ()
    assert fallen_through("nuts", "nuts", None) == ()
    (text,) = fallen_through("laplace", "nuts", 0.93)
    assert text.startswith("laplace does not stand for this posterior (k-hat 0.93 above 0.7)")
    assert "too few" in fallen_through("svi", "nuts", 0.5)[0]


def apart_by(shift):
    """Draws (chain, draw) of a coefficient whose chains differ by so many standard deviations."""
    steps = np.linspace(-0.5, 0.5, 4)[:, None]
    return np.random.default_rng(1).normal(size=(4, 400)) + shift * steps


def test_a_published_coefficient_that_chains_agree_less_on_is_told_and_far_off_refused():
    found = verdict(np.random.default_rng(0).normal(size=(4, 400, 1)))
    assert found.converged
    for shift, told, stands in ((0.0, False, True), (0.5, True, True), (2.0, False, False)):
        both = np.stack([apart_by(0.0), apart_by(shift)], axis=-1)
        published = {"alpha": apart_by(0.0)[..., None] * np.ones(2), "A": both}
        flat = {name: values.reshape(-1, 2) for name, values in published.items()}
        worst = worst_published(flat, ["llama/2048", "llama/8192"], chains=4)
        judged = judge_published(found, worst)
        notes = loose_published(judged, worst)
        assert judged.converged is stands
        assert bool(notes) is told
        if shift:
            assert worst[:2] == ("A", "llama/8192")
            assert worst.rhat == rank_rhat(both)[1] > MAX_RHAT
            assert (worst.rhat > LOOSE_RHAT) is not stands
            assert "of A (llama/8192)" in " ".join((*judged.reasons, *notes))


def test_one_chain_says_nothing_of_published_coefficients():
    assert worst_published({"A": apart_by(0.0).reshape(-1, 1)}, ["all"], chains=1) is None
    constant = worst_published({"gamma": np.ones((1600, 1))}, ["all"], chains=4)
    assert constant is None
