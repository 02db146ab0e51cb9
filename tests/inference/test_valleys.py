"""IsoFLOP valleys: the truth is found, budgets are clusters, thin designs are refused."""

import numpy as np
import pandas as pd
import pytest
from simulation import TRUTH, simulate_runs

from allometry.errors import InputError
from allometry.inference import Sampler, group_runs
from allometry.inference.valleys import find_valleys, fit_valleys


@pytest.fixture(scope="module")
def posterior():
    return fit_valleys(simulate_runs(1), sampler=Sampler(draws=300), seed=1)


def true_optimum(group, flops):
    _, alpha, beta, gamma = TRUTH[group]
    # alpha u^p = beta v^p with u = .5 (N / 3e8)^-alpha, v = .5 (D / 6e9)^-beta, D = C / 6 N.
    log_ratio = gamma * np.log(alpha / beta) + alpha * np.log(3e8) - beta * np.log(6e9)
    return np.exp((log_ratio + beta * np.log(flops / 6)) / (alpha + beta))


def test_growth_exponents_and_minima_cover_the_truth(posterior):
    assert posterior.convergence.divergences == 0
    growth, minima = posterior.growth_law(), posterior.minima()
    assert growth["budgets"].tolist() == [3, 3, 3, 3]
    for row, (_, alpha, beta, _) in zip(growth.itertuples(), TRUTH.values(), strict=True):
        width = row.params_exponent_q95 - row.params_exponent_q5
        assert abs(row.params_exponent_median - beta / (alpha + beta)) < 1.2 * width  # 4 sd
    assert len(minima) == 12
    for row in minima.itertuples():
        truth = true_optimum((row.architecture, row.context_length), row.flops)
        width = np.log(row.params_q95 / row.params_q5)
        assert abs(np.log(row.params_median / truth)) < 1.2 * width
        assert row.params_q5 < row.params_median < row.params_q95


def test_realised_flops_within_ten_percent_are_one_budget():
    runs = simulate_runs(2)
    scattered = runs.assign(flops=runs["flops"] * np.random.default_rng(0).uniform(0.9, 1.1, 72))
    table, valleys, labels = find_valleys(scattered, group_runs(scattered))
    assert len(labels) == 4
    assert len(valleys) == 12
    assert valleys["runs"].tolist() == [6] * 12
    assert len(table) == 72


def test_budgets_with_few_sizes_and_groups_with_one_budget_are_left_out():
    runs = simulate_runs(3)
    thin = pd.concat(
        [
            runs.query("architecture == 'xlstm'"),
            runs.query("architecture == 'transformer' and flops == 1e19"),
            runs.query("architecture == 'transformer' and flops == 1e20")
            .groupby("context_length")
            .head(3),
        ]
    )
    _, valleys, labels = find_valleys(thin, group_runs(thin))
    assert labels["architecture"].tolist() == ["xlstm", "xlstm"]
    assert len(valleys) == 6
    with pytest.raises(InputError, match="no group has two budgets with 4 sizes each"):
        find_valleys(runs.query("flops == 1e19"), group_runs(runs.query("flops == 1e19")))
