"""Every command answers --help and has its place in the docs."""

from importlib import import_module
from pathlib import Path

import pytest

from allometry.cli import COMMANDS, SUBCOMMANDS, main

DOCS = Path(__file__).parent.parent.parent / "docs" / "commands.md"
NAMES = [(name,) for name, *_ in COMMANDS] + [
    (name, member) for name, _, _, members in SUBCOMMANDS for member, *_ in members
]

TARGETS = {(name,): target for name, target, *_ in COMMANDS} | {
    (name, member): target for name, _, _, members in SUBCOMMANDS for member, target, _ in members
}
LINES = [((name,), words) for name, _, _, words in COMMANDS] + [
    ((name, member), words) for name, _, _, members in SUBCOMMANDS for member, _, words in members
]


@pytest.mark.parametrize("name", NAMES, ids=" ".join)
def test_a_command_answers_help_with_its_own_words(name, capsys):
    assert main([*name, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Usage: allometry " + " ".join(name) in text
    assert "--" in text
    module, function = TARGETS[name].split(":")
    docstring = getattr(import_module(f"allometry.cli.{module}"), function).__doc__
    summary = docstring.split("\n\n")[0].replace("`", "")  # names are shown without marks
    assert " ".join(summary.split()) in " ".join(text.split())


def test_the_list_of_commands_imports_none_of_them():
    import subprocess
    import sys

    program = (
        "import sys; from allometry.cli import main; main(['--help']);"
        "print({m for m in sys.modules if m.startswith('allometry.cli.')})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"
    assert all(words in " ".join(done.stdout.split()) for name, words in LINES if len(name) == 1)


@pytest.mark.parametrize("name", NAMES, ids=" ".join)
def test_a_command_has_its_row_in_the_docs(name):
    assert f"`allometry {' '.join(name)}" in DOCS.read_text(encoding="utf-8")


def test_the_docs_name_no_command_that_is_not_there():
    import re

    text = DOCS.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `allometry ([a-z-]+)(?: ([a-z-]+))?", text, flags=re.M)
    known = {" ".join(name) for name in NAMES}
    assert [row for row in rows if not {row[0], " ".join(row).strip()} & known] == []
