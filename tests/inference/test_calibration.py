"""Over studies drawn from the prior, the truth's place in its posterior is uniform."""

import jax
import numpy as np
import pytest
from prior_studies import design, places_of_truth, problem, shrunk_noise, uniformity

from allometry.inference import Sampler

SINGLE = design({("transformer", 1024): 24}).drop(columns=["architecture", "context_length"])
NESTED = design(
    {
        ("transformer", 1024): 18,
        ("transformer", 4096): 15,
        ("xlstm", 1024): 18,
        ("xlstm", 4096): 5,  # non-centred beside centred ones
    }
)
LEAST_P = 1e-3
"""Of the smallest p-value times their number (Bonferroni). Seeds are fixed: always or never."""


SEEDS = range(100, 110)


def least_p(places):
    p_values = uniformity(places)
    return min(p_values.values()) * len(p_values)


@pytest.mark.slow
def test_ranks_of_the_truth_are_uniform_for_one_group():
    """Laplace with weights where they hold, NUTS where they do not: what a user gets."""
    with jax.enable_x64(True):
        program, data = problem(SINGLE)
        sampler = Sampler(method="laplace", chains=2, warmup=100, draws=200, starts=2)
        settings = {"studies": 200, "sampler": sampler, "kept": 99, "seed": 7}
        places, methods = places_of_truth(program, data, **settings)
        assert set(methods) == {"laplace", "nuts"}
        assert least_p(places) > LEAST_P


@pytest.mark.slow
def test_noise_that_is_half_of_what_was_drawn_is_noticed():
    """The test above can fail: losses moved half-way to the law look more certain than they are."""
    with jax.enable_x64(True):
        program, data = problem(SINGLE)
        sampler = Sampler(method="laplace", chains=2, warmup=100, draws=200, starts=2)
        settings = {"studies": 60, "sampler": sampler, "kept": 99, "seed": 7}
        places, _ = places_of_truth(program, data, distort=shrunk_noise, **settings)
        assert least_p(places) < LEAST_P


@pytest.mark.slow
def test_ranks_of_the_truth_are_uniform_for_the_hierarchy():
    with jax.enable_x64(True):
        program, data = problem(NESTED)
        assert data.centred[0].tolist() == [True, True, True, False]
        assert not data.centred[-1].any()  # log_gamma, of groups below 20 runs
        sampler = Sampler(chains=2, warmup=100, draws=200, starts=1)
        settings = {"studies": 20, "sampler": sampler, "kept": 99}
        parts = [places_of_truth(program, data, seed=seed, **settings)[0] for seed in SEEDS]
    assert least_p({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}) > (
        LEAST_P
    )
