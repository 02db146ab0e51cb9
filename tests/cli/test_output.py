"""What commands print says what it was given, and nothing to the terminal."""

import pandas as pd
import pytest

from allometry.cli import main
from allometry.cli.output import emit


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("llama[7b]", "llama[7b]"),
        ("[/x] :smile:", "[/x] :smile:"),
        ("\x1b[2J\u202eevil", r"\x1b[2J\u202eevil"),
        ("two\nlines", r"two\nlines"),
        ("größe", "größe"),
    ],
)
def test_a_table_shows_labels_as_they_are(capsys, label, shown):
    emit(pd.DataFrame({"architecture": [label], "loss": [2.5]}), as_json=False)
    assert capsys.readouterr().out.splitlines()[1].split("  ")[0].rstrip() == shown
    emit({"name": label}, as_json=False)
    assert capsys.readouterr().out.splitlines()[1].rstrip() == f"name   {shown}"


def test_a_refusal_shows_what_it_was_given_as_it_is(capsys):
    assert main(["prior", "show", "\x1b[2J.json"]) == 2
    assert capsys.readouterr().err.startswith("error: \\x1b[2J.json: no such file\nhint: ")


def test_a_long_cell_pads_no_other_line_and_a_list_of_sentences_has_a_line_for_each(capsys):
    sentences = ["a sentence that is longer than forty characters", "and one more"]
    emit({"law": "pnorm", "warnings": sentences, "groups": ["a", "b"]}, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "field     value",
        "law       pnorm",
        f"warnings  {sentences[0]}",
        f"          {sentences[1]}",
        "groups    a, b",
    ]


def test_nothing_is_shown_as_a_negative_zero(capsys):
    emit(pd.DataFrame({"saving": [-0.0, -0.5]}), as_json=False)
    assert capsys.readouterr().out.split() == ["saving", "0", "-0.5"]


def test_a_second_value_of_a_repeatable_option_is_refused_with_what_to_do(capsys):
    assert main(["data", "check", "runs.csv", "--alias", "a=params", "b=tokens"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: not understood: b=tokens\nhint: ")
    assert "again for each" in told


def test_an_unknown_option_is_told_before_a_required_one_that_is_missing(capsys):
    for option, told in (
        ("--budgets", "unknown option --budgets; "),
        ("--achitecture", "unknown option --achitecture (did you mean --architecture?); "),
    ):
        assert main(["allocate", "fit.nc", option, "1e22"]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: {told}")
        assert "--flops requires an argument" in said
    assert main(["allocate", "fit.nc"]) == 2
    assert "unknown" not in capsys.readouterr().err
