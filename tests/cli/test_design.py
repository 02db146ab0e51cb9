"""The design command: its document, its sentence, its picture, and what it refuses."""

import json
from dataclasses import replace

from allometry.cli import main

ONE = ("--architecture", "xlstm", "--context-length", "1024")
SIZE = ("--decision", "size", "--at", "1e21")
CONTRACT = ["rank", "architecture", "context_length", "params", "tokens", "flops", "gain"]


def answer(capsys, *arguments):
    code = main(["design", *map(str, arguments), "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if captured.out else None, captured.err


def test_a_design_is_one_document_one_sentence_and_a_picture(fitted_file, tmp_path, capsys):
    picture = tmp_path / "design.png"
    code, rows, said = answer(
        capsys, fitted_file, "--budget", 1e20, *SIZE, *ONE, "--buildable", "--plot", picture
    )
    assert code == 0
    assert set(CONTRACT) | {"cumulative_flops"} <= set(rows[0])
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[-1]["cumulative_flops"] <= 1e20
    # The family's sizes lie within a few percent of each other.
    assert all(0.9 < row["buildable_params"] / row["params"] < 1.1 for row in rows)
    assert "log N* of xlstm/1024 at 1e21 FLOPs: sd " in said
    assert "expected regret" in said
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_candidates_are_of_the_groups_that_are_named(fitted_file, capsys):
    code, rows, _ = answer(
        capsys, fitted_file, "--budget", 1e20, "--decision", "winner", "--at", 1e21,
        "--between", "xlstm", "transformer", "--context-length", 4096,
        "--candidates", "architecture=xlstm", "--runs", 1,
    )  # fmt: skip
    assert code == 0
    assert [row["architecture"] for row in rows] == ["xlstm"]


def test_a_table_of_candidates_is_chosen_from(fitted_file, tmp_path, capsys):
    table = tmp_path / "planned.csv"
    table.write_text("architecture,context_length,params,tokens\nxlstm,1024,1e9,2e10\n")
    asked = (fitted_file, "--decision", "loss", "--at", 1e21, *ONE, "--candidates", table)
    code, rows, _ = answer(capsys, *asked, "--budget", 1e21)
    assert code == 0
    assert [(row["params"], row["tokens"]) for row in rows] == [(1e9, 2e10)]
    code, _, said = answer(capsys, *asked, "--budget", 1e19)
    assert code == 2
    assert "budget: 1e+19 FLOPs buy no run of the table: the cheapest costs" in said


def test_no_run_worth_its_cost_is_an_empty_answer_and_exit_one(fitted_file, tmp_path, capsys):
    picture = tmp_path / "none.png"
    code, rows, said = answer(
        capsys, fitted_file, "--budget", 2e18, *SIZE, *ONE, "--least-gain", 0.9, "--plot", picture
    )
    assert code == 1
    assert rows == []
    assert "no run within the budget takes 0.9 of its variance" in said
    assert not picture.exists()


def test_bad_requests_are_one_line_and_exit_two(fitted_file, capsys):
    code, _, said = answer(capsys, fitted_file, "--budget", 1e12, *SIZE, *ONE)
    assert code == 2
    assert said.startswith("error: budget: 1e+12 FLOPs buy no run")
    code, _, said = answer(capsys, fitted_file, "--budget", 1e20, "--decision", "shape", *ONE)
    assert code == 2
    assert "size" in said
    assert answer(capsys, fitted_file, "--budget", 1e20, "--decision", "size", *ONE)[0] == 2
    assert answer(capsys, fitted_file, *SIZE, *ONE)[0] == 2
    for text in ("nothing.csv", "architecture="):
        asked = (fitted_file, "--budget", 1e20, *SIZE, *ONE, "--candidates", text)
        code, _, said = answer(capsys, *asked)
        assert code == 2
        assert text in said


def test_one_architecture_has_no_winner(fitted, tmp_path, capsys):
    same = fitted.idata.copy()
    same["posterior"] = (
        same["posterior"].to_dataset().assign_coords(architecture=("group", ["xlstm"] * 4))
    )
    path = replace(fitted, idata=same).save(tmp_path / "one.nc")
    code, _, said = answer(capsys, path, "--budget", 1e20, "--decision", "winner", "--at", 1e21)
    assert code == 2
    assert "decision winner: needs two to compare; the posterior has xlstm" in said


def test_a_fit_that_did_not_converge_is_exit_one_until_forced(fitted, tmp_path, capsys):
    verdict = replace(fitted.record.convergence, converged=False, reasons=("R-hat 1.2",))
    doubtful = replace(fitted, record=replace(fitted.record, convergence=verdict))
    path = doubtful.save(tmp_path / "doubtful.nc")
    asked = (path, "--budget", 1e20, *SIZE, *ONE)
    assert answer(capsys, *asked)[0] == 1
    assert answer(capsys, *asked, "--force")[0] == 0
