"""``allometry latency``: fit, predict and frontier, by exit code and JSON document."""

import json

import pytest
from latency_simulation import simulate_latency

from allometry.cli import main


@pytest.fixture
def timings_file(tmp_path):
    path = tmp_path / "timings.csv"
    simulate_latency(1).drop(columns="exact").assign(device="h100-sxm").to_csv(path, index=False)
    return path


def test_fit_writes_a_posterior_and_names_the_data_sheet(timings_file, tmp_path, capsys):
    out = tmp_path / "fit.nc"
    argv = ["latency", "fit", str(timings_file), "-o", str(out)]
    options = ["--law", "roofline", "--draws", "100", "--json"]
    assert main([*argv, *options]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["device"] == "h100-sxm"
    assert document["architectures"] == ["transformer", "xlstm"]
    shares = [row["share_of_peak"] for row in document["coefficients"]]
    assert all(0 < share < 1 for share in shares if share is not None)
    assert out.exists()


def test_predict_gives_one_row_a_combination(fitted_latency_file, capsys):
    argv = ["latency", "predict", str(fitted_latency_file), "--architecture", "transformer"]
    grid = ["xlstm", "--params", "3e8", "--prefill-lengths", "512", "16384", "--json"]
    assert main([*argv, *grid]) == 0
    rows = json.loads(capsys.readouterr().out)
    seconds = {(r["architecture"], r["prefill_length"]): r["seconds_median"] for r in rows}
    assert len(rows) == 4
    assert seconds["xlstm", 512] == pytest.approx(seconds["xlstm", 16384], rel=1e-9)
    assert seconds["transformer", 512] < seconds["transformer", 16384]


def test_an_architecture_that_was_not_timed_is_refused(fitted_latency_file, capsys):
    argv = ["latency", "predict", str(fitted_latency_file), "--architecture", "mamba"]
    assert main([*argv, "--params", "3e8", "--prefill-lengths", "512"]) == 2
    assert "mamba" in capsys.readouterr().err


def test_frontier_joins_a_loss_and_a_latency_file(fitted_file, fitted_latency_file, capsys):
    argv = ["latency", "frontier", str(fitted_file), str(fitted_latency_file)]
    options = ["--context-length", "4096", "--params", "2e8", "8e8", "--json"]
    assert main([*argv, *options]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["architecture"] for row in rows} == {"transformer", "xlstm"}
    assert all(row["loss_q5"] < row["loss_q95"] for row in rows)


def test_a_loss_posterior_in_place_of_a_latency_posterior_is_named(fitted_file, capsys):
    argv = ["latency", "frontier", str(fitted_file), str(fitted_file)]
    assert main([*argv, "--context-length", "4096"]) == 2
    assert "not a latency posterior" in capsys.readouterr().err
