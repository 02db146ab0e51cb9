"""Groups that were never run: where they lie, how wide they are, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from allometry.decisions import UnseenGroupWarning
from allometry.errors import InputError
from allometry.inference import Posterior
from allometry.inference.population import (
    from_coordinates,
    new_theta,
    population_spreads,
    to_coordinates,
)

POINT = pd.DataFrame({"params": [3e8], "tokens": [6e9]})


def labels(*rows):
    return pd.DataFrame(rows, columns=["architecture", "context_length"])


def test_coordinates_of_the_population_and_back_are_the_same_coefficients(fitted):
    theta = fitted.draws("theta")
    back = from_coordinates(fitted.law, to_coordinates(fitted.law, theta))
    assert back == pytest.approx(theta, abs=1e-9)


def test_a_context_between_two_is_wider_than_both_and_far_ones_are_wider_still(fitted):
    far = labels(("xlstm", 2048), ("xlstm", 65_536), ("mamba", 2048))
    extended = fitted.with_groups(far)
    assert extended.unseen.tolist() == [False] * 4 + [True] * 3
    table = extended.predict(POINT)
    width = np.log(table["loss_q95"] / table["loss_q5"])
    seen, (between, beyond, other) = width[~table["unseen"]], width[table["unseen"]]
    assert seen.max() < between < beyond
    assert between < other


def test_the_groups_that_were_run_answer_as_before(fitted):
    extended = fitted.with_groups(labels(("xlstm", 2048)))
    before, after = fitted.predict(POINT), extended.predict(POINT)
    # All but run_loss: its noise is drawn for all rows of a table at once.
    same = [name for name in before if not name.startswith("run_loss")]
    pd.testing.assert_frame_equal(before[same], after.iloc[:4][same])


def test_a_group_of_the_population_is_covered_by_its_prediction():
    """Random effects with a known truth: intervals of new groups hold the new groups' values.

    Forty populations of 8 groups in 2 levels, of two coordinates, the first of which the runs see
    (the change of log loss by it is one) and the second not; spreads are the prior's medians. The
    share of 200 new values of each within 90 % intervals is within 3 binomial standard deviations
    (3 x 2.1 %) of 90 %, allowing 3 % more for the correlation of new groups of one population.
    """
    from allometry.inference.population import LOSS, Spreads, _draw, _Places

    wide = Spreads(within=10.0, between=10.0, per_doubling=10.0)
    spreads = (wide, Spreads(within=0.1, between=0.2, per_doubling=0.05))
    told = np.diag([1.0, 0.0])
    sds = np.array([[LOSS.within, 0.1], [LOSS.between, 0.2], [LOSS.per_doubling, 0.05]])
    rng = np.random.default_rng(4)
    doublings = np.tile([-1.5, -0.5, 0.5, 1.5], 2)
    names = np.repeat(["a", "b"], 4).astype(object)
    old = _Places(level=names, family=names, doublings=doublings)
    at = np.array([-3.0, 2.5, 5.0, -4.0, 3.0])
    who = np.array(["a", "b", "a", "b", "c"], dtype=object)
    new = _Places(level=who, family=who, doublings=at)
    inside = []
    for _ in range(40):
        level = {name: sds[1] * rng.normal(size=2) for name in "abc"}
        slope = sds[2] * rng.normal(size=2)

        def true(names, places, level=level, slope=slope):
            above = np.array([level[name] for name in names])
            own = sds[0] * rng.normal(size=(len(places), 2))
            return (0.5 + above + slope * places[:, None] + own).T  # [coordinate, place]

        phi = true(names, doublings) + 0.2 * sds[0][:, None] * rng.normal(size=(300, 2, 8))
        drawn = _draw(phi, old, new, told, spreads, rng)
        low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
        truth = true(who, at)
        inside.append((low <= truth) & (truth <= high))
    share = np.mean(inside, axis=(0, 2))
    assert (np.abs(share - 0.90) < 0.095).all(), share


def test_many_groups_answer_from_those_most_like_the_new_one(fitted):
    from allometry.inference.population import MOST_GROUPS, _nearest, _Places

    doublings = np.arange(40.0)
    names = np.array(["a", "b"] * 20, dtype=object)
    old = _Places(level=names, family=names, doublings=doublings)
    one = np.array(["a"], dtype=object)
    near = _nearest(old, _Places(level=one, family=one, doublings=np.array([0.0])))
    assert len(near) == MOST_GROUPS
    assert set(near[names[near] == "a"]) == set(range(0, 40, 2))  # all of its own architecture
    assert set(near[names[near] == "b"]) == {1, 3, 5, 7}  # then the nearest others


def test_the_change_of_log_loss_is_that_of_the_law(fitted):
    from allometry.inference.population import sensitivity

    phi = to_coordinates(fitted.law, fitted.draws("theta")).mean(axis=(0, 2))
    told = sensitivity(fitted, phi)
    # The first coordinate is log loss at the reference run itself: it moves every loss alike.
    assert told[0, 0] == pytest.approx(1.0, abs=1e-5)
    assert np.linalg.eigvalsh(told).min() > -1e-9


def test_what_is_drawn_depends_on_the_group_and_the_seed_only(fitted):
    one = new_theta(fitted, labels(("xlstm", 2048)))
    assert one == pytest.approx(new_theta(fitted, labels(("xlstm", 2048))))
    assert one.shape == (fitted.n_draws, 6, 1)
    assert len(population_spreads(fitted)) == 6


def test_drift_of_a_new_group_is_as_correlated_as_that_of_the_others(fitted):
    extended = fitted.with_groups(labels(("xlstm", 2048), ("mamba", 1024)))
    drift = extended.draws("drift")
    correlation = np.corrcoef(drift.T)[np.triu_indices(6, 1)]
    # 1,200 draws: 4 standard errors of a correlation of one half are 0.087.
    assert correlation == pytest.approx(fitted.record.drift.shared, abs=0.1)
    assert drift[:, 4:].std(axis=0) == pytest.approx(drift[:, :4].std(axis=0).mean(), rel=0.15)
    noise = extended.log_noise([4, 5])
    assert (noise.std(axis=0) > fitted.log_noise([0]).std()).all()


def test_an_unseen_context_is_answered_with_a_warning_and_a_flag(fitted):
    with pytest.warns(UnseenGroupWarning, match="xlstm/2048 was never run.*between contexts 1024"):
        table = fitted.predict(POINT, architecture="xlstm", context_length=2048)
    assert table["unseen"].tolist() == [True]
    with pytest.warns(UnseenGroupWarning, match="1 doubling beyond contexts 1024 to 4096"):
        table = fitted.allocate([1e20], context_length=8192)
    assert table["architecture"].tolist() == ["transformer", "xlstm"]
    with pytest.warns(UnseenGroupWarning):
        assert fitted.growth_law(group={"context_length": 2048})["unseen"].all()
    with pytest.warns(UnseenGroupWarning):
        table = fitted.compare("xlstm", "transformer", [1e20], context_length=2048)
    assert table["unseen"].tolist() == [True]
    assert 0 < table["probability_a_better"][0] < 1


def test_a_misspelt_architecture_is_refused_unless_it_is_meant(fitted):
    for question in (
        lambda **more: fitted.predict(POINT, architecture="xlstn", **more),
        lambda **more: fitted.allocate([1e20], architecture="xlstn", **more),
        lambda **more: fitted.growth_law(architecture="xlstn", **more),
        lambda **more: fitted.compare("xlstn", "transformer", [1e20], **more),
    ):
        with pytest.raises(InputError, match="no group with architecture xlstn") as refusal:
            question()
        assert "transformer, xlstm" in refusal.value.hint
        assert "--unseen" in refusal.value.hint
    with pytest.warns(UnseenGroupWarning, match="xlstn/.* never run.*2 known architectures"):
        table = fitted.allocate([1e20], architecture="xlstn", unseen=True)
    assert table["context_length"].tolist() == [1024, 4096]
    with pytest.warns(UnseenGroupWarning):
        assert len(fitted.compare("xlstn", "transformer", [1e20], unseen=True)) == 2


@pytest.mark.parametrize("context", [0, -8, 12.5, "long"])
def test_contexts_that_are_none_are_refused(fitted, context):
    with pytest.raises(InputError, match="whole number of tokens"):
        fitted.allocate([1e20], context_length=context)


def test_groups_that_are_there_or_incomplete_are_refused(fitted):
    with pytest.raises(InputError, match="xlstm/1024 is there already"):
        fitted.with_groups(labels(("xlstm", 1024)))
    with pytest.raises(InputError, match="needs context_length too"):
        fitted.with_groups(pd.DataFrame({"architecture": ["mamba"]}))
    with pytest.raises(InputError, match="asked to be xlstm and mamba"):
        fitted.allocate([1e20], architecture="xlstm", group={"architecture": "mamba"})


def test_a_posterior_with_new_groups_survives_its_file(fitted, tmp_path):
    extended = fitted.with_groups(labels(("xlstm", 2048)))
    loaded = Posterior.load(extended.save(tmp_path / "extended.nc"))
    assert loaded.unseen.tolist() == extended.unseen.tolist()
    pd.testing.assert_frame_equal(loaded.predict(POINT), extended.predict(POINT))


def test_costs_of_a_new_context_lie_between_those_of_its_neighbours():
    from allometry.accounting import accounting_cost
    from allometry.inference.costs import cost_source, extended_cost

    names = ["transformer", "transformer", "xlstm"]
    groups = labels(*zip(names, [2048, 8192, 2048], strict=True))
    cost = accounting_cost(names, [2048, 8192, 2048])
    new = labels(("transformer", 4096), ("mamba", 2048))
    extended = extended_cost(cost, groups, new)
    short, long, _, between, other = extended.flops_per_token(np.arange(5), np.full(5, 1e9))
    exact = accounting_cost(["transformer"], [4096]).flops_per_token(0, 1e9)
    assert short < between < long
    assert between == pytest.approx(exact, rel=1e-3)
    assert other == pytest.approx(6e9)
    assert [cost_source(cost, row) for _, row in new.iterrows()] == ["accounting", "6nd"]
