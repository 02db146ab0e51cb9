"""The bench: repeats until known, random order with controls, resumable, out of memory recorded."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from allometry.accounting import TransformerShape, XLSTMShape
from allometry.errors import InputError
from allometry.harness.latency import (
    BenchPlan,
    drift,
    measure,
    plan_points,
    run_bench,
    with_intervals,
)
from allometry.harness.latency.clock import Clock, HostClock, own_overhead, relative_error
from allometry.observations import read_latency

SHAPES = (
    TransformerShape(d_model=32, n_layers=1, n_heads=2, vocab_size=64),
    XLSTMShape(d_model=32, n_layers=1, n_heads=2, vocab_size=64),
)
# One shape: between shapes the bench frees memory, which takes longer than all these timings.
PLAN = BenchPlan(
    shapes=SHAPES[:1],
    batch_sizes=(1, 2),
    prefill_lengths=(4, 8),
    generation_length=2,
    max_seconds=0.02,
    control_every=4,
)


class ScriptedClock(Clock):
    """Gives seconds from a list, over and over."""

    def __init__(self, seconds):
        self.script, self.calls = list(seconds), 0

    def seconds(self, work):
        work()
        self.calls += 1
        return self.script[(self.calls - 1) % len(self.script)]


def test_steady_work_needs_the_fewest_repeats_and_noisy_work_more():
    steady = measure(lambda: None, ScriptedClock([1.0]), min_repeats=5)
    noise = np.random.default_rng(0).lognormal(0.0, 0.1, 500)
    noisy = measure(lambda: None, ScriptedClock(noise), min_repeats=5, max_repeats=500)
    assert len(steady.samples) == 5
    assert steady.settled
    assert noisy.settled
    # The error of a median of n falls as 1.25 * 0.1 / sqrt(n): 1 % needs about 156.
    assert 30 < len(noisy.samples) < 400
    assert noisy.relative_error <= 0.01


def test_repeats_end_at_the_most_allowed_and_say_that_they_did_not_settle():
    found = measure(lambda: None, ScriptedClock([1.0, 3.0, 2.0]), max_repeats=12)
    assert len(found.samples) == 12
    assert not found.settled
    assert found.median == 2.0


def test_warm_up_is_not_timed():
    clock = ScriptedClock([100.0, 100.0] + [1.0] * 50)
    assert measure(lambda: None, clock, warmup=2).median == 1.0


def test_error_of_the_median_is_infinite_before_three_samples():
    assert relative_error(np.array([1.0, 1.0])) == np.inf


def test_clock_costs_less_than_a_hundredth_of_a_millisecond():
    # Not a timing of our work: the smallest timing of a plan is of milliseconds, 1 % is 10 us.
    assert own_overhead(HostClock()) < 1e-5


def test_order_is_random_by_seed_with_controls_at_both_ends():
    points = plan_points(PLAN)
    names = [point.name for point in points]
    assert len(set(names)) == len(names)
    assert points[0].control
    assert points[-1].control
    assert sum(not point.control for point in points) == 2 * 2 * 2
    again = [point.name for point in plan_points(PLAN)]
    other = [point.name for point in plan_points(dataclasses.replace(PLAN, seed=1))]
    assert names == again
    assert names != other
    assert sorted(names) == sorted(other)


def test_bench_writes_a_table_that_reads_as_latencies(tmp_path):
    plan = dataclasses.replace(PLAN, shapes=SHAPES, batch_sizes=(1,), prefill_lengths=(4,))
    result = run_bench(plan, tmp_path / "t.csv")
    read = read_latency(tmp_path / "t.csv")
    assert len(read.table) == len(plan_points(plan)) == len(result.table)
    assert set(read.table["architecture"]) == {"transformer", "xlstm"}
    assert (read.table["seconds"] > 0).all()
    assert read.warnings == ()
    assert result.drift["controls"] >= 2


def test_bench_goes_on_where_it_stopped(tmp_path):
    class StopError(Exception):
        pass

    def stop_at_the_fifth(done, total, name):
        if done == 5:
            raise StopError

    with pytest.raises(StopError):
        run_bench(PLAN, tmp_path / "t.csv", progress=stop_at_the_fifth)
    half = pd.read_csv(tmp_path / "t.csv")
    whole = run_bench(PLAN, tmp_path / "t.csv").table
    assert len(half) == 5
    pd.testing.assert_series_equal(whole["seconds"][:5], half["seconds"])
    assert [str(name) for name in whole["point"]] == [p.name for p in plan_points(PLAN)]


def test_table_of_another_plan_is_refused(tmp_path):
    small = dataclasses.replace(PLAN, batch_sizes=(1,), prefill_lengths=(4,))
    run_bench(small, tmp_path / "t.csv")
    with pytest.raises(InputError, match="another plan"):
        run_bench(dataclasses.replace(small, seed=3), tmp_path / "t.csv")


def test_out_of_memory_is_a_censored_row_and_the_bench_goes_on(tmp_path, monkeypatch):
    from allometry.models import Transformer

    real = Transformer.prefill

    def small_memory(self, tokens, *args, **options):
        if tokens.numel() > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, tokens, *args, **options)

    monkeypatch.setattr(Transformer, "prefill", small_memory)
    run_bench(PLAN, tmp_path / "t.csv")
    read = read_latency(tmp_path / "t.csv")
    failed = read.out_of_memory[["batch_size", "prefill_length"]].drop_duplicates()
    assert failed.to_numpy().tolist() == [[2, 8]]
    assert len(read.table) + len(read.out_of_memory) == len(plan_points(PLAN))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes"),
    ],
)
def test_a_model_that_has_no_room_is_out_of_memory_at_all_its_points(tmp_path, monkeypatch, error):
    from allometry.harness.latency import run

    real, large = run.build, dataclasses.replace(SHAPES[0], d_model=64)

    def small_memory(shape, **options):
        if shape == large:
            raise error
        return real(shape, **options)

    monkeypatch.setattr(run, "build", small_memory)
    plan = dataclasses.replace(PLAN, shapes=(SHAPES[0], large), prefill_lengths=(4,))
    result = run_bench(plan, tmp_path / "t.csv").table
    failed = result["d_model"] == 64
    assert failed.sum() == 4
    assert (result["status"] == np.where(failed, "oom", "ok")).all()


def test_an_error_that_is_not_of_memory_stops_the_bench(tmp_path, monkeypatch):
    from allometry.harness.latency import run

    def broken(*_, **__):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(run, "prepare", broken)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        run_bench(PLAN, tmp_path / "t.csv")


def test_drift_is_the_change_of_the_control_points():
    table = pd.DataFrame(
        {"control": [True, False, True, True], "seconds": [1.0, 9.0, 1.0, 2.0]}
    ).assign(measured_at=range(4))
    found = drift(table)
    assert found["ratio"] == 2.0
    assert found["trend"] == 2.0


@pytest.mark.parametrize("bad", [{"batch_sizes": (0,)}, {"device": "tpu"}, {"dtype": "int8"}])
def test_impossible_plans_are_refused(bad):
    with pytest.raises(InputError):
        dataclasses.replace(PLAN, **bad)


def test_interval_of_a_timing_holds_its_repeats_and_the_drift_of_the_controls():
    table = pd.DataFrame(
        {"seconds": [1.0, 3.0, 1.2], "seconds_std": [0.04] * 3, "repeats": [16.0] * 3}
    ).assign(control=[True, False, True], measured_at=range(3))
    point = with_intervals(table).iloc[1]
    assert point["repeats_error"] == pytest.approx(1.2533 * 0.04 / 4 / 3.0, rel=1e-3)
    moved = np.std([1.0, 1.2], ddof=1) / 1.1
    assert point["drift_error"] == pytest.approx(moved)
    half = np.log(point["seconds_high"] / point["seconds_low"]) / 2
    assert half == pytest.approx(1.645 * np.hypot(point["repeats_error"], moved), rel=1e-3)


def test_without_two_controls_the_drift_is_not_known_and_the_interval_is_of_the_repeats():
    table = pd.DataFrame({"seconds": [1.0], "seconds_std": [0.1], "repeats": [4.0]})
    row = with_intervals(table.assign(control=True, measured_at=0.0)).iloc[0]
    assert np.isnan(row["drift_error"])
    half = np.log(row["seconds_high"])
    assert half == pytest.approx(1.645 * 1.2533 * 0.1 / 2, rel=1e-3)
