import json

import pytest

from allometry.accounting import (
    count_params,
    decode_bytes,
    preset,
    training_flops,
    training_flops_per_sequence,
)
from allometry.cli import main


def test_json_is_one_document_with_what_the_accounting_says(capsys):
    arguments = ["account", "xlstm-7b", "--context-length", "2048", "--batch-size", "4"]
    assert main([*arguments, "--tokens", "1e12", "--json"]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    shape = preset("xlstm-7b")
    assert answer["params"] == count_params(shape).total
    assert sum(answer["params_terms"].values()) == answer["params"]
    assert answer["training_flops_per_sequence"] == training_flops_per_sequence(shape, 2048).total
    assert answer["flops"] == training_flops(shape, context_length=2048, tokens=1e12)
    moved = decode_bytes(shape, 2048, batch_size=4)
    assert answer["decode_bytes"] == moved.total
    assert answer["decode_bytes_terms"]["cache_read"] == moved.cache_read
    assert captured.err == ""


def test_a_size_takes_a_shape_of_the_family(capsys):
    arguments = ["account", "--params", "1e6", "--architecture", "transformer"]
    assert main([*arguments, "--vocab-size", "256", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["family"] == "small"
    assert answer["shape"]["vocab_size"] == 256
    assert abs(answer["params"] / 1e6 - 1) < 0.1


def test_an_extrapolated_size_says_so_on_stderr(capsys):
    arguments = ["account", "--params", "7e10", "--architecture", "xlstm", "--json"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["extrapolated"] is True
    assert "extrapolate the study family" in captured.err


def test_the_table_shows_counts_in_full(capsys):
    assert main(["account", "transformer-160m"]) == 0
    assert "162,220,800" in capsys.readouterr().out


def test_list_names_every_preset(capsys):
    assert main(["account", "--list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"name": "xlstm-tiny", "params": 235_984}.items() <= rows[1].items()
    assert len(rows) > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give the name of a shape, or --params and --architecture"),
        (["xlstm-7b", "--params", "1e9"], "give the name of a shape, or"),
        (["xlstm-7b", "--architecture", "xlstm"], "do not go with a name"),
        (["--params", "1e9"], "--params needs --architecture"),
        (["--params", "1e9", "--architecture", "gru"], "architecture must be one of"),
        (["xlstm-6b"], "no preset named 'xlstm-6b'"),
        (["xlstm-7b", "--context-length", "0"], "context_length must be at least 1"),
    ],
)
def test_impossible_questions_end_with_2_and_say_why(capsys, arguments, message):
    assert main(["account", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
