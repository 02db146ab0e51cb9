"""``allometry latency``: fit, predict and frontier, by exit code and JSON document."""

import json

import pytest
from latency_simulation import simulate_latency

from allometry.cli import main
from allometry.inference import LatencyPosterior


def test_fit_writes_a_posterior_and_names_the_data_sheet(tmp_path, capsys):
    """Of another tool's column of times, with what it did not record."""
    out, timings = tmp_path / "fit.nc", tmp_path / "timings.csv"
    table = simulate_latency(1).drop(columns="exact").rename(columns={"seconds": "wall"})
    table.to_csv(timings, index=False)
    argv = ["latency", "fit", str(timings), "-o", str(out)]
    argv += ["--alias", "wall=seconds", "--set", "device=h100-sxm", "--set", "dtype=posit"]
    options = ["--law", "roofline", "--draws", "100", "--json"]
    assert main([*argv, *options]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["device"] == "h100-sxm"
    assert document["architectures"] == ["transformer", "xlstm"]
    shares = [row["share_of_peak"] for row in document["coefficients"]]
    assert all(0 < share < 1 for share in shares if share is not None)
    assert any("no dtype posit" in warning for warning in document["warnings"])
    assert LatencyPosterior.load(out).record.source == "timings.csv"  # not whose folder it is


def test_predict_gives_one_row_a_combination(fitted_latency_file, tmp_path, capsys):
    picture = tmp_path / "runtime.png"
    argv = ["latency", "predict", str(fitted_latency_file), "--architecture", "transformer"]
    grid = ["xlstm", "--params", "3e8", "--prefill-lengths", "512", "16384", "--json"]
    assert main([*argv, *grid, "--plot", str(picture)]) == 0
    rows = json.loads(capsys.readouterr().out)
    seconds = {(r["architecture"], r["prefill_length"]): r["seconds_median"] for r in rows}
    assert len(rows) == 4
    # The law is flat; medians of what it misses are those of a few hundred draws.
    assert seconds["xlstm", 512] == pytest.approx(seconds["xlstm", 16384], rel=0.03)
    assert seconds["transformer", 512] < seconds["transformer", 16384]
    assert picture.stat().st_size > 0


def test_predict_takes_the_timed_model_that_a_rounded_size_means(
    fitted_latency, fitted_latency_file, capsys
):
    exact = fitted_latency.timed_models().query("architecture == 'transformer'")["params"]
    exact = float(exact.iloc[0])
    argv = ["latency", "predict", str(fitted_latency_file), "--architecture", "transformer"]
    argv += ["--prefill-lengths", "512", "--json", "--params"]
    near, far = round(exact * 1.004), round(exact * 1.006)
    for asked, taken in ((exact, exact), (near, exact), (far, far)):
        assert main([*argv, f"{asked:.0f}"]) == 0
        captured = capsys.readouterr()
        (row,) = json.loads(captured.out)
        assert row["params"] == pytest.approx(taken, rel=1e-9)
        assert row["timed"] is bool(taken == exact)
        said = f"the timed model of {exact:,.0f} is taken" in captured.err
        assert said is bool(taken != asked)


def test_predict_counts_the_bytes_of_the_dtype_asked_for(fitted_latency_file, capsys):
    argv = ["latency", "predict", str(fitted_latency_file), "--architecture", "transformer"]
    argv += ["--params", "1.4e9", "--prefill-lengths", "128", "--json"]
    seconds = {}
    for dtype in ([], ["--dtype", "bf16"], ["--dtype", "float32"], ["--dtype", "q4_0"]):
        assert main([*argv, *dtype]) == 0
        row = json.loads(capsys.readouterr().out)[0]
        seconds[row["dtype"]] = row["seconds_median"]
    # A step reads its weights, 16 or 32 bits each, or 4.5: less what it spends on other things.
    assert 1.4 < seconds["float32"] / seconds["16-bit"] < 2
    assert 4.5 / 16 < seconds["q4_0"] / seconds["16-bit"] < 0.7
    assert main([*argv, "--dtype", "posit"]) == 2
    assert "no dtype 'posit'" in capsys.readouterr().err


def test_predict_says_which_points_do_not_fit_the_memory(fitted_latency_file, capsys):
    argv = ["latency", "predict", str(fitted_latency_file), "--architecture", "transformer"]
    grid = ["--params", "3e8", "--prefill-lengths", "16384", "--batch-sizes", "1", "4096"]
    assert main([*argv, *grid, "--json"]) == 0
    captured = capsys.readouterr()
    one, many = json.loads(captured.out)
    assert one["probability_fits"] > 0.9
    assert many["probability_fits"] == 0.0
    assert "1 of 2 point(s) do not fit" in captured.err


def test_an_architecture_that_was_not_timed_is_refused(fitted_latency_file, capsys):
    argv = ["latency", "predict", str(fitted_latency_file), "--architecture", "mamba"]
    assert main([*argv, "--params", "3e8", "--prefill-lengths", "512"]) == 2
    assert "mamba" in capsys.readouterr().err


def test_frontier_joins_a_loss_and_a_latency_file(
    fitted_file, fitted_latency_file, tmp_path, capsys
):
    picture = tmp_path / "frontier.png"
    argv = ["latency", "frontier", str(fitted_file), str(fitted_latency_file)]
    options = ["--context-length", "4096", "--params", "2e8", "8e8", "--json"]
    assert main([*argv, *options, "--plot", str(picture)]) == 0
    assert picture.stat().st_size > 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["architecture"] for row in rows} == {"transformer", "xlstm"}
    assert all(row["loss_q5"] < row["loss_q95"] for row in rows)


