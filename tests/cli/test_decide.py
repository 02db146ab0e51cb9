"""Commands that weigh a choice: JSON, notes on stderr, pictures, exit codes."""

import json

import pytest

from allometry.cli import main
from allometry.cli.asking import parse_group
from allometry.errors import InputError

ONE = ("--architecture", "xlstm", "--context-length", "1024")


def answer(capsys, *arguments):
    code = main([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if code == 0 else None, captured.err


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
