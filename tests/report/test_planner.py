"""The planner's nodes are the decisions' own answers."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from allometry.decisions import UnseenGroupWarning, allocate, compare, least_regret
from allometry.errors import InputError
from allometry.inference.reach import known_reaches, reach_sentence
from allometry.report import plan, with_contexts
from allometry.report.answer import allocation_sentences
from allometry.report.planner import BEYOND, budget_nodes, document, probability_best, reaches
from allometry.report.tables import choices


@pytest.fixture(scope="module")
def planner(small):
    return plan(small)


def test_budgets_go_from_the_smallest_run_to_a_thousand_times_the_largest(small):
    nodes = budget_nodes(small)
    largest = small.largest_flops().max()
    assert (np.diff(nodes) > 0).all()
    assert 0.99 * small.smallest_flops().min() <= nodes[0] <= small.smallest_flops().min()
    # Three significant digits, rounded down: at most one percent below.
    for multiple in (1.0, 10.0, 100.0, BEYOND):
        near = nodes[nodes <= multiple * largest * (1 + 1e-12)].max()
        assert 0.99 * multiple * largest <= near
    assert [float(f"{v:.2e}") for v in nodes] == nodes.tolist()
    assert nodes[-1] <= BEYOND * largest * (1 + 1e-12)


def test_nodes_are_what_the_decisions_answer(small, planner):
    table = planner.allocations
    expected = allocate(small, planner.flops)
    pd.testing.assert_frame_equal(table[expected.columns], expected)
    # A band has no noise: it does not matter which budgets are asked along with it.
    some = planner.flops[[0, 7, -1]]
    regret = least_regret(small, some)
    own = table[table["flops"].isin(some)].reset_index(drop=True)
    for name in ("band_low_median", "band_high_q95", "safe_low", "safe_high"):
        np.testing.assert_allclose(own[name], regret[name], rtol=1e-12)


def test_the_chance_to_be_best_of_two_is_that_of_compare(small, planner):
    answered = compare(small, "xlstm", "transformer", planner.flops)
    own = planner.winners
    xlstm = own[own["architecture"] == "xlstm"]
    assert len(xlstm) == len(answered)
    both = xlstm.merge(answered, on=["context_length", "flops"])
    assert both["probability_best"].tolist() == both["probability_a_better"].tolist()
    sums = own.groupby(["context_length", "flops"])["probability_best"].sum()
    assert sums.to_numpy() == pytest.approx(1.0)


def test_chances_of_three_architectures_add_to_one(small):
    with_third = small.with_groups(pd.DataFrame({"architecture": ["m"], "context_length": [1024]}))
    own = probability_best(with_third, np.array([1e20, 1e21]))
    near = own[own["context_length"] == 1024]
    assert sorted(near["architecture"].unique()) == ["m", "transformer", "xlstm"]
    sums = near.groupby("flops")["probability_best"].sum()
    assert sums.to_numpy() == pytest.approx(1.0)


def test_no_winner_is_named_where_groups_are_not_architectures(small):
    tree = small.idata.copy()
    tree["posterior"] = tree["posterior"].to_dataset().rename(architecture="data")
    record = replace(small.record, by=("data", "context_length"))
    other = replace(small, idata=tree, record=record)
    assert probability_best(other, np.array([1e20])).empty


def test_ranges_of_distance_say_what_predictions_say():
    told = reaches()
    assert told[0]["low"] == 1.0
    assert [r["high"] for r in told[:-1]] == [r["low"] for r in told[1:]]
    assert told[-1]["high"] == np.inf
    for factor in (1.5, 3.0, 7.0, 20.0, 80.0, 500.0, 2e3, 1e9, *(r.high for r in known_reaches())):
        if np.isfinite(factor):
            words = next(r["words"] for r in told if r["low"] < factor <= r["high"])
            assert reach_sentence(factor).endswith(f": {words}")


def test_the_document_holds_every_group_with_its_own_largest_run(small, planner):
    made = document(small, planner)
    assert [g["labels"] for g in made["groups"]] == [
        [str(v) for v in row] for row in small.groups.itertuples(index=False)
    ]
    assert [g["largest"] for g in made["groups"]] == pytest.approx(small.largest_flops().tolist())
    assert all(len(v) == len(planner.flops) for g in made["groups"] for v in g["values"].values())


def test_contexts_that_were_never_run_come_for_every_architecture_and_are_marked(small):
    with pytest.warns(UnseenGroupWarning, match="2048 was never run"):
        added = with_contexts(small, [2048, 1024])
    made = document(added, plan(added))
    assert [g["labels"] for g in made["groups"] if g["unseen"]] == [
        ["transformer", "2048"],
        ["xlstm", "2048"],
    ]
    assert len(made["groups"]) == 6
    assert choices(added)[1][1] == ["1024", "2048", "4096"]  # the new one is the group listed last
    assert with_contexts(small, [1024]) is small
    with pytest.raises(InputError, match="below 1"):
        with_contexts(small, [0])


def test_the_headline_calls_no_architecture_better_where_that_is_open(small, planner):
    for chance, words in ((0.55, "which one is better there is open"), (0.9, "of 90 %")):
        winners = planner.winners.assign(probability_best=chance)
        said = " ".join(allocation_sentences(small, replace(planner, winners=winners)))
        assert words in said
        assert ("the better one there" in said) == (chance == 0.9)