def test_a_loss_posterior_in_place_of_a_latency_posterior_is_named(fitted_file, capsys):
    argv = ["latency", "frontier", str(fitted_file), str(fitted_file)]
    assert main([*argv, "--context-length", "4096"]) == 2
    assert "not a latency posterior" in capsys.readouterr().err


def test_cost_adds_hours_and_money_and_draws_them(
    fitted_file, fitted_latency_file, tmp_path, capsys
):
    picture = tmp_path / "cost.png"
    argv = ["latency", "cost", str(fitted_file), str(fitted_latency_file), "--served", "0", "1e12"]
    options = ["--target-loss", "2.8", "--context-length", "4096", "--architecture", "xlstm"]
    sizes = ["--params", "2e8", "4e8", "8e8", "--price-per-hour", "3", "--plot", str(picture)]
    assert main([*argv, *options, *sizes, "--json"]) == 0
    none, many = json.loads(capsys.readouterr().out)
    assert none["training_share_of_hours_median"] == 1.0
    assert many["device_hours_median"] > none["device_hours_median"]
    assert many["cost_median"] == pytest.approx(3 * many["device_hours_median"])
    assert picture.stat().st_size > 0


def test_cost_says_that_its_model_is_beyond_the_runs(fitted_file, fitted_latency_file, capsys):
    argv = ["latency", "cost", str(fitted_file), str(fitted_latency_file), "--served", "1e12"]
    options = ["--target-loss", "2.6", "--context-length", "4096", "--architecture", "transformer"]
    said = {}
    for size in ("1e8", "2e8"):
        assert main([*argv, *options, "--params", size]) == 0
        said[size] = capsys.readouterr().err
    assert "times the compute of the group's largest run" in said["1e8"]
    assert "the compute of the group's" not in said["2e8"]


def test_cost_of_a_loss_out_of_reach_is_said(fitted_file, fitted_latency_file, capsys):
    argv = ["latency", "cost", str(fitted_file), str(fitted_latency_file), "--served", "1e12"]
    options = ["--target-loss", "1.0", "--context-length", "65536", "--architecture", "xlstm"]
    assert main([*argv, *options, "--params", "2e8", "4e8", "--json"]) == 0
    captured = capsys.readouterr()
    row = json.loads(captured.out)[0]
    assert row["probability_reachable"] == 0.0
    assert row["loss_context_length"] < row["context_length"] == 65536
    assert "reaches a loss of 1 with more than even odds: xlstm" in captured.err


