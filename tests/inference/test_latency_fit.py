"""Fitting latencies: rows used, recovery of simulated timings, the file, the memory law."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from latency_simulation import DEVICE, NOISE, latency_grid, simulate_latency

from allometry.decisions.crossover import first_crossing
from allometry.decisions.latency import check_points, latency_draws, predict_latency
from allometry.errors import InputError
from allometry.inference import LatencyPosterior, LatencySampler, Posterior, fit_latency
from allometry.inference.latency_memory import memory_draws, needed_bytes
from allometry.inference.latency_work import apparent_device, shapes_of, usable_rows
from allometry.inference.mode import Mode
from allometry.inference.nuts import ChainDraws
from allometry.inference.whitening import Whitening

LAPLACE = LatencySampler(method="laplace", chains=2, draws=100)


@pytest.fixture(scope="module")
def timed():
    """The timings that `fitted_latency` was fitted to, with their truth."""
    return simulate_latency(1)


def test_simulated_timings_are_predicted_within_their_noise(fitted_latency, timed):
    posterior, table = fitted_latency, timed
    found = predict_latency(posterior, table)
    error = np.log(found["seconds_median"] / table["exact"])
    # The mean of several timings of a coefficient: no worse than the noise of one of them.
    assert np.sqrt((error**2).mean()) < NOISE
    inside = (found["run_seconds_q5"] <= table["seconds"]) & (
        table["seconds"] <= found["run_seconds_q95"]
    )
    assert inside.mean() > 0.8  # 72 rows at 90 %: 0.8 is three standard errors below


def test_effective_rates_are_positive_and_below_the_peak(fitted_latency):
    posterior = fitted_latency
    law = posterior.law
    for architecture in posterior.record.architectures:
        values = posterior.values(architecture)
        for coefficient in law.coefficients:
            assert (values[coefficient.name] > 0).all()
            if coefficient.kind != "log":
                assert (values[coefficient.name] <= 1).all()


def test_recurrent_step_is_flat_in_context_and_attention_grows(fitted_latency, timed):
    posterior, table = fitted_latency, timed
    shapes = table[table["quantity"] == "step_time"].drop_duplicates(["architecture", "params"])
    points = pd.concat([shapes.assign(prefill_length=t) for t in (128, 8192)])
    found = predict_latency(posterior, points)
    ratio = found.groupby(["architecture", "params"])["seconds_median"].agg(
        lambda s: s.iloc[1] / s.iloc[0]
    )
    # Each is the law, flat to rounding, moved towards a timing with a noise of 2 %.
    assert np.allclose(ratio["xlstm"], 1.0, atol=3 * NOISE)
    assert (ratio["transformer"] > 1.2).all()


def test_another_device_gets_a_wider_interval(fitted_latency, timed):
    posterior, table = fitted_latency, timed
    same = predict_latency(posterior, table)
    other = dataclasses.replace(DEVICE, name="twice", flops=2e14, bandwidth=2e12)
    moved = predict_latency(posterior, table, device=other)
    width = [np.log(t["seconds_q95"] / t["seconds_q5"]).mean() for t in (same, moved)]
    assert width[1] > 2 * width[0]
    assert (moved["seconds_median"] < same["seconds_median"] * 1.05).mean() > 0.9


def test_file_gives_the_posterior_back_and_a_foreign_one_is_refused(
    fitted_latency, fitted_latency_file, timed
):
    posterior, table = fitted_latency, timed
    loaded = LatencyPosterior.load(fitted_latency_file)
    assert loaded.record == posterior.record
    again = predict_latency(loaded, table)
    pd.testing.assert_frame_equal(again, predict_latency(posterior, table))
    with pytest.raises(InputError, match="not a posterior of allometry"):
        Posterior.load(fitted_latency_file)


def test_a_latency_file_with_a_flipped_bit_is_refused(
    fitted_latency, fitted_latency_file, tmp_path
):
    content = bytearray(fitted_latency_file.read_bytes())
    draws = fitted_latency.idata["posterior"]["field_noise"].to_numpy().tobytes()
    content[content.index(draws) + 80] ^= 1
    path = tmp_path / "flipped.nc"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"not those that were written: posterior/field_noise$"):
        LatencyPosterior.load(path)


def test_rows_that_cannot_be_modelled_are_left_out_with_the_reason():
    table = latency_grid().assign(seconds=1.0)
    table.loc[0, "prefill_length"] = 0
    table.loc[1, "architecture"] = "mamba"
    used = usable_rows(table)
    assert len(used.table) == len(table) - 2
    assert any("mamba" in why for _, why in used.excluded)
    assert any("no prompt" in why for _, why in used.excluded)


def test_widths_that_contradict_params_are_refused():
    table = latency_grid().assign(seconds=1.0, params=1e6)
    with pytest.raises(InputError, match="the widths give"):
        apparent_device(table)


def test_what_would_settle_the_widths_is_named_with_the_file(tmp_path):
    """A Llama-3 8B by its three widths alone: the vocabulary and the shared keys are not known."""
    path = tmp_path / "llama.csv"
    row = {"architecture": "transformer", "params": 8_030_261_248, "d_model": 4096, "n_layers": 32}
    row |= {"n_heads": 32, "batch_size": 1, "prefill_length": 512, "quantity": "ttft"}
    pd.DataFrame([row | {"seconds": 0.1}]).to_csv(path, index=False)
    with pytest.raises(
        InputError, match=r"llama\.csv: the widths give .* say 8,030,261,248"
    ) as said:
        fit_latency(str(path), law="roofline")
    assert all(name in said.value.hint for name in ("vocab_size", "n_kv_heads", "d_ff", "--set"))


def test_few_timings_and_restless_ones_are_told_with_figures(fitted_latency):
    table = simulate_latency(1).drop(columns="exact").iloc[:3].assign(settled=[False, False, True])
    sampler = LatencySampler(method="laplace", chains=2, draws=20)
    said = fit_latency(table, law="roofline", device=DEVICE, sampler=sampler).record.warnings
    assert any(re.match(r"3 timing\(s\) for \d+ coefficients", text) for text in said)
    assert any(text.startswith("2 of 3 timings are not settled") for text in said)
    usual = fitted_latency.record.warnings
    assert not any("coefficients" in text or "settled" in text for text in usual)


def test_timings_of_two_devices_are_refused():
    table = latency_grid().assign(seconds=1.0)
    table["device"] = np.where(np.arange(len(table)) % 2, "a", "b")
    with pytest.raises(InputError, match="2 devices"):
        fit_latency(table, law="roofline", device=DEVICE, sampler=LAPLACE)


def test_what_a_table_without_a_data_sheet_does_not_tell_is_said():
    table = simulate_latency(1).drop(columns="exact")
    table = table[(table["architecture"] == "xlstm") & (table["batch_size"] < 64)]
    status = np.where(np.arange(len(table)) == 0, "oom", "ok")
    found = fit_latency(table.assign(status=status, dtype="posit"), law="roofline", sampler=LAPLACE)
    said = " ".join(found.record.warnings)
    assert "1 point(s) ran out of memory, whose size is not known" in said
    assert "no data sheet of the device is known" in said
    assert "no dtype posit is known: weights and caches are counted in numbers of two" in said
    assert not found.record.bounded


@pytest.fixture(scope="module")
def of_two_types():
    """Timings of weights of 4 bytes and of 1, and their fit."""
    kinds = [simulate_latency(seed, dtype) for seed, dtype in ((1, "float32"), (2, "int8"))]
    table = pd.concat(kinds, ignore_index=True)
    timings = table.drop(columns="exact")
    return table, fit_latency(timings, law="roofline", device=DEVICE, sampler=LAPLACE)


def test_timings_of_two_types_have_one_law_with_the_bytes_of_each(of_two_types):
    table, posterior = of_two_types
    assert not any("dtype" in warning for warning in posterior.record.warnings)
    found = predict_latency(posterior, table.drop(columns="seconds"))
    assert list(found["dtype"]) == list(table["dtype"])
    assert found["timed"].all()
    error = np.log(found["seconds_median"] / table["exact"])
    assert np.sqrt((error**2).mean()) < NOISE
    # Counted at two bytes, one of them would read its weights at twice the truth, 92 % of the peak.
    share = posterior.values("transformer")["weight_bandwidth"]
    truth = 1 / (1 + np.exp(-2.5))
    assert np.quantile(share, 0.01) < truth < np.quantile(share, 0.99)


def test_a_point_says_which_of_several_types_it_has(of_two_types):
    table, posterior = of_two_types
    points = table.drop(columns=["dtype", "seconds"]).head(3)
    with pytest.raises(InputError, match="timed in float32, int8: which one"):
        predict_latency(posterior, points)
    with pytest.raises(InputError, match="no dtype 'posit'"):
        predict_latency(posterior, points.assign(dtype="posit"))
    between = predict_latency(posterior, points.assign(dtype="bf16"))
    assert set(between["dtype"]) == {"16-bit"}
    assert not between["timed"].any()  # of these weights


def test_types_of_one_width_are_one(fitted_latency, timed):
    found = fit_latency(
        timed.drop(columns="exact").assign(dtype="bfloat16"),
        law="roofline",
        device=DEVICE,
        sampler=LAPLACE,
    )
    again = predict_latency(found, timed)
    pd.testing.assert_frame_equal(again, predict_latency(fitted_latency, timed))


def test_memory_law_finds_the_factor_that_decided_what_fitted():
    table = latency_grid()
    table = table[table["quantity"] == "ttft"].reset_index(drop=True)
    dense = pd.concat([table.assign(batch_size=b) for b in (1, 2, 4, 8, 16, 32, 64, 128, 256)])
    dense = dense.reset_index(drop=True)
    fits = needed_bytes(shapes_of(dense), dense, np.array([20.0]))[0] < DEVICE.memory_bytes
    found = memory_draws(
        dense[fits],
        dense[~fits],
        capacity=DEVICE.memory_bytes,
        architectures=("transformer", "xlstm"),
        draws=400,
        seed=0,
    )["memory_factor"]
    low, middle, high = np.quantile(found, [0.05, 0.5, 0.95], axis=0)
    assert (high / low < 10).all()  # the prior's own interval is a factor of 52
    for a, architecture in enumerate(("transformer", "xlstm")):
        own = (dense["architecture"] == architecture).to_numpy()
        rows = dense[own].reset_index(drop=True)
        needed = needed_bytes(shapes_of(rows), rows, middle[[a]])[0]
        # Batches double: a factor within the grid's resolution decides all points but the nearest.
        assert ((needed < DEVICE.memory_bytes) != fits[own]).sum() <= 1


def test_first_crossing_is_between_the_points_around_it():
    at = np.array([1.0, 10.0, 100.0])
    excess = np.array([[-1.0, -1.0, 1.0], [1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
    places = first_crossing(excess, at)
    assert np.isclose(places[0], 10**1.5)
    assert places[1] == 1.0
    assert np.isnan(places[2])


def test_chains_that_disagree_are_told_what_helps_a_latency_fit():
    from allometry.inference.latency_fit import _verdict

    shape = (2, 50)
    x = np.random.default_rng(0).normal(size=(*shape, 3)) + np.array([0.0, 5.0])[:, None, None]
    chains = ChainDraws(
        x=x,
        diverging=np.zeros(shape, dtype=bool),
        steps=np.ones(shape, dtype=np.int64),
        acceptance=np.ones(shape),
        energy=np.zeros(shape),
        step_size=np.ones(2),
    )
    none = np.zeros((0, 0, 0))
    unit = Whitening(
        centre=np.zeros(3), hyper=np.eye(3), groups=none, lean=none, columns=np.zeros((0, 0))
    )
    mode = Mode(x=np.zeros(3), log_posterior=0.0, gradient=0.0, whitening=unit)
    found = _verdict(chains, "nuts", mode, 1.0)
    assert not found.converged
    assert "--method laplace" in found.advice[0]
    assert not any("groups" in advice for advice in found.advice)  # there are none to pool


@pytest.mark.slow
def test_nuts_converges_where_launches_and_weights_stand_in_for_one_another():
    """On this project's own table: three sizes, two batches, no data sheet."""
    table = Path(__file__).parents[2] / "data" / "measured" / "latency.csv"
    found = fit_latency(str(table), law="roofline", sampler=LatencySampler(method="nuts"))
    assert found.record.convergence.converged, found.record.convergence.reasons


