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