def test_crossover_is_of_contexts_or_of_batches(fitted_latency_file, tmp_path, capsys):
    picture = tmp_path / "crossover.png"
    argv = ["latency", "crossover", str(fitted_latency_file), "--params", "1.6e8", "--json"]
    both = ["--architecture", "transformer", "xlstm", "--plot", str(picture)]
    assert main([*argv, *both, "--batch-sizes", "8", "64"]) == 0
    rows = json.loads(capsys.readouterr().out)
    crosses = {(r["architecture"], r["batch_size"]): r["probability_crosses"] for r in rows}
    assert crosses["transformer", 8] == crosses["transformer", 64] == 1.0
    assert crosses["xlstm", 8] == crosses["xlstm", 64] == 0.0
    assert picture.stat().st_size > 0
    assert main([*argv, "--architecture", "xlstm", "--of", "batch"]) == 0
    assert "batch_size_median" in json.loads(capsys.readouterr().out)[0]


def test_largest_batch_falls_with_context_and_grows_with_memory(fitted_latency_file, capsys):
    argv = ["latency", "largest-batch", str(fitted_latency_file), "--architecture", "transformer"]
    grid = ["--params", "1.4e9", "--context-lengths", "2048", "16384", "--json"]
    found = {}
    for device in ([], ["--device", "h200"]):  # of 40 and 141 GB
        assert main([*argv, *grid, *device]) == 0
        rows = json.loads(capsys.readouterr().out)
        found[bool(device)] = [row["batch_size_median"] for row in rows]
    assert found[False][0] > found[False][1] > 0
    assert all(more > few for few, more in zip(found[False], found[True], strict=True))


def test_break_even_gives_a_context_for_each_batch(fitted_file, fitted_latency_file, capsys):
    argv = ["latency", "break-even", str(fitted_file), str(fitted_latency_file)]
    options = ["transformer", "xlstm", "--params", "4e8", "--batch-sizes", "1", "64"]
    assert main([*argv, *options, "--json"]) == 0
    few, many = json.loads(capsys.readouterr().out)
    assert (few["batch_size"], many["batch_size"]) == (1, 64)
    assert many["probability_breaks_even"] == 1.0
    # The xLSTM of equal loss is smaller, since its simulated loss is lower.
    assert many["b_params_median"] < 4e8
    assert main([*argv, *options, "--device", "abacus"]) == 2
    assert "no device 'abacus'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["crossover", "FIT", "--architecture", "mamba", "--params", "1e8"], "mamba"),
        (
            ["largest-batch", "FIT", "--architecture", "mamba", "--params", "1e8",
             "--context-lengths", "1"],
            "timed: transformer, xlstm",
        ),
        (["crossover", "FIT", "--architecture", "xlstm", "--params", "0"], "params"),
        (
            ["crossover", "FIT", "--architecture", "xlstm", "--params", "1e8", "--of", "batch",
             "--batch-sizes", "8"],
            "--batch-sizes says nothing of a crossover of batch",
        ),
        (
            ["crossover", "FIT", "--architecture", "xlstm", "--params", "1e8",
             "--quantity", "ttft"],
            "--quantity says nothing of a crossover of context",
        ),
        (["crossover", "FIT", "--architecture", "xlstm", "--params", "nan"], "params"),
        (
            ["crossover", "FIT", "--architecture", "xlstm", "--params", "1e8", "--plot", "a.txt"],
            "Use .png",
        ),
        (["predict", "no.nc", "--architecture", "xlstm", "--params", "1", "--prefill-lengths", "1"],
         "no.nc"),
        (["fit", "no.csv", "-o", "x.nc"], "no.csv"),
        (["fit", "no.csv", "-o", "x.nc", "--set", "n_layers"], "--set n_layers=32"),
        (["fit", "xlstm", "-o", "x.nc"], "table xlstm: holds runs"),
        (["fit", "xlstm", "-o", "x.nc", "--chains", "0"], "chains 0 (at least 1)"),
        (["fit", "xlstm", "-o", "pyproject.toml/x.nc"], "cannot be written"),
    ],
)  # fmt: skip
def test_bad_input_is_named_and_exits_with_2(fitted_latency_file, argv, says, capsys):
    argv = [str(fitted_latency_file) if part == "FIT" else part for part in argv]
    assert main(["latency", *argv]) == 2
    assert says in capsys.readouterr().err