def test_a_climb_that_starts_near_another_ends_in_the_same_mode(fitted_latency, timed):
    table = timed.drop(columns="exact")
    again = fit_latency(table, law="roofline", device=DEVICE, sampler=LAPLACE, near=fitted_latency)
    assert again.record.convergence.converged
    first, second = (np.log(p.draws("coefficient")) for p in (fitted_latency, again))
    # The same seed moves the same Gaussian: both modes are exact to 1e-4 standard deviations.
    assert np.nanmax(np.abs(first - second)) < 1e-2


def test_untimed_sizes_share_what_the_law_misses_only_where_it_is_asked(fitted_latency):
    table = check_points(
        pd.DataFrame(
            {
                "architecture": "transformer",
                "params": [4e8, 5e8],
                "batch_size": 8,
                "prefill_length": 2048,
                "quantity": "step_time",
            }
        )
    )
    ratios = {}
    for common in (False, True):
        seconds = latency_draws(fitted_latency, table, common=common).seconds
        ratios[common] = np.log(seconds[:, 1] / seconds[:, 0]).std()
    # The law alone differs little between the two; new effects differ by their spread.
    assert ratios[True] < ratios[False] / 2


def test_an_untimed_batch_of_a_timed_shape_is_known_better_than_an_untimed_shape(fitted_latency):
    shape = latency_grid().iloc[[1]].assign(batch_size=9, prefill_length=2048)
    other = shape.drop(columns=["d_model", "n_layers", "n_heads", "d_ff"]).assign(params=4e8)
    points = pd.concat([shape, other], ignore_index=True)
    found = predict_latency(fitted_latency, points)
    width = np.log(found["seconds_q95"] / found["seconds_q5"])
    assert width[0] < width[1]
