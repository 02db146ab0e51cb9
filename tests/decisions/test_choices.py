"""Break-even, lifetime and repeated data against closed forms and brute force."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from losses import loss_at

from allometry.accounting import VOCAB_SIZE, decode_flops, preset
from allometry.cli.asking import STUDY_VOCAB
from allometry.decisions import (
    UnseenGroupWarning,
    break_even_budget,
    break_even_context,
    buildable,
    least_regret,
    lifetime,
    nearest_shapes,
    repeated,
)
from allometry.decisions.breakeven import crossing
from allometry.decisions.buildable import NoShapeWarning
from allometry.decisions.demand import WIDEST, searched_sizes, serving_flops
from allometry.errors import InputError

ONE = {"architecture": "xlstm", "context_length": 1024}
FLOPS = 1e20


def test_a_crossing_is_where_the_line_between_two_points_is_zero():
    at = np.array([1.0, 10.0, 100.0])
    difference = np.array([[-1.0, -0.5, 0.5], [2.0, -2.0, -3.0]])
    assert crossing(difference, at) == pytest.approx([10**1.5, 10**0.5])


def test_the_four_ways_to_go_add_to_one_and_agree_with_a_comparison(fitted):
    table = break_even_budget(fitted, "xlstm", "transformer", flops_low=1e18, flops_high=1e21)
    ways = [name for name in table if name.startswith("probability_")]
    assert table[ways].sum(axis=1).to_numpy() == pytest.approx(1.0)
    for end, better in ((1e18, "b_takes_over"), (1e21, "a_takes_over")):
        here = fitted.compare("xlstm", "transformer", [end])["probability_a_better"]
        expected = table["probability_a_throughout"] + table[f"probability_{better}"]
        assert here.to_numpy() == pytest.approx(expected.to_numpy())
    turned = break_even_budget(fitted, "transformer", "xlstm", flops_low=1e18, flops_high=1e21)
    assert turned["probability_b_throughout"].tolist() == table["probability_a_throughout"].tolist()


def test_losses_are_equal_at_a_break_even_of_the_same_law(fitted):
    from allometry.decisions.comparison import best_loss

    wide = {"flops_low": 1e10, "flops_high": 1e26}
    table = break_even_budget(fitted, "xlstm", "transformer", context_length=1024, **wide)
    grid = np.geomspace(1e10, 1e26, 49)
    groups = fitted.groups
    index = [groups.index[(groups["architecture"] == name) & (groups["context_length"] == 1024)][0]
             for name in ("xlstm", "transformer")]  # fmt: skip
    a, b = (best_loss(fitted, np.full(49, g), grid) for g in index)
    places = crossing((a - b)[((a < b)[:, 0] != (a < b)[:, -1])], grid)
    assert table["break_even_flops_median"][0] == pytest.approx(np.median(places))


def test_a_break_even_context_says_that_most_contexts_were_never_run(fitted):
    with pytest.warns(UnseenGroupWarning, match="other than 1024, 4096 were never run"):
        table = break_even_context(fitted, "xlstm", "transformer", [FLOPS, 10 * FLOPS])
    ways = [name for name in table if name.startswith("probability_")]
    assert table[ways].sum(axis=1).to_numpy() == pytest.approx(1.0)
    assert table[["context_low", "context_high"]].to_numpy().tolist() == [[512, 16_384]] * 2
    with pytest.raises(InputError, match="is not a range"):
        break_even_context(fitted, "xlstm", "transformer", [FLOPS], context_low=10, context_high=5)


def test_a_model_that_serves_nothing_is_the_compute_optimum(fitted):
    best = fitted.allocate([FLOPS], **ONE).iloc[0]
    fixed = lifetime(fitted, [0.0], total_flops=FLOPS, **ONE).iloc[0]
    target = lifetime(fitted, [0.0], target_loss=best["loss_median"], **ONE).iloc[0]
    assert fixed["params_median"] == pytest.approx(best["params_median"], rel=5e-3)
    assert fixed["loss_median"] == pytest.approx(best["loss_median"], rel=1e-4)
    for row in (fixed, target):  # by definition, not to the resolution of a search
        assert row["overtraining_q5"] == row["overtraining_q95"] == 1.0
    assert target["total_flops_median"] == pytest.approx(FLOPS, rel=0.02)
    assert target["saving_percent_median"] == pytest.approx(0.0, abs=1e-6)


def test_serving_more_makes_the_model_smaller_and_trained_for_longer(fitted):
    table = lifetime(fitted, [0.0, 1e11, 1e12, 1e13], target_loss=2.55, **ONE)
    assert table["params_median"].is_monotonic_decreasing
    assert table["overtraining_median"].is_monotonic_increasing
    assert table["saving_percent_median"].is_monotonic_increasing
    assert table["saving_percent_q5"].iloc[1:].min() > 0
    # Served at 2 N a token, the least total is no more than that of any size tried by hand.
    row = lifetime(fitted, [1e12], target_loss=2.55, serving="2n", **ONE).iloc[0]
    for params in row["params_median"] * np.array([0.7, 1.0, 1.4]):
        tokens = np.geomspace(1e8, 1e13, 400)
        loss = loss_at(fitted, ONE, params, tokens)
        needed = np.interp(-2.55, -loss, tokens)
        by_hand = 6 * params * needed + 2 * params * 1e12
        # The median total of draws against the total of the median loss: 2 % apart at most.
        assert row["total_flops_median"] <= by_hand * 1.02


def test_a_fixed_total_is_spent_and_beats_the_compute_optimal_model_within_it(fitted):
    table = lifetime(fitted, [0.0, 1e10, 1e12], total_flops=FLOPS, serving="2n", **ONE)
    spent = table["training_flops_median"] + 2 * table["params_median"] * table["served_tokens"]
    # Medians of a sum's parts, which trade off: their sum is near the total and not equal to it.
    assert spent.to_numpy() == pytest.approx(FLOPS, rel=0.02)
    assert table["loss_gain_q5"].min() > -1e-5
    assert table["loss_gain_median"].is_monotonic_increasing
    assert table["loss_median"].is_monotonic_increasing
    # The least loss of a total is no more than that of any split tried by hand.
    row = table.iloc[2]
    sizes = row["params_median"] * np.geomspace(0.5, 1.9, 15)
    tokens = (FLOPS - 2 * sizes * 1e12) / (6 * sizes)
    by_hand = loss_at(fitted, ONE, sizes[tokens > 0], tokens[tokens > 0]).min()
    assert row["loss_median"] == pytest.approx(by_hand, rel=1e-3)
    assert row["params_q5"] < row["params_median"] < row["params_q95"]


def test_a_loss_below_the_floor_is_reached_by_no_draw(fitted):
    row = lifetime(fitted, [1e10], target_loss=0.5, **ONE).iloc[0]
    assert row["probability_reachable"] == 0.0
    assert np.isnan(row["params_median"])
    with pytest.raises(InputError, match="exactly one"):
        lifetime(fitted, [1e10], **ONE)
    with pytest.raises(InputError, match="served_tokens"):
        lifetime(fitted, [-1.0], target_loss=2.5, **ONE)


def test_serving_costs_follow_the_decode_steps_of_the_shapes():
    shape = preset("transformer-1.4b")
    from allometry.accounting import count_params

    params = count_params(shape).total
    exact = decode_flops(shape, 4096).total
    smooth = serving_flops(
        "transformer", np.geomspace(params / 4, params * 4, 9), context_length=4096
    )
    # The family scatters by a few percent at one size: widths and depths differ.
    assert smooth[4] == pytest.approx(exact, rel=0.08)


def test_one_epoch_is_enough_where_data_are_plenty_and_more_where_they_are_not(fitted):
    best = fitted.allocate([FLOPS], **ONE).iloc[0]
    plenty, few = (
        repeated(fitted, [supply], [FLOPS], published=True, **ONE).iloc[0]
        for supply in (1e15, best["tokens_median"] / 20)
    )
    assert plenty["params_median"] == pytest.approx(best["params_median"], rel=0.02)
    assert plenty["epochs_q95"] == 1.0
    # Params beyond what the tokens deserve by the law are worth less even to the published law of
    # one epoch, and the discrepancy of some draws asks for them.
    assert plenty["price_of_repeating_median"] < 1e-4
    assert plenty["price_of_repeating_q95"] < 1e-3
    assert few["probability_repeats"] == 1.0
    assert few["epochs_median"] > 4
    assert few["loss_median"] > best["loss_median"]
    assert few["run_loss_q95"] > few["loss_q95"]
    # Muennighoff et al.: short of data, less of the compute goes to params' share of new tokens,
    # but never so much that the budget is not spent.
    spent = 6 * few["params_median"] * few["tokens_median"]
    assert spent == pytest.approx(FLOPS, rel=0.02)


def test_a_law_without_repetition_refuses_unless_the_published_one_is_borrowed(fitted):
    with pytest.raises(InputError, match="knows nothing of repeated tokens") as refusal:
        repeated(fitted, [1e9], [FLOPS], **ONE)
    assert "--published" in refusal.value.hint


def test_shapes_to_build_are_near_and_lose_little(fitted):
    table = buildable(fitted, least_regret(fitted, [FLOPS], **ONE), **ONE)
    row = table.iloc[0]
    assert row["buildable_params"] == pytest.approx(row["params"], rel=0.35)
    assert row["buildable_regret"] < row["expected_regret"] + 0.002
    named = nearest_shapes(fitted.allocate([FLOPS], **ONE)).iloc[0]
    assert named["buildable_params"] == pytest.approx(named["params_median"], rel=0.1)
    assert named["d_model"] % 16 == 0
    with pytest.raises(InputError, match="no shapes are known"):
        nearest_shapes(pd.DataFrame({"architecture": ["mamba"], "params_median": [1e9]}))


def test_a_size_that_no_shape_is_near_to_has_none_and_a_smaller_vocabulary_has_smaller_shapes():
    table = pd.DataFrame({"architecture": ["transformer", "xlstm"], "params_median": [4e5, 4e5]})
    with pytest.warns(NoShapeWarning, match="a smaller vocabulary"):
        none = nearest_shapes(table)
    assert none[["buildable_params", "d_model"]].isna().all(axis=None)
    bytes_read = nearest_shapes(table, vocab_size=256)
    assert np.allclose(bytes_read["buildable_params"], 4e5, rtol=0.35)
    with pytest.warns(NoShapeWarning, match="is left out$"):  # none so large either
        nearest_shapes(table.assign(params_median=1e14))


def test_the_command_line_knows_the_vocabulary_of_the_accounting():
    assert STUDY_VOCAB == VOCAB_SIZE


def test_sizes_are_searched_far_below_those_of_a_study_of_tiny_models(fitted):
    assert searched_sizes(fitted, 5)[[0, -1]] == pytest.approx(WIDEST)
    tree = fitted.idata.copy()
    data = tree["constant_data"].to_dataset()
    tree["constant_data"] = xr.DataTree(data.assign(params=data["params"] * 1e-4))
    tiny = replace(fitted, idata=tree)
    smallest = float(tree["constant_data"]["params"].min())
    assert searched_sizes(tiny, 5)[0] < smallest / 10 < WIDEST[0]
