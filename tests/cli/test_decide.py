"""Commands that weigh a choice: JSON, notes on stderr, pictures, exit codes."""

import json
from dataclasses import replace

import pytest
import xarray as xr

from allometry.cli import main
from allometry.cli.asking import parse_group
from allometry.errors import InputError
from allometry.observations import TABLES
from allometry.observations.registry import locate

ONE = ("--architecture", "xlstm", "--context-length", "1024")


def answer(capsys, *arguments):
    code = main([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if code == 0 else None, captured.err


WRONG_NUMBERS = {
    "allocate": ["--flops", "-1"],
    "regret": ["--flops", "-1"],
    "lifetime": ["--served", "-1"],
    "repeat": ["--flops", "-1", "--unique-tokens", "1e9", "--published"],
    "design": ["--budget", "-1", "--decision", "size", "--at", "1e21"],
}


@pytest.mark.parametrize("command", WRONG_NUMBERS)
def test_shapes_of_an_architecture_without_any_are_refused_first(command, fitted, tmp_path, capsys):
    tree = fitted.idata.copy()
    draws = tree["posterior"].to_dataset()
    names = draws["architecture"].str.replace("xlstm", "mamba")
    tree["posterior"] = xr.DataTree(draws.assign_coords(architecture=names))
    path = replace(fitted, idata=tree).save(tmp_path / "fit.nc")
    wrong = WRONG_NUMBERS[command]
    assert main([command, str(path), *wrong, "--buildable"]) == 2
    assert "no shapes are known of architecture 'mamba'" in capsys.readouterr().err
    only = ["--architecture", "transformer"]
    if command == "design":  # whose runs may be of other groups than its question
        only = ["--candidates", "architecture=transformer"]
    some = [*only, "--buildable"]
    assert main([command, str(path), *wrong, *some]) == 2
    assert "no shapes" not in capsys.readouterr().err  # but the figure is wrong


def test_regret_prints_one_document_and_draws(fitted_file, tmp_path, capsys):
    picture = tmp_path / "regret.png"
    code, rows, _ = answer(
        capsys, "regret", fitted_file, "--flops", 1e20, *ONE, "--buildable", "--plot", picture
    )
    assert code == 0
    assert rows[0]["band_low_q5"] < rows[0]["params"] < rows[0]["band_high_q95"]
    assert rows[0]["unseen"] is False
    assert rows[0]["d_model"] > 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_unseen_context_is_said_on_stderr_and_in_the_document(fitted_file, capsys):
    code, rows, said = answer(
        capsys, "predict", fitted_file, "--params", 1e9, "--tokens", 2e10,
        "--group", "architecture=xlstm,context_length=2048",
    )  # fmt: skip
    assert code == 0
    assert rows[0]["unseen"] is True
    assert rows[0]["context_length"] == 2048
    assert said.count("note: xlstm/2048 was never run: predicted from the population") == 1


def test_a_misspelt_architecture_is_exit_two_with_the_known_ones(fitted_file, capsys):
    code, _, said = answer(
        capsys, "allocate", fitted_file, "--flops", 1e20, "--architecture", "xlstn"
    )
    assert code == 2
    assert "transformer, xlstm" in said
    assert "--unseen" in said


def test_break_even_lifetime_and_repeat_answer_in_json(fitted_file, tmp_path, capsys):
    code, rows, _ = answer(capsys, "break-even", fitted_file, "xlstm", "transformer")
    assert code == 0
    assert len(rows) == 2
    code, rows, _ = answer(
        capsys, "lifetime", fitted_file, "--served", 0, 1e12, "--target-loss", 2.6, *ONE,
        "--plot", tmp_path / "life.svg", "--buildable",
    )  # fmt: skip
    assert code == 0
    assert rows[0]["params_median"] > rows[1]["params_median"]
    assert (tmp_path / "life.svg").exists()
    repeat = ("repeat", fitted_file, "--unique-tokens", 1e9, "--flops", 1e20, *ONE)
    assert answer(capsys, *repeat)[0] == 2
    code, rows, said = answer(capsys, *repeat, "--published")
    assert code == 0
    assert rows[0]["repetition"] == "published"
    assert "Muennighoff" in said


def test_a_shape_of_sizes_that_are_given_is_refused_at_once(tmp_path, capsys):
    for given in (["--curve"], ["--params", "1e9"]):
        asked = ["regret", str(tmp_path / "no.nc"), "--flops", "1e20", "--buildable", *given]
        assert main(asked) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: --buildable: a shape is that of the size of least")
        assert given[0] in told.splitlines()[1]


def test_one_sentence_tells_of_all_rows_as_far_outside(fitted_file, capsys):
    asked = ("regret", fitted_file, "--flops", 1e24, 1.1e24, "--curve", *ONE)
    code, rows, _ = answer(capsys, *asked)
    assert code == 0
    assert len({row["reach"] for row in rows}) > 1
    assert main([*map(str, asked)]) == 0
    farthest = max(rows, key=lambda row: row["extrapolation_factor"])["reach"]
    assert capsys.readouterr().err.splitlines() == [farthest]


def test_a_demand_that_the_total_does_not_serve_is_said(fitted_file, capsys):
    asked = ("lifetime", fitted_file, "--served", 1e12, 1e30, "--total-flops", 1e22, *ONE)
    code, rows, said = answer(capsys, *asked)
    assert code == 0
    assert [row["probability_reachable"] for row in rows] == [1.0, 0.0]
    assert said.count("warning") == 1
    assert "xlstm/1024: to serve 1e+30 tokens costs more than 1e+22 FLOPs at every size" in said


def test_a_loss_out_of_reach_is_said(fitted_file, capsys):
    asked = ("lifetime", fitted_file, "--served", 0, "--target-loss")
    code, rows, said = answer(capsys, *asked, 0.4)
    assert code == 0
    assert {row["probability_reachable"] for row in rows} == {0.0}
    lines = [line for line in said.splitlines() if line.startswith("warning: no draw of ")]
    assert len(lines) == len(rows)
    assert "xlstm/1024 reaches a loss of 0.4: give a higher --target-loss" in said
    assert "reached" not in answer(capsys, *asked, 2.6)[2]


FAR = ("--flops", 1e25)


@pytest.mark.parametrize(
    "asked",
    [
        ("allocate", *FAR, *ONE),
        ("predict", "--params", 1e11, "--tokens", 1e14, *ONE),
        ("regret", *FAR, *ONE),
        ("regret", *FAR, *ONE, "--params", 1e11),
        ("compare", "xlstm", "transformer", *FAR, "--context-length", 1024),
        ("lifetime", "--served", 0, "--total-flops", 1e25, *ONE),
        ("repeat", "--unique-tokens", 1e12, "--published", *FAR, *ONE),
    ],
    ids=lambda asked: asked[0],
)
def test_every_answer_beyond_the_runs_says_how_far_and_what_that_means(fitted_file, capsys, asked):
    command, *options = asked
    code, rows, _ = answer(capsys, command, fitted_file, *options)
    assert code == 0
    assert rows[0]["extrapolation_factor"] > 1e3
    assert rows[0]["distance_outside"] > 0
    assert "times the compute of the group's largest run" in rows[0]["reach"]
    assert main([command, str(fitted_file), *map(str, options)]) == 0
    told = capsys.readouterr()
    assert rows[0]["reach"] in told.err
    assert rows[0]["reach"] not in told.out


def test_a_run_of_little_compute_far_from_the_others_is_told_to_be_so(fitted_file, capsys):
    aside = ("predict", fitted_file, "--params", 1e6, "--tokens", 1e12, *ONE)
    code, rows, _ = answer(capsys, *aside)
    assert code == 0
    assert rows[0]["extrapolation_factor"] < 1
    assert "decades from their params and tokens" in rows[0]["reach"]
    assert main([*map(str, aside)]) == 0
    assert rows[0]["reach"] in capsys.readouterr().err


def test_bad_requests_are_exit_two_before_anything_is_computed(tmp_path, capsys):
    nothing = tmp_path / "nothing.nc"
    assert answer(capsys, "regret", nothing, "--flops", 1e20, "--plot", "x.doc")[0] == 2
    code, _, said = answer(
        capsys, "break-even", nothing, "a", "b", "--flops", 1e20, "--context-length", 8
    )
    assert code == 2
    assert "a context and a search for one" in said


@pytest.mark.parametrize("text", ["", "xlstm", "architecture=", "=xlstm", "a=1,a=2", "a=1,,b=2"])
def test_groups_that_are_none_are_refused(text):
    with pytest.raises(InputError, match="not a group"):
        parse_group(text)


def test_a_group_is_names_and_whole_numbers():
    assert parse_group("architecture=xlstm, context_length=4096") == {
        "architecture": "xlstm",
        "context_length": 4096,
    }


@pytest.mark.slow  # 20 CPU seconds: a fit of 182 runs and two answers
def test_the_public_runs_with_repeated_data_say_how_often_to_repeat(tmp_path, capsys):
    if locate(TABLES["repetition"]) is None:
        pytest.skip("the table of runs with repeated data is not on this machine")
    fitted = tmp_path / "repetition.nc"
    fit = ["fit", "repetition", "--law", "repetition", "--method", "laplace", "-o", str(fitted)]
    assert main([*fit, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"] == ["transformer"]
    code, rows, _ = answer(capsys, "repeat", fitted, "--unique-tokens", 1e10, "--flops", 1e20, 1e22)
    assert code == 0
    few, many = rows
    assert few["repetition"] == "fitted"  # not the published discount
    # Muennighoff et al. 2023: up to 4 epochs cost next to nothing, 40 are worth little more.
    assert 1.0 < few["epochs_median"] < 5.0
    assert few["price_of_repeating_q95"] < 0.01 * few["loss_median"]
    assert many["epochs_median"] > 3 * few["epochs_median"]
    assert many["price_of_repeating_q5"] > few["price_of_repeating_q95"]
