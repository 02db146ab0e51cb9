"""Loss and latency joined: dominance, break-even, the largest batch and cost over a life."""

import numpy as np
import pytest

from allometry.accounting import count_params, preset
from allometry.decisions.crossover import crossover_batch, crossover_context
from allometry.decisions.serving import (
    break_even_context,
    largest_batch,
    serving_frontier,
)
from allometry.decisions.serving_cost import lifetime_cost
from allometry.errors import InputError

SIZES = (2e8, 4e8, 8e8)


def test_frontier_is_of_both_architectures_and_larger_is_slower_and_better(fitted, fitted_latency):
    table = serving_frontier(fitted, fitted_latency, context_length=4096, params=SIZES)
    for _, rows in table.groupby("architecture"):
        assert rows["loss_median"].is_monotonic_decreasing
        assert rows["seconds_median"].is_monotonic_increasing
    assert table.groupby("architecture").size().to_dict() == {"transformer": 3, "xlstm": 3}


def test_what_is_both_faster_and_better_dominates(fitted, fitted_latency):
    # In the simulated truth the xLSTM has the lower loss, and its state beats a cache of 64k keys.
    table = serving_frontier(
        fitted, fitted_latency, context_length=65_536, batch_size=64, params=SIZES
    )
    dominated = table.groupby("architecture")["probability_dominated"]
    assert dominated.min()["transformer"] > 0.99
    assert dominated.max()["xlstm"] < 0.01


def test_recurrent_step_has_no_crossover_context_and_attention_has_one(fitted_latency):
    shapes = [preset("transformer-160m"), preset("xlstm-160m")]
    attention, recurrent = (
        crossover_context(fitted_latency, s.architecture, count_params(s).total).iloc[0]
        for s in shapes
    )
    assert attention["probability_crosses"] == 1.0
    assert recurrent["probability_crosses"] == 0.0
    assert np.isnan(recurrent["context_length_median"])


def test_a_larger_batch_crosses_at_a_shorter_context(fitted_latency):
    params = count_params(preset("transformer-1.4b")).total
    few, many = (
        crossover_context(fitted_latency, "transformer", params, batch_size=batch).iloc[0]
        for batch in (1, 64)
    )
    assert many["context_length_q95"] < few["context_length_q5"]


def test_a_step_is_bound_by_memory_until_a_batch_above_one(fitted_latency):
    params = count_params(preset("xlstm-1.4b")).total
    row = crossover_batch(fitted_latency, "xlstm", params, context_length=128).iloc[0]
    assert row["probability_crosses"] == 0.0 or row["batch_size_q5"] > 1


def test_break_even_is_where_the_equal_model_costs_the_same(fitted, fitted_latency):
    row = break_even_context(
        fitted, fitted_latency, "transformer", "xlstm", params=4e8, batch_size=64
    ).iloc[0]
    assert row["probability_breaks_even"] == 1.0
    # The xLSTM of equal loss is smaller, since its simulated loss is lower.
    assert row["b_params_q95"] < 4e8


def test_half_the_memory_holds_less_than_half_the_batch(fitted_latency):
    params = count_params(preset("transformer-1.4b")).total
    whole, half = (
        largest_batch(
            fitted_latency, "transformer", params, context_length=2048, memory_bytes=size
        ).iloc[0]
        for size in (40e9, 20e9)
    )
    # Weights are paid once: what is left for sequences shrinks by more than half.
    assert 0 < half["batch_size_median"] < whole["batch_size_median"] / 2
    tiny = largest_batch(
        fitted_latency, "transformer", params, context_length=2048, memory_bytes=1e9
    )
    assert tiny["batch_size_q95"].item() == 0


def test_memory_that_is_not_known_is_asked_for(fitted_latency):
    with pytest.raises(InputError, match="memory"):
        largest_batch(fitted_latency, "xlstm", 1.6e8, context_length=128, memory_bytes=float("inf"))


def test_much_serving_buys_a_smaller_model_trained_for_longer(fitted, fitted_latency):
    rare, often = (
        lifetime_cost(
            fitted,
            fitted_latency,
            "transformer",
            target_loss=2.6,
            served_tokens=served,
            context_length=4096,
            params=np.geomspace(1e8, 3e9, 9),
        ).iloc[0]
        for served in (1.0, 1e13)
    )
    assert rare["probability_reachable"] == often["probability_reachable"] == 1.0
    assert rare["overtraining_median"] == 1.0  # nothing is served: training alone decides
    assert rare["training_share_of_cost_median"] > 0.999
    assert often["params_median"] < rare["params_median"]
    assert often["tokens_per_param_median"] > rare["tokens_per_param_median"]
    assert often["cost_median"] > rare["cost_median"]


def test_a_loss_below_the_floor_is_reached_by_nothing(fitted, fitted_latency):
    row = lifetime_cost(
        fitted,
        fitted_latency,
        "xlstm",
        target_loss=1.0,
        served_tokens=1e9,
        context_length=4096,
        params=SIZES,
    ).iloc[0]
    assert row["probability_reachable"] == 0.0
    assert np.isnan(row["cost_median"])
