"""``allometry report``: the page, its JSON, and one clear line for what cannot be done."""

import json
import re

import pytest

from allometry.cli import main
from allometry.inference import Posterior


@pytest.fixture(scope="module")
def small_file(fitted, tmp_path_factory):
    return fitted.thinned(100).save(tmp_path_factory.mktemp("small") / "fit.nc")


def test_the_page_holds_what_the_commands_answer(small_file, tmp_path, capsys):
    out = tmp_path / "new" / "page.html"
    assert main(["report", str(small_file), "-o", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    html = out.read_text(encoding="utf-8")
    assert answer["output"] == str(out)
    assert answer["bytes"] == out.stat().st_size
    assert answer["groups"] == 4
    assert answer["left_out"] == []
    assert [p.name for p in out.parent.iterdir()] == ["page.html"]

    nodes = json.loads(re.search(r'id="nodes">(.*?)</script>', html).group(1))
    assert nodes["flops"] == answer["budgets"]
    budgets = [repr(f) for f in answer["budgets"]]
    assert main(["allocate", str(small_file), "--flops", *budgets, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    for g, group in enumerate(nodes["groups"]):
        own = rows[g * len(budgets) : (g + 1) * len(budgets)]
        assert group["labels"] == [str(own[0][name]) for name in nodes["columns"]]
        for name in ("params_median", "tokens_q5", "loss_q95", "run_loss_q25"):
            assert group["values"][name] == [row[name] for row in own]
    assert main(["compare", str(small_file), "xlstm", "transformer", "--flops", *budgets,
                 "--context-length", "1024", "--json"]) == 0  # fmt: skip
    compared = [row["probability_a_better"] for row in json.loads(capsys.readouterr().out)]
    (xlstm,) = (g for g in nodes["groups"] if g["labels"] == ["xlstm", "1024"])
    assert xlstm["best"] == compared


def test_what_cannot_be_read_or_written_is_one_line(fitted_file, tmp_path, capsys):
    foreign, file = tmp_path / "foreign.nc", tmp_path / "file"
    foreign.write_text("not NetCDF")
    file.write_text("")
    for posterior, out, words in (
        (tmp_path / "no.nc", tmp_path / "a.html", "no.nc"),
        (foreign, tmp_path / "a.html", "foreign.nc"),
        (fitted_file, tmp_path / "a.pdf", "suffix .pdf"),
        (fitted_file, tmp_path, "suffix none"),
        (fitted_file, file / "a.html", "cannot be written"),
    ):
        assert main(["report", str(posterior), "-o", str(out)]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert words in error[0]
        assert error[0].startswith("error: ")
        assert len(error) <= 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "foreign.nc"]


def test_a_fit_that_did_not_converge_needs_force(small_file, tmp_path, capsys):
    from dataclasses import replace

    loaded = Posterior.load(small_file)
    verdict = replace(loaded.record.convergence, converged=False, reasons=("12 divergences",))
    doubtful = replace(loaded, record=replace(loaded.record, convergence=verdict))
    file, out = doubtful.save(tmp_path / "fit.nc"), tmp_path / "a.html"
    assert main(["report", str(file), "-o", str(out)]) == 1
    assert "12 divergences" in capsys.readouterr().err
    assert not out.exists()
