"""Loss and latency joined: dominance, break-even, the largest batch and cost over a life."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from allometry.accounting import count_params, preset
from allometry.decisions.crossover import crossover_batch, crossover_context
from allometry.decisions.latency import latency_draws
from allometry.decisions.prediction import predict
from allometry.decisions.serving import (
    break_even_context,
    largest_batch,
    serving_frontier,
)
from allometry.decisions.serving_cost import lifetime_cost
from allometry.decisions.serving_points import SIZES as GRID
from allometry.decisions.serving_points import family_points, sizes_tried
from allometry.errors import InputError

SIZES = (2e8, 4e8, 8e8)


@pytest.mark.parametrize(
    ("timed", "low", "high"), [((8e9, 8e9), 2e9, 3.2e10), ((1e9, 8e9), 1e9, 8e9)]
)
def test_sizes_tried_differ_where_one_size_was_timed(timed, low, high):
    data = xr.Dataset({"params": ("run", np.array(timed))})
    sizes = sizes_tried(SimpleNamespace(idata={"constant_data": data}), None)
    assert len(np.unique(sizes)) == GRID
    assert (sizes[0], sizes[-1]) == pytest.approx((low, high))


def test_frontier_is_of_both_architectures_and_larger_is_slower_and_better(fitted, fitted_latency):
    table = serving_frontier(fitted, fitted_latency, context_length=4096, params=SIZES)
    for _, rows in table.groupby("architecture"):
        assert rows["loss_median"].is_monotonic_decreasing
        assert rows["seconds_median"].is_monotonic_increasing
    assert table.groupby("architecture").size().to_dict() == {"transformer": 3, "xlstm": 3}
    contexts = set(fitted.groups["context_length"])
    assert set(table["loss_context_length"]) <= contexts  # the nearest of those that were trained


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


def test_narrow_weights_leave_room_for_more_sequences_and_wide_numbers_for_fewer(
    fitted_latency,
):
    params = count_params(preset("transformer-1.4b")).total
    wide, timed, narrow = (
        largest_batch(fitted_latency, "transformer", params, context_length=2048, dtype=dtype).iloc[
            0
        ]["batch_size_median"]
        for dtype in ("float32", None, "int4")
    )
    # Cache and activations of float32 are twice as wide, and its weights are too.
    assert wide < timed / 2
    assert timed < narrow < 2 * timed


def test_a_break_even_is_of_the_device_that_is_asked_for(fitted, fitted_latency):
    # On one multiprocessor heads wait for one another's walk along the chunks of a prompt.
    alone = dataclasses.replace(fitted_latency.record.device, name="narrow", units=1)
    timed, narrow = (
        break_even_context(
            fitted,
            fitted_latency,
            "transformer",
            "xlstm",
            params=4e8,
            quantity="ttft",
            device=device,
        ).iloc[0]
        for device in (None, alone)
    )
    assert narrow["context_length_q75"] > 4 * timed["context_length_q75"]
    assert narrow["b_params_median"] == timed["b_params_median"]  # of losses alone


def test_cost_says_how_far_beyond_the_runs_its_model_is(fitted, fitted_latency):
    options = {"target_loss": 2.6, "served_tokens": 1e12, "context_length": 4096}
    small, large = (
        lifetime_cost(fitted, fitted_latency, "transformer", params=[size], **options).iloc[0]
        for size in (1e8, 2e8)
    )
    assert large["distance_outside"] == 0.0
    assert small["distance_outside"] > 0.5  # thousands of tokens a param
    point = pd.DataFrame(
        {"params": [small["params_median"]], "tokens": [small["tokens_median"]]}
        | {"architecture": ["transformer"], "context_length": [small["loss_context_length"]]}
    )
    there = predict(fitted, point).iloc[0]
    for name in ("extrapolation_factor", "distance_outside"):
        assert small[name] == pytest.approx(there[name], rel=1e-9)
    assert small["reach"] == there["reach"]


def test_memory_that_is_not_known_is_asked_for(fitted_latency):
    with pytest.raises(InputError, match="memory"):
        largest_batch(fitted_latency, "xlstm", 1.6e8, context_length=128, memory_bytes=float("inf"))


def test_much_serving_buys_a_smaller_model_trained_for_longer(fitted, fitted_latency):
    table = lifetime_cost(
        fitted,
        fitted_latency,
        "transformer",
        target_loss=2.6,
        served_tokens=(1.0, 1e13),
        context_length=4096,
        params=np.geomspace(1e8, 3e9, 9),
    )
    rare, often = (row for _, row in table.iterrows())
    assert rare["probability_reachable"] == often["probability_reachable"] == 1.0
    assert rare["overtraining_median"] == 1.0  # nothing is served: training alone decides
    assert rare["training_share_of_hours_median"] > 0.999
    assert often["params_median"] < rare["params_median"]
    assert often["tokens_per_param_median"] > rare["tokens_per_param_median"]
    assert often["device_hours_median"] > rare["device_hours_median"]
    assert "cost_median" not in table


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
    assert np.isnan(row["device_hours_median"])


def test_device_hours_are_those_of_the_training_flops_and_of_the_steps(fitted, fitted_latency):
    # One size, so that hours follow from the tokens it needs and from its step alone.
    params = count_params(preset("transformer-160m")).total
    options = {"target_loss": 3.0, "context_length": 4096, "batch_size": 8, "params": [params]}
    none, some = (
        row
        for _, row in lifetime_cost(
            fitted,
            fitted_latency,
            "transformer",
            served_tokens=(0.0, 1e9),
            training_share=0.5,
            price_per_hour=2.0,
            **options,
        ).iterrows()
    )
    device = fitted_latency.record.device
    flops = fitted.record.cost.flops(
        fitted.select(architecture="transformer", context_length=4096)[:1],
        np.array([params]),
        np.array([none["tokens_median"]]),
    )
    hours = float(np.asarray(flops).squeeze()) / (0.5 * device.flops) / 3600
    assert none["device_hours_median"] == pytest.approx(hours, rel=1e-6)
    assert none["cost_median"] == pytest.approx(2 * hours, rel=1e-6)
    point = family_points("transformer", [params], 4096, [8], "step_time")
    step = np.median(latency_draws(fitted_latency, point, common=True).seconds)
    # Medians of a sum and of its parts differ by less than the spread of the draws.
    added = some["device_hours_median"] - none["device_hours_median"]
    assert added == pytest.approx(1e9 * step / 8 / 3600, rel=0.2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"served_tokens": -1.0}, "served_tokens"),
        ({"target_loss": float("nan")}, "target_loss"),
        ({"batch_size": 0}, "batch_size"),
        ({"training_share": 40.0}, "training_share"),
        ({"price_per_hour": -2.0}, "price_per_hour"),
        ({"params": [0.0]}, "params"),
    ],
)
def test_cost_refuses_numbers_that_are_out_of_range(fitted, fitted_latency, change, says):
    options = {"target_loss": 3.0, "served_tokens": 1e9, "context_length": 4096} | change
    with pytest.raises(InputError, match=says):
        lifetime_cost(fitted, fitted_latency, "xlstm", **options)
