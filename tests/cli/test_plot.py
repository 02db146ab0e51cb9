"""``allometry plot``: files by suffix, exit codes, one JSON document."""

import json

import pytest

from allometry.cli import main


@pytest.mark.parametrize(
    ("suffix", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")]
)
def test_plot_writes_the_format_of_the_suffix(fitted_file, tmp_path, capsys, suffix, magic):
    out = tmp_path / "new" / f"prior.{suffix}"
    assert main(["plot", str(fitted_file), "prior", "-o", str(out), "--json"]) == 0
    assert out.read_bytes().startswith(magic)
    assert json.loads(capsys.readouterr().out) == {"kind": "prior", "output": str(out)}
    assert [p.name for p in out.parent.iterdir()] == [out.name]


def test_an_unknown_kind_is_answered_with_the_known(fitted_file, tmp_path, capsys):
    assert main(["plot", str(fitted_file), "pie", "-o", str(tmp_path / "a.png")]) == 2
    error = capsys.readouterr().err
    assert "'pie'" in error
    assert "probability" in error


def test_an_unknown_suffix_is_refused_before_anything_is_read(tmp_path, capsys):
    assert main(["plot", "nothing.nc", "prior", "-o", str(tmp_path / "a.bmp")]) == 2
    assert ".png, .pdf, .svg" in capsys.readouterr().err


def test_help_names_every_kind(capsys):
    from allometry.plots import KINDS

    main(["plot", "--help"])
    text = capsys.readouterr().out
    assert [kind for kind in KINDS if kind not in text] == []
