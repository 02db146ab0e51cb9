import json

import pandas as pd
import pytest

from allometry.cli import main
from allometry.observations import TABLES, find_table, read_runs


def answer(capsys, *arguments: str) -> object:
    """Run a command that must succeed; its JSON, with nothing else on stdout."""
    assert main(["data", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def runs_csv(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(
        "name,N,D,eval/loss,ctx,arch\n"
        "a,125M,2.5B,3.4,2k,gpt\nb,350M,7B,3.05,2k,gpt\nc,760M,15B,9.9,2k,gpt\n"
    )
    return path


def test_list_names_every_table(capsys):
    rows = answer(capsys, "list")
    assert {row["name"] for row in rows} == set(TABLES)
    assert all(row["licence"] and row["citation"] and len(row["sha256"]) == 64 for row in rows)
    assert main(["data", "list"]) == 0
    printed = capsys.readouterr().out
    for entry in TABLES.values():  # nothing is cut where stdout is no terminal
        assert entry.description in printed


def test_check_reports_what_was_found(capsys, runs_csv):
    found = answer(capsys, "check", str(runs_csv), "--exclude", "loss > 7")
    assert found["runs"] == 2
    assert found["mapped"]["eval/loss"] == "loss"
    assert found["excluded"] == [{"row": 2, "run_id": "c", "reason": "loss > 7"}]
    assert found["groups"][0]["params_high"] == 350e6
    assert any("no column flops" in warning for warning in found["warnings"])


def test_check_without_json_says_the_same(capsys, runs_csv):
    assert main(["data", "check", str(runs_csv), "--exclude", "loss > 7"]) == 0
    printed = capsys.readouterr().out
    assert "excluded: row 2 (c): loss > 7" in printed
    assert "warning: no column flops" in printed


def test_check_takes_aliases_and_groups(capsys, runs_csv):
    aliases = ["--alias", "name=corpus", "--alias", "ctx=window"]
    found = answer(capsys, "check", str(runs_csv), *aliases, "--by", "arch", "--by", "corpus")
    groups = [(group["architecture"], group["corpus"], group["runs"]) for group in found["groups"]]
    assert groups == [("gpt", "a", 1), ("gpt", "b", 1), ("gpt", "c", 1)]
    assert "window" in found["columns"]


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["check", "nope"], "nope: no such file and no registered table", "xlstm"),
        (["check", "{runs}", "--exclude", "loss.x > 1"], "attribute is not allowed", "loss > 7"),
        (["check", "{runs}", "--alias", "loss"], "'loss' is not COLUMN=NAME", "eval/loss=loss"),
        (["check", "{runs}", "--by", "corpus"], "no column corpus", ""),
        (["path", "nope"], "no registered table 'nope'", "data list"),
        (["fetch", "nope"], "no registered table 'nope'", "data list"),
        (["import", "{runs}", "-o", "out.xlsx"], "cannot write .xlsx", ".parquet"),
        (["import", "{runs}"], "parameter -o requires an argument", "--help"),
    ],
)
def test_bad_input_is_code_2_and_one_line_on_stderr(arguments, message, hint, capsys, runs_csv):
    filled = [part.format(runs=runs_csv) for part in arguments]
    assert main(["data", *filled]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert hint in captured.err


def test_a_broken_table_names_all_rules(capsys, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("params,tokens,loss\n1e8,1e9,-3\nx,1e9,3\n")
    assert main(["data", "check", str(path), "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "params is not a number, got 'x' (row 1)" in captured.err
    assert "loss must be positive and finite, got -3 (row 0)" in captured.err


def test_import_writes_a_runs_table(capsys, runs_csv, tmp_path):
    output = tmp_path / "new" / "runs.parquet"
    done = answer(capsys, "import", str(runs_csv), "-o", str(output), "--exclude", "loss > 7")
    assert done["runs_table"] == str(output)
    written = pd.read_parquet(output)
    assert written["params"].tolist() == [125e6, 350e6]
    pd.testing.assert_frame_equal(read_runs(output).table, read_runs(written).table)


def test_a_failed_import_writes_nothing(capsys, tmp_path):
    (tmp_path / "bad.csv").write_text("params,tokens,loss\n1e8,1e9,-3\n")
    output = tmp_path / "out.csv"
    assert main(["data", "import", str(tmp_path / "bad.csv"), "-o", str(output)]) == 2
    assert not output.exists()


def test_path_and_fetch_print_where_a_table_lies(capsys):
    if find_table("synthetic") is None:
        pytest.skip("the synthetic table comes with a checkout only")
    where = answer(capsys, "path", "synthetic")["path"]
    assert where.endswith("runs.csv")
    assert answer(capsys, "fetch", "synthetic")["path"] == where


def test_fetch_of_a_derived_table_says_how_to_make_it(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ALLOMETRY_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert main(["data", "fetch", "overtraining"]) == 2
    error = capsys.readouterr().err
    assert "git clone https://github.com/mlfoundations/scaling" in error
    assert "--format open-lm" in error


@pytest.mark.parametrize("command", ["list", "fetch", "path", "import", "check"])
def test_help_says_what_a_command_does(command, capsys):
    assert main(["data", command, "--help"]) == 0
    assert f"allometry data {command}" in capsys.readouterr().out
