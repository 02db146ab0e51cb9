"""A posterior becomes a prior file, on the command line too, and a fit begins with it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from simulation import simulate_runs

from allometry.cli import main
from allometry.errors import InputError
from allometry.inference import Posterior, Sampler, fit
from allometry.inference.fitted_range import FittedRange
from allometry.priors import as_prior, library_names, library_prior, overlay_table, read_prior
from allometry.priors.export import discounted, of_prior, quantity_draws

TWO = {("transformer", 1024): (1.90, 0.29, 0.36, 0.50)}


@pytest.fixture(scope="module")
def study():
    return fit(simulate_runs(2, groups=TWO), sampler=Sampler(method="laplace", starts=1, draws=500))


@pytest.fixture(scope="module")
def study_file(study, tmp_path_factory):
    return study.save(tmp_path_factory.mktemp("study") / "fit.nc")


def test_the_file_of_the_groups_has_the_posteriors_moments(study):
    file = as_prior(study, kind="groups")
    draws, quantities, labels = quantity_draws(study, "groups")
    assert file.quantities == quantities
    assert file.groups == labels == ({"architecture": "transformer", "context_length": 1024},)
    sd = draws.std(axis=0)
    # A Student-t weighs tails down in its mean, and gives them their share in its covariance: where
    # draws are skewed, both differ from the draws' moments by what its quantiles do.
    limit = 0.05 + file.goodness["max_quantile_error_sd"]
    assert limit < 0.4
    assert (np.abs(file.mixture.mean - draws.mean(axis=0)) < limit * sd).all()
    assert (np.abs(np.sqrt(np.diag(file.mixture.covariance)) / sd - 1.0) < limit).all()
    assert file.worth_runs > 8.0


def test_a_new_group_is_less_certain_than_the_one_that_was_run(study):
    own, new = as_prior(study, kind="groups"), as_prior(study)
    # All but the level and the common off-valley noise: groups differ in each.
    wider = np.diag(new.mixture.covariance) / np.diag(own.mixture.covariance)
    assert (wider[:7] > 1.0).all()
    assert new.worth_runs < own.worth_runs


def test_who_goes_on_with_a_study_has_the_range_of_the_law_that_it_imported(study):
    assert as_prior(study).fitted_over == as_prior(study, kind="groups").fitted_over == ()
    other = FittedRange(weight=0.9, cells=((20.0, 1.0, 3.0),))
    began = replace(study, record=replace(study.record, fitted_ranges=(other,)))
    assert as_prior(began, kind="groups").fitted_over == other.cells
    assert as_prior(began).fitted_over == ()
    doubted = replace(other, weight=0.3)
    began = replace(study, record=replace(study.record, fitted_ranges=(doubted,)))
    assert as_prior(began, kind="groups").fitted_over == ()


def test_a_discount_lies_between_the_posterior_and_the_prior_it_began_with(study):
    before, _, _ = quantity_draws(of_prior(study), "groups")
    full = as_prior(study, kind="groups").mixture
    spreads = [
        np.linalg.slogdet(discounted(full, before, a).covariance)[1] for a in (1.0, 0.5, 0.1)
    ]
    assert spreads[0] < spreads[1] < spreads[2] < np.linalg.slogdet(np.cov(before.T))[1]
    # A power of one changes nothing, up to the rounding of an eigendecomposition.
    same = discounted(full, before, 1.0)
    unit = np.sqrt(np.diag(full.covariance))
    assert (np.abs(same.covariance - full.covariance) < 1e-6 * np.outer(unit, unit)).all()
    assert as_prior(study, kind="groups", discount=0.5).discount == 0.5


def test_a_new_groups_context_is_a_whole_number_as_those_of_groups_are(study):
    labels = quantity_draws(study, "new-group", context_length=2048.0)[2]
    assert repr(labels) == "({'context_length': 2048},)"


@pytest.mark.parametrize(
    "wrong",
    [{"discount": 0.0}, {"discount": 1.5}, {"kind": "all"}, {"context_length": -1.0},
     {"kind": "groups", "architecture": "mamba"}],
)  # fmt: skip
def test_an_export_out_of_range_is_refused(study, wrong):
    with pytest.raises(InputError):
        as_prior(study, **wrong)


def test_the_overlay_has_the_mass_of_both(study):
    file = as_prior(study)
    table = overlay_table(study, file)
    assert set(table["quantity"]) == {q.name for q in file.quantities}
    for _, part in table.groupby("quantity"):
        step = np.diff(part["value"]).mean()
        # Between the .1 and 99.9 % points of the draws; the mixture may have a little outside.
        assert part["draws"].sum() * step == pytest.approx(0.998, abs=0.002)
        assert 0.9 < part["mixture"].sum() * step < 1.02


def test_nothing_is_exported_beside_a_picture_that_cannot_be_drawn(study_file, tmp_path, capsys):
    prior = tmp_path / "p.json"
    assert main(["prior", "export", str(study_file), "-o", str(prior), "--plot", "p.xyz"]) == 2
    assert "p.xyz" in capsys.readouterr().err
    assert not prior.exists()


def test_a_prior_is_written_as_json_alone(study_file, tmp_path, capsys):
    prior = tmp_path / "p.txt"
    assert main(["prior", "export", str(study_file), "-o", str(prior)]) == 2
    said = capsys.readouterr().err
    assert "p.txt: suffix .txt" in said
    assert "Use .json" in said
    assert not prior.exists()


def test_the_command_line_exports_shows_and_fits_with_a_prior(study_file, tmp_path, capsys):
    prior, picture, fitted = tmp_path / "p.json", tmp_path / "p.png", tmp_path / "new.nc"
    assert main(["prior", "export", str(study_file), "-o", str(prior), "--kind", "groups",
                 "--plot", str(picture), "--json"]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out) == json.loads(prior.read_text())
    assert picture.stat().st_size > 10_000
    assert main(["prior", "show", str(prior)]) == 0
    assert "slope_params" in capsys.readouterr().out
    few = simulate_runs(5, groups=TWO).iloc[::2]
    few.to_csv(tmp_path / "few.csv", index=False)
    command = ["fit", str(tmp_path / "few.csv"), "-o", str(fitted), "--method", "laplace"]
    assert main([*command, "--prior", str(prior), "--prior-vague", "0.1", "--json"]) == 0
    (outcome,) = json.loads(capsys.readouterr().out)["imported"]
    assert outcome["prior_weights"] == pytest.approx([0.1, 0.9])
    assert outcome["posterior_weights"][0] < 0.01  # the same law drew both
    assert Posterior.load(fitted).record.imported[0].words == outcome["words"]


@pytest.mark.parametrize("name", ["nothing", "nothing.json"])
def test_a_prior_that_is_not_there_is_one_line_and_exit_code_2(name, tmp_path, capsys):
    assert main(["prior", "show", name]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("error: ")
    assert len(lines) == 2


def test_every_bundled_prior_reads_and_says_where_it_comes_from(capsys):
    assert "typical" in library_names()
    for name in library_names():
        file = library_prior(name)
        assert file.name == name
        assert file.provenance["papers"]
        assert file.provenance["licences"]
    assert main(["prior", "list", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(library_names())


def test_a_file_saved_is_the_file_read(study, tmp_path):
    file = as_prior(study)
    assert read_prior(file.save(tmp_path / "p.json")).to_document() == file.to_document()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--bytes-per-token", "-1"], "--bytes-per-token"),
        (["--discount", "0"], "--discount"),
        (["--name", "a*b"], "name must be 1 to 100 letters"),
        (["--tokenizer", "x" * 30_000], "30000 characters"),
    ],
    ids=lambda part: part[0] if isinstance(part, list) else "",
)
def test_no_prior_is_exported_that_nobody_could_read(wrong, told, study_file, tmp_path, capsys):
    prior = tmp_path / "p.json"
    assert main(["prior", "export", str(study_file), "-o", str(prior), *wrong]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said
    assert not prior.exists()


def test_an_architecture_that_was_never_run_is_told(study_file, tmp_path, capsys):
    asked = ["prior", "export", str(study_file), "-o", str(tmp_path / "p.json"), "--architecture"]
    assert main([*asked, "mamba"]) == 0
    told = capsys.readouterr().err
    assert "note: mamba was never run: a group of it is predicted from " in told
    known = told.split("predicted from ")[1].split(",")[0].strip()
    assert main([*asked, known]) == 0
    assert "never run" not in capsys.readouterr().err
