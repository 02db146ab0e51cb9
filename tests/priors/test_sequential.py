"""Going on with a study: A's posterior as prior of B is the posterior of both (MAP = MAC)."""

import numpy as np
import pandas as pd
import pytest

from allometry.inference import Sampler, fit
from allometry.priors import PriorUse, as_prior, parse_prior
from allometry.priors.file import document_text

SAMPLER = Sampler(method="laplace", starts=1, draws=1000)
N_DRAWS = 4000
EFFECTIVE = 1000.0
"""Importance resampling of 4,000 proposals keeps about a quarter of their worth at k-hat < .5."""


def design(sizes: int, budgets: tuple[float, ...]) -> pd.DataFrame:
    rows = []
    for flops in budgets:
        for params in np.sqrt(flops / 120.0) * np.geomspace(0.25, 4.0, sizes):
            rows.append((params, flops / 6 / params))
    return pd.DataFrame(rows, columns=["params", "tokens"])


def observed(points: pd.DataFrame, *, noise: float, seed: int) -> pd.DataFrame:
    u = 0.5 * (points["params"] / 3e8) ** -0.3
    v = 0.5 * (points["tokens"] / 6e9) ** -0.36
    loss = 1.9 + (u**2 + v**2) ** 0.5
    rng = np.random.default_rng(seed)
    noisy = loss * np.exp(noise * rng.standard_t(4.0, size=len(points)))
    # Both halves have the same reference run, so that "the default prior" is one and the same.
    middle = np.exp(np.log(noisy).mean())
    return points.assign(loss=noisy * 2.8 / middle)


# Sizes, budgets and noise: many runs over three decades leave every coefficient near normal; few
# over one and a half leave the reducible share and gamma skewed, near their priors.
STUDIES = {
    "near normal": (8, (1e17, 1e18, 1e19, 1e20), 0.003),
    "skewed": (5, (1e18, 6e18, 3e19), 0.006),
}


def summaries(posterior) -> dict[str, np.ndarray]:
    """Draws of the coefficients, the noise, and the loss of a run at ten times the budget."""
    theta = posterior.draws("theta")[:, :, 0]
    found = dict(zip(posterior.law.names, theta.T, strict=True))
    return found | {"log_noise": posterior.draws("log_noise")}


@pytest.mark.parametrize("study", STUDIES)
def test_a_studys_posterior_as_prior_is_the_joint_posterior(study):
    sizes, budgets, noise = STUDIES[study]
    points = design(sizes, budgets)
    first, second = (observed(points, noise=noise, seed=seed) for seed in (1, 2))
    both = pd.concat([first, second], ignore_index=True)
    joint = fit(both, by=(), library=False, sampler=SAMPLER)
    alone = fit(second, by=(), library=False, sampler=SAMPLER)
    exported = as_prior(fit(first, by=(), library=False, sampler=SAMPLER), kind="groups")
    file = parse_prior(document_text(exported.to_document()))
    sequential = fit(second, by=(), prior=[PriorUse(file=file, vague=0.0)], sampler=SAMPLER)
    for posterior in (joint, alone, sequential):
        assert posterior.record.scale.loss == pytest.approx(joint.record.scale.loss)
        assert posterior.record.convergence.converged
    for outcome in sequential.record.imported:
        assert "no default prior beside it" in outcome.words
        assert (outcome.prior_weights[0], outcome.posterior_weights[0]) == (0.0, 0.0)
    wanted, found, without = (summaries(p) for p in (joint, sequential, alone))
    moved = 0.0
    for name, draws in wanted.items():
        sd = draws.std()
        # Two means of 1,000 effective draws: four standard errors; and what the mixture misses of
        # A's posterior, which the file states as an error of quantiles, diluted by B's half.
        limit = 4 * np.sqrt(2 / EFFECTIVE) + 0.5 * file.goodness["max_quantile_error_sd"]
        assert abs(found[name].mean() - draws.mean()) < limit * sd, name
        # Relative error of a standard deviation: 1 / sqrt(2 n) of each.
        assert abs(np.log(found[name].std() / sd)) < 4 / np.sqrt(EFFECTIVE) + 0.1, name
        moved = max(moved, abs(np.log(without[name].std() / sd)))
    assert moved > 0.2  # without the prior the test would have failed: it can
