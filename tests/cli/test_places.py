"""Outputs, seeds, own laws and points of the command line: refused before any work, in one line."""

import pytest
from simulation import simulate_runs

from allometry.cli import main
from allometry.files import check_writable


@pytest.fixture
def runs(tmp_path):
    path = tmp_path / "runs.csv"
    simulate_runs(1).to_csv(path, index=False)
    return path


def complaint(capsys):
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.strip().splitlines()
    assert lines[0].startswith("error: ")
    assert "Traceback" not in said.err
    return " ".join(lines)


@pytest.fixture
def no_work(monkeypatch):
    import allometry.inference

    def refuse(*_args, **_options):
        raise AssertionError("work was begun")

    monkeypatch.setattr(allometry.inference, "fit", refuse)
    monkeypatch.setattr(allometry.inference, "fit_latency", refuse)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("command", [["fit"], ["latency", "fit"]])
def test_a_posterior_never_takes_the_place_of_a_table(command, runs, capsys):
    before = runs.read_bytes()
    assert main([*command, str(runs), "-o", str(runs)]) == 2
    assert "suffix .csv" in complaint(capsys)
    assert runs.read_bytes() == before


@pytest.mark.usefixtures("no_work")
def test_a_place_that_cannot_be_written_is_told_before_the_fit(runs, tmp_path, capsys):
    for place in (runs / "fit.nc", tmp_path / ".nc" / "fit.nc"):
        (tmp_path / ".nc").touch()
        assert main(["fit", str(runs), "-o", str(place)]) == 2
        assert f"{place}: cannot be written" in complaint(capsys)
    (tmp_path / "old.nc").mkdir()
    assert main(["fit", str(runs), "-o", str(tmp_path / "old.nc")]) == 2
    assert "is a folder" in complaint(capsys)


def test_the_question_whether_a_file_can_be_written_leaves_it_alone(tmp_path):
    path = tmp_path / "new" / "fit.nc"
    check_writable(path)
    assert list(tmp_path.iterdir()) == []
    path.parent.mkdir()
    path.write_text("old")
    check_writable(path)
    assert path.read_text() == "old"


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("seed", ["-1", "99999999999999999999"])
def test_a_seed_is_a_whole_number_of_32_bits(seed, runs, tmp_path, capsys):
    assert main(["fit", str(runs), "-o", str(tmp_path / "fit.nc"), "--seed", seed]) == 2
    assert "--seed" in complaint(capsys)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--prior-vague", "0.5"], "--prior-vague: says how to use the prior of another study"),
        (["--prior-vague", "3"], "--prior-vague"),
        (["--prior-vague", "nan", "--prior", "typical"], "--prior-vague"),
        (["--bytes-per-token", "-3"], "--bytes-per-token"),
        (["--bytes-per-token", "4", "--prior-level"], "--prior-level, --bytes-per-token: says"),
        (["--bytes-per-token", "inf", "--prior", "typical"], "--bytes-per-token"),
        (["--prior-parts", "noise"], "--prior-parts: says"),
    ],
)
def test_options_of_a_prior_ask_for_one_and_are_in_range(options, words, runs, tmp_path, capsys):
    assert main(["fit", str(runs), "-o", str(tmp_path / "fit.nc"), *options]) == 2
    assert words in complaint(capsys)


@pytest.mark.usefixtures("no_work")
def test_a_module_that_cannot_be_imported_is_one_line(runs, tmp_path, monkeypatch, capsys):
    fit = ["fit", str(runs), "-o", str(tmp_path / "fit.nc")]
    assert main([*fit, "--law-module", "no_such_module"]) == 2
    assert "--law-module: module 'no_such_module' cannot be imported" in complaint(capsys)
    (tmp_path / "half_a_law.py").write_text("def law(:\n")
    monkeypatch.chdir(tmp_path)
    assert main([*fit, "--law-module", "half_a_law"]) == 2
    assert "SyntaxError" in complaint(capsys)


def test_a_law_of_ones_own_can_be_named_for_every_command(
    fitted_file, tmp_path, monkeypatch, capsys
):
    (tmp_path / "my_own_law.py").write_text("print('registered')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLOMETRY_LAW_MODULES", "my_own_law")
    assert main(["summary", str(fitted_file)]) == 0
    assert capsys.readouterr().out.startswith("registered")
    monkeypatch.setenv("ALLOMETRY_LAW_MODULES", "not_there")
    assert main(["summary", str(fitted_file)]) == 2
    error = complaint(capsys)
    assert "ALLOMETRY_LAW_MODULES: module 'not_there' cannot be imported" in error


def test_points_are_read_as_runs_are(fitted_file, tmp_path, capsys):
    points = tmp_path / "points.csv"
    points.write_text("n_params,training_tokens\n100M,2e9\n")
    predict = ["predict", str(fitted_file)]
    assert main([*predict, "--at", str(points), "--context-length", "1024"]) == 0
    capsys.readouterr()
    points.write_text("params,tokens\n1e8,lots\n")
    assert main([*predict, "--at", str(points)]) == 2
    assert f"{points}: tokens is not a number, got 'lots' (row 0)" in complaint(capsys)
    for params in ("1e300", "1e-300"):
        assert main([*predict, "--params", params, "--tokens", "1e9"]) == 2
        complaint(capsys)
    assert main(["allocate", str(fitted_file), "--flops", "1e300"]) == 2
    assert "at most 1e+60" in complaint(capsys)
