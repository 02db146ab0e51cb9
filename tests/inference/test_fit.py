"""A fit finds the truth, says when it cannot, and is the same every time."""

import numpy as np
import pandas as pd
import pytest
from simulation import TRUTH, simulate_runs

from allometry.errors import InputError, NotConvergedError
from allometry.inference import Sampler, fit

QUICK = Sampler(method="laplace", chains=2, draws=200, starts=2)
ONE = {("transformer", 1024): TRUTH["transformer", 1024]}


def test_the_hierarchy_converges_and_covers_the_truth(fitted):
    convergence = fitted.record.convergence
    assert convergence.divergences == 0
    assert convergence.max_rhat < 1.01
    assert convergence.starts_agree == convergence.starts
    # Twelve 99 % intervals over four groups: more than one miss is beyond chance (p < 0.007).
    misses = 0
    for index, truth in enumerate(TRUTH.values()):
        for name, value in zip(("E", "alpha", "beta"), (truth[0], truth[1], truth[2]), strict=True):
            low, high = np.quantile(fitted.draws(name)[:, index], [0.005, 0.995])
            misses += not low < value < high
    assert misses <= 1


def test_the_tree_has_the_groups_and_units_that_arviz_knows(fitted):
    names = set(fitted.idata.children)
    assert {
        "posterior",
        "prior",
        "prior_predictive",
        "posterior_predictive",
        "log_likelihood",
        "observed_data",
        "constant_data",
        "sample_stats",
    } <= names
    posterior = fitted.idata["posterior"]
    assert posterior["E"].dims == ("chain", "draw", "group")
    assert posterior["architecture"].to_numpy().tolist() == [a for a, _ in TRUTH]
    observed = fitted.idata["observed_data"]["loss"]
    replicated = fitted.idata["posterior_predictive"]["loss"].median(("chain", "draw"))
    assert float(abs(np.log(replicated / observed)).median()) < 0.005


def test_log_likelihood_is_the_density_of_the_loss(fitted):
    from scipy.stats import t

    posterior, data = fitted.idata["posterior"], fitted.idata["constant_data"]
    group = data["group_index"].to_numpy()
    one = {name: posterior[name][0, 0].to_numpy() for name in posterior.data_vars}
    u = one["A"][group] * data["params"].to_numpy() ** -one["alpha"][group]
    v = one["B"][group] * data["tokens"].to_numpy() ** -one["beta"][group]
    gamma = one["gamma"][group]
    law = one["E"][group] + (u ** (1 / gamma) + v ** (1 / gamma)) ** gamma
    imbalance = np.log(one["alpha"][group] * u / (one["beta"][group] * v))
    log_noise = (one["log_noise"] + one["noise_offset"])[group]
    scale = np.sqrt(np.exp(2 * log_noise) + np.exp(2 * one["log_off_valley"]) * imbalance**4)
    loss = fitted.idata["observed_data"]["loss"].to_numpy()
    expected = t.logpdf(np.log(loss), 4.0, np.log(law), scale) - np.log(loss)
    stored = fitted.idata["log_likelihood"]["loss"][0, 0].to_numpy()
    assert stored == pytest.approx(expected, abs=1e-3)  # kept in float32, powers of 1e9 above


def test_one_group_is_answered_by_laplace_as_by_nuts():
    runs = simulate_runs(2, groups=ONE, sizes=10, budgets=(1e17, 1e18, 1e19, 1e20))
    quick = fit(runs, sampler=QUICK, seed=1)
    assert quick.record.method == "laplace"
    assert quick.record.convergence.pareto_k < 0.7
    slow = fit(runs, sampler=Sampler(draws=300, starts=1), seed=1)
    assert slow.record.method == "nuts"
    for name in ("E", "alpha", "beta"):
        a, b = quick.draws(name)[:, 0], slow.draws(name)[:, 0]
        # Means of 400 draws with effective sizes above 150: three of their standard errors.
        assert abs(a.mean() - b.mean()) < 3 * b.std() * np.sqrt(2 / 150)


def test_the_same_seed_gives_the_same_draws():
    runs = simulate_runs(3, groups=ONE)
    first, second = (fit(runs, sampler=QUICK, seed=4) for _ in range(2))
    assert (first.draws("E") == second.draws("E")).all()
    other = fit(runs, sampler=QUICK, seed=5)
    assert (first.draws("E") != other.draws("E")).any()


def test_the_unit_of_loss_only_scales_E():
    runs = simulate_runs(3, groups=ONE)
    bits = runs.assign(loss=runs["loss"] / np.log(2.0))
    a = fit(runs, sampler=QUICK, seed=4)
    b = fit(bits, sampler=QUICK, seed=4)
    assert b.draws("E") * np.log(2.0) == pytest.approx(a.draws("E"), rel=1e-6)
    assert b.draws("alpha") == pytest.approx(a.draws("alpha"), rel=1e-6)


def test_thin_tables_converge_or_are_refused_with_the_reason():
    runs = simulate_runs(6, groups=ONE)
    with pytest.raises(InputError, match="3 runs, at least 4 are needed"):
        fit(runs.head(3))
    same = runs.assign(params=1e8)
    with pytest.raises(InputError, match="all runs have one size"):
        fit(same.assign(loss=runs["loss"] * np.linspace(1, 1.01, len(runs))))
    six = fit(runs.iloc[::3], library=False, sampler=QUICK)
    verdict = six.record.convergence
    assert verdict.converged or (verdict.reasons and verdict.advice)
    one_budget = fit(runs.query("flops == 1e19"), library=False, sampler=QUICK)
    assert any("all budgets lie within a factor" in w for w in one_budget.record.warnings)


def test_a_law_that_needs_a_column_asks_for_it():
    with pytest.raises(InputError, match="law repetition needs column"):
        fit(simulate_runs(0, groups=ONE), law="repetition", sampler=QUICK)


def test_a_law_that_knows_repetition_is_not_told_to_take_one():
    from allometry.inference.fit import _meant_for
    from allometry.laws import get_law
    from allometry.observations.catalogue import TOKENS_REPEAT

    texts = (TOKENS_REPEAT, "another")
    assert _meant_for(get_law("pnorm"), texts) == texts
    assert _meant_for(get_law("repetition"), texts) == ("another",)


def test_decisions_refuse_a_fit_that_did_not_converge(fitted):
    from dataclasses import replace

    convergence = replace(
        fitted.record.convergence,
        converged=False,
        reasons=("R-hat 1.4 above 1.01",),
        advice=("run more draws (--draws)",),
    )
    broken = replace(fitted, record=replace(fitted.record, convergence=convergence))
    with pytest.raises(NotConvergedError, match=r"R-hat 1\.4") as caught:
        broken.allocate([1e21])
    assert "--draws" in caught.value.hint
    assert len(broken.allocate([1e21], force=True)) == 4


def test_a_table_without_flops_counts_them_from_shapes_or_says_6nd():
    runs = simulate_runs(7).drop(columns="flops")
    shaped = fit(runs, sampler=Sampler(chains=2, draws=50, warmup=50, starts=1))
    assert shaped.record.cost.kind == "accounting"
    plain = fit(runs.drop(columns="context_length"), by=[], sampler=QUICK)
    assert plain.record.cost.kind == "6nd"
    assert any("6 N D" in warning for warning in plain.record.warnings)


def test_columns_of_another_name_group_as_well():
    runs = simulate_runs(8).rename(columns={"architecture": "corpus"})
    posterior = fit(pd.DataFrame(runs), by=["corpus"], sampler=QUICK)
    assert posterior.groups["corpus"].tolist() == ["transformer", "xlstm"]
