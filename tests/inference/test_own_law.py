"""A researcher's own law and priors: found again, or refused before minutes are spent."""

from dataclasses import replace

import jax.numpy as jnp
import pytest
from simulation import TRUTH, simulate_runs

from allometry.errors import InputError
from allometry.inference import Sampler, default_priors, fit
from allometry.laws import CHINCHILLA, get_law, register_law

QUICK = Sampler(method="laplace", chains=2, draws=200, starts=2)
RUNS = simulate_runs(6, groups={("transformer", 1024): TRUTH["transformer", 1024]})


def test_a_law_that_is_not_registered_answers_like_any_other():
    law = replace(CHINCHILLA, name="own-unregistered")
    posterior = fit(RUNS, law=law, sampler=QUICK)
    assert posterior.law is law
    assert len(posterior.allocate([1e21])) == 1
    assert repr(posterior) == (
        f"<Posterior of own-unregistered: {len(RUNS)} runs, 1 group(s), 400 draws, converged>"
    )


def test_a_law_under_a_taken_name_is_refused_before_the_fit():
    with pytest.raises(InputError, match="a law named 'pnorm' is registered already"):
        fit(RUNS, law=replace(CHINCHILLA, name="pnorm"), sampler=QUICK)


def test_a_law_in_a_notebook_may_be_written_again():
    register_law(replace(CHINCHILLA, name="own-cell"))
    second = replace(CHINCHILLA, name="own-cell", formula="another")
    with pytest.raises(InputError, match="registered already") as error:
        register_law(second)
    assert "replace=True" in error.value.hint
    assert get_law(register_law(second, replace=True).name) is second


def test_a_law_without_a_finite_loss_is_refused():
    def nowhere(c, at):
        return jnp.log(-jnp.exp(CHINCHILLA.log_loss(c, at)))

    law = replace(CHINCHILLA, name="own-nowhere", log_loss=nowhere)
    with pytest.raises(InputError, match="own-nowhere has no finite density at any of 2 starts"):
        fit(RUNS, law=law, sampler=QUICK)


def test_priors_of_another_law_are_refused():
    with pytest.raises(InputError, match=r"law pnorm has log_E, .*log_gamma"):
        fit(RUNS, law="pnorm", priors=default_priors(CHINCHILLA), sampler=QUICK)


def test_a_negative_seed_is_refused():
    with pytest.raises(InputError, match="seed must be zero or positive, got -1"):
        fit(RUNS, seed=-1, sampler=QUICK)
