"""Mixtures: densities against scipy, marginals, and what expectation maximisation finds."""

import numpy as np
import pytest
from prior_files import prior_file
from scipy import stats

from allometry.errors import InputError
from allometry.priors.mixture import choose_mixture, fit_mixture, quantile_error


def reference_density(mixture, x):
    total = np.zeros(len(x))
    for weight, mean, scale in zip(mixture.weights, mixture.means, mixture.scales, strict=True):
        if mixture.df is None:
            total += weight * stats.multivariate_normal(mean, scale).pdf(x)
        else:
            total += weight * stats.multivariate_t(mean, scale, df=mixture.df).pdf(x)
    return np.log(total)


@pytest.mark.parametrize("df", [None, 4.0])
def test_the_density_is_scipys(df):
    mixture = prior_file(df=df, components=3).mixture
    x = mixture.draw(50, np.random.default_rng(1))
    # Float64 through a Cholesky factor of condition below 100.
    np.testing.assert_allclose(mixture.log_density(x), reference_density(mixture, x), atol=1e-9)


@pytest.mark.parametrize("df", [None, 5.0])
def test_a_marginal_has_the_density_of_its_draws(df):
    mixture = prior_file(df=df).mixture
    part = mixture.marginal([3, 1])
    x = mixture.draw(40_000, np.random.default_rng(2))[:, [3, 1]]
    for i in range(2):
        cdf = np.linspace(x[:, i].min() - 1, x[:, i].max() + 1, 4001)
        density = np.exp(part.marginal([i]).log_density(cdf[:, None]))
        inside = (cdf[1:] + cdf[:-1]) / 2 < np.median(x[:, i])
        mass = ((density[1:] + density[:-1]) / 2 * np.diff(cdf))[inside].sum()
        # Half of the draws lie below their median: four standard errors of a share of 40,000.
        assert abs(mass - 0.5) < 4 * 0.5 / np.sqrt(40_000) + 1e-3


@pytest.mark.parametrize("df", [None, 6.0])
def test_mean_and_covariance_are_those_of_the_draws(df):
    mixture = prior_file(df=df, components=2).mixture
    draws = mixture.draw(60_000, np.random.default_rng(3))
    sd = draws.std(axis=0)
    assert (np.abs(draws.mean(axis=0) - mixture.mean) < 5 * sd / np.sqrt(60_000)).all()
    # A variance of a Student-t with 6 degrees of freedom scatters by about 1 % of 60,000 draws.
    assert np.abs(np.cov(draws.T) / mixture.covariance - 1.0)[np.diag_indices(len(sd))].max() < 0.06


def test_two_clumps_are_found_where_they_are():
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.normal([0, 0, 0], 0.2, (600, 3)), rng.normal([3, 1, 0], 0.4, (400, 3))])
    found = fit_mixture(x, 2, None)
    order = np.argsort(found.means[:, 0])
    np.testing.assert_allclose(found.weights[order], [0.6, 0.4], atol=0.01)
    # Means of 600 and 400 draws: five standard errors.
    np.testing.assert_allclose(found.means[order], [[0, 0, 0], [3, 1, 0]], atol=0.1)


def test_a_normal_is_described_by_one_normal_and_a_clumped_one_is_not():
    rng = np.random.default_rng(5)
    plain, goodness = choose_mixture(rng.normal(size=(800, 3)) @ np.diag([1.0, 10.0, 0.1]))
    assert len(plain.weights) == 1
    assert goodness["held_out_log_score"] == pytest.approx(
        goodness["held_out_log_score_normal"], abs=0.01
    )
    clumps = rng.permutation(
        np.concatenate([rng.normal(-3, 0.5, (400, 2)), rng.normal(3, 0.5, (400, 2))])
    )
    parted, goodness = choose_mixture(clumps)
    assert len(parted.weights) >= 2
    assert goodness["held_out_log_score"] > goodness["held_out_log_score_normal"] + 0.5


def test_heavy_tails_are_not_described_by_a_normal():
    rng = np.random.default_rng(6)
    draws = rng.standard_t(4, size=(2000, 1)) * rng.normal(size=(1, 3)) + 0.2 * rng.normal(
        size=(2000, 3)
    )
    mixture, _ = choose_mixture(draws)
    assert mixture.df is not None or len(mixture.weights) > 1
    assert quantile_error(draws, mixture, seed=0) < 0.2


@pytest.mark.parametrize(
    "draws",
    [np.ones((500, 2)), np.full((500, 2), np.nan), np.random.default_rng(0).normal(size=(10, 3))],
    ids=["constant", "nan", "few"],
)
def test_draws_that_cannot_be_described_are_refused(draws):
    with pytest.raises(InputError):
        choose_mixture(draws)
