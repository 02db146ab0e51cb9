"""Chains of many thin groups end at an allowance of leapfrogs, and the fit says so."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from simulation import simulate_runs

from allometry.inference import Sampler, allowance, default_priors, fit, group_runs, sampling
from allometry.inference.arrays import law_structure, reference_scale, run_arrays
from allometry.inference.coordinates import Data, Program, centring
from allometry.inference.laplace import laplace_draws
from allometry.inference.nuts import LONGEST, LONGEST_OF_FEW, SEGMENT, lasts, sample
from allometry.inference.whitening import dense_whitening
from allometry.laws import get_law


@dataclass(frozen=True)
class Gaussian:
    """Of unlike scales, which its whitening knows."""

    size: int = 3

    def log_density(self, x, data):
        """Of independent normals with the standard deviations in `data`."""
        return -0.5 * ((x / data) ** 2).sum()


def drawn(most, workers=1):
    with jax.enable_x64(True):
        scales = np.array([1.0, 2.0, 5.0])
        whitening = dense_whitening(np.zeros(3), np.diag(scales**-2))
        counts = {"chains": 3, "warmup": 50, "draws": 150, "seed": 4, "workers": workers}
        return sample(Gaussian(), jnp.asarray(scales), whitening, most_leapfrogs=most, **counts)


def test_what_others_will_take_is_foreseen_after_two_segments():
    given = {"warm": 2, "wanted": 4}
    assert lasts([90, 10], allowance=100, **given)
    assert not lasts([90, 11], allowance=100, **given)
    assert lasts([10, 10, 70], allowance=100, **given)  # one segment foretells nothing
    assert lasts([10, 10, 10, 30], allowance=100, **given)  # two more of 20
    assert not lasts([10, 10, 10, 31], allowance=100, **given)
    assert lasts([10, 10, 20, 20, 20, 20], allowance=100, **given)


def test_an_allowance_that_lasts_changes_no_draw():
    free = drawn(np.inf)
    ample = drawn(10.0 * free.steps.sum())
    assert not ample.ended
    assert (ample.x == free.x).all()


@pytest.mark.parametrize(("share", "draws"), [(1e-9, SEGMENT), (0.8, 2 * SEGMENT)])
def test_chains_end_at_their_allowance_wherever_threads_are(share, draws):
    """At once within warm-up; or two segments after it, where the rest is foreseen."""
    free = drawn(np.inf)
    found = [drawn(share * free.steps.sum(), workers=workers) for workers in (1, 3)]
    assert all(ended.ended for ended in found)
    assert (found[0].x == found[1].x).all()
    assert found[0].x.shape == (3, draws, 3)
    assert found[0].steps.shape == (3, draws)
    if draws > SEGMENT:
        assert (found[0].x == free.x[:, :draws]).all()


def thin_table():
    rng = np.random.default_rng(5)
    cells = {
        (f"a{i}", 1024): tuple(np.array([1.8, 0.32, 0.36, 0.6]) * np.exp(0.04 * rng.normal(size=4)))
        for i in range(12)
    }
    return simulate_runs(2, groups=cells, sizes=2, budgets=(1e18, 1e19), noise=0.003)


def test_only_many_thin_groups_have_an_allowance():
    with jax.enable_x64(True):
        table, law = thin_table(), get_law("pnorm")
        groups = group_runs(table)
        structure = law_structure(law, groups)
        data = Data(
            runs=run_arrays(table, groups, law, reference_scale(table)),
            priors=default_priors(law).arrays(),
            centred=centring(law, structure, groups.runs_per_group),
        )
        thin, rich = (Program(law=law, structure=structure, thin=thin) for thin in (True, False))
        assert allowance.most_leapfrogs(rich, data) == np.inf
        assert allowance.most_leapfrogs(Gaussian(), data) == np.inf
        # 200 draws of warm-up and 400 kept ones of four chains, 300 leapfrogs a draw.
        assert allowance.most_leapfrogs(thin, data) > 4 * 600 * 300


def test_a_fit_that_ends_at_its_allowance_says_so_and_what_to_do(monkeypatch):
    monkeypatch.setattr(allowance, "MOST_WORK", 1e6)
    sampler = Sampler(chains=2, draws=100, starts=1)
    posterior = fit(thin_table(), library=False, sampler=sampler, seed=1)
    found = posterior.record.convergence
    assert not found.converged
    assert found.reasons[0].startswith("chains ended after 25 draws each, at ")
    assert len(found.advice) == 1
    assert "12 of 12 groups have hardly more runs than pnorm has coefficients" in found.advice[0]
    assert posterior.draws("E").shape == (50, 12)


@pytest.mark.parametrize(
    ("runs", "groups", "method", "longest"),
    [
        (18, 1, "nuts", LONGEST_OF_FEW),
        (18, 2, "nuts", LONGEST),
        (66, 1, "nuts", LONGEST),
        (18, 1, "laplace", LONGEST),
    ],
)
def test_chains_of_one_small_group_may_be_longer_where_they_were_asked_for(
    runs, groups, method, longest, monkeypatch
):
    given = []

    def noted(*args, **options):
        given.append(options["longest"])
        return sample(*args, **options)

    def unbelieved(*args, **options):
        return replace(laplace_draws(*args, **options), k_hat=2.0)

    monkeypatch.setattr(sampling, "sample", noted)
    monkeypatch.setattr(sampling, "laplace_draws", unbelieved)
    cells = {(f"a{i}", 1024): (1.8, 0.32, 0.36, 0.6) for i in range(groups)}
    table = simulate_runs(3, groups=cells, sizes=runs // 3)
    sampler = Sampler(method=method, chains=1, warmup=50, draws=50, starts=1)
    fit(table, library=False, sampler=sampler)
    assert set(given) == {longest}
