"""The posterior file: read back whole, by ArviZ alone, and never half-written or foreign."""

import json
import re
from dataclasses import replace

import arviz_base
import numpy as np
import pytest
import xarray as xr

from allometry.errors import InputError
from allometry.inference import Posterior


def test_a_posterior_reads_back_as_it_was_written(fitted, fitted_file):
    loaded = Posterior.load(fitted_file)
    assert loaded.record == fitted.record
    assert (loaded.draws("theta") == fitted.draws("theta")).all()
    assert loaded.groups.equals(fitted.groups)
    assert loaded.allocate([1e21]).equals(fitted.allocate([1e21]))


def test_arviz_reads_the_file_without_this_package(fitted, fitted_file):
    read = getattr(arviz_base, "from_netcdf", None) or xr.open_datatree  # arviz-base 0.8 has none
    tree = read(fitted_file)
    assert np.allclose(tree["posterior"]["E"], fitted.idata["posterior"]["E"])
    assert {"architecture", "context_length", "group"} <= set(tree["posterior"].coords)
    assert "run" in tree["log_likelihood"].coords


def test_a_missing_foreign_or_damaged_file_is_one_clear_error(fitted_file, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        Posterior.load(tmp_path / "nothing.nc")
    text = tmp_path / "text.nc"
    text.write_text("not a posterior")
    with pytest.raises(InputError, match="not a NetCDF file"):
        Posterior.load(text)
    cut = tmp_path / "cut.nc"
    cut.write_bytes(fitted_file.read_bytes()[:20_000])
    with pytest.raises(InputError, match="not a NetCDF file"):
        Posterior.load(cut)
    foreign = tmp_path / "foreign.nc"
    arviz_base.from_dict({"posterior": {"x": np.zeros((2, 3))}}).to_netcdf(foreign)
    with pytest.raises(InputError, match="not a posterior of allometry"):
        Posterior.load(foreign)


def _without(name):
    return lambda tree: tree.drop_vars(name)


@pytest.mark.parametrize(
    ("group", "change", "message"),
    [
        ("posterior", _without("theta"), "posterior lacks theta"),
        ("posterior", _without("drift"), "posterior lacks drift"),
        ("posterior", _without("alpha"), "posterior lacks alpha"),
        ("posterior", lambda d: d.assign(E=d["E"] * np.nan), "E of posterior: draws that are no"),
        ("posterior", lambda d: d.assign(A=-d["A"]), "not those that were written: posterior/A$"),
        ("prior", _without("E"), "prior/E missing"),
        ("posterior", _without("context_length"), "posterior lacks group columns context_length"),
        ("posterior", lambda d: d.assign(theta=d["theta"] * np.nan), "draws that are not finite"),
        ("posterior", lambda d: d.isel(coefficient=slice(3)), "law pnorm has log_E"),
        ("constant_data", _without("params"), "constant_data lacks params"),
        ("constant_data", lambda d: d.assign(group_index=d["group_index"] + 9), "not within the"),
        ("constant_data", lambda d: d.isel(run=slice(5)), "hold different runs"),
    ],
)
def test_a_file_that_lost_a_part_is_refused_when_it_is_read(
    group, change, message, fitted, fitted_file, tmp_path
):
    tree = xr.open_datatree(fitted_file, engine="h5netcdf").load()
    tree[group] = xr.DataTree(change(tree[group].to_dataset()))
    path = tmp_path / "changed.nc"
    tree.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(InputError) as error:
        Posterior.load(path)
    assert re.search(message, error.value.what)
    assert str(path) in str(error.value)


def test_flipped_bytes_are_told_in_one_line(fitted, fitted_file, tmp_path):
    content = fitted_file.read_bytes()
    draws = fitted.idata["posterior"]["B"].to_numpy().tobytes()
    start = content.index(draws)  # one bit of one draw, which nothing but a checksum can tell
    path = tmp_path / "flipped.nc"
    path.write_bytes(
        content[: start + 80] + bytes([content[start + 80] ^ 1]) + content[start + 81 :]
    )
    with pytest.raises(InputError, match=r"not those that were written: posterior/B\b"):
        Posterior.load(path)


def test_a_changed_record_is_told_in_one_line(fitted_file, tmp_path):
    tree = xr.open_datatree(fitted_file, engine="h5netcdf").load()
    path = tmp_path / "changed.nc"
    drift = tree.attrs["drift"]
    assert '"scale"' in drift
    tree.attrs["drift"] = re.sub(r'"scale": [0-9.]+', '"scale": 0.0001', drift)
    tree.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(InputError, match=r"not those that were written: drift of the record$"):
        Posterior.load(path)
    tree.attrs["drift"] = drift
    del tree.attrs["settings"]  # which older files do not have
    tree.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(InputError, match="settings of the record missing"):
        Posterior.load(path)


def test_a_file_whose_checksums_know_no_record_loads(fitted, fitted_file, tmp_path):
    tree = xr.open_datatree(fitted_file, engine="h5netcdf").load()
    known = json.loads(tree.attrs["allometry_checksums"])
    former = {name: value for name, value in known.items() if name[0] != "/"}
    assert 0 < len(former) < len(known)
    tree.attrs |= {"allometry_checksums": json.dumps(former), "seed": "77"}
    tree.to_netcdf(tmp_path / "former.nc", engine="h5netcdf")
    assert Posterior.load(tmp_path / "former.nc").record == replace(fitted.record, seed=77)


def test_a_file_without_checksums_or_without_whole_groups_loads(fitted, fitted_file, tmp_path):
    tree = xr.open_datatree(fitted_file, engine="h5netcdf").load()
    del tree["prior_predictive"]
    tree.to_netcdf(tmp_path / "less.nc", engine="h5netcdf")
    assert Posterior.load(tmp_path / "less.nc").record == fitted.record
    del tree.attrs["allometry_checksums"]
    tree.to_netcdf(tmp_path / "old.nc", engine="h5netcdf")
    assert Posterior.load(tmp_path / "old.nc").record == fitted.record


def test_a_record_of_another_version_or_with_holes_is_refused(fitted):
    from allometry.inference.record import Record

    attributes = fitted.record.to_attributes()
    assert Record.from_attributes(attributes, source="x") == fitted.record
    with pytest.raises(InputError, match="schema version 99"):
        Record.from_attributes(attributes | {"allometry_schema": "99"}, source="x")
    with pytest.raises(InputError, match=r"x: damaged record .*fields missing"):
        Record.from_attributes(attributes | {"cost": '{"kind": "6nd"}'}, source="x")
    del attributes["cost"]
    with pytest.raises(InputError, match="damaged record"):
        Record.from_attributes(attributes, source="x")


def test_a_record_keeps_settings_but_nobodys_folders(fitted):
    from allometry.inference.record import Record

    settings = fitted.record.settings
    assert settings["chains"] == 4
    assert settings["draws"] == 300
    assert (settings["method"], settings["cost"]) == ("nuts", "auto")
    attributes = fitted.record.to_attributes()
    old = {k: v for k, v in attributes.items() if k != "settings"}
    old["source"] = '"/home/somebody/runs.csv"'
    read = Record.from_attributes(old, source="x")
    assert read.settings == {}
    assert read.source == "runs.csv"
    assert json.loads(json.dumps(fitted.record.provenance()))["settings"] == settings


def test_an_error_names_the_posterior_and_not_the_table_of_runs(fitted, fitted_file):
    loaded = Posterior.load(fitted_file)
    assert loaded.where == str(fitted_file)
    assert loaded.with_groups(loaded.groups.iloc[:1].assign(context_length=77)).path == fitted_file
    with pytest.raises(InputError, match=r"fit\.nc: no group with architecture mamba"):
        loaded.allocate([1e20], architecture="mamba")
    with pytest.raises(InputError, match=r"^fit of table: no group with architecture mamba"):
        fitted.allocate([1e20], architecture="mamba")
    one = replace(loaded, record=replace(loaded.record, by=("context_length",)))
    refused = one.not_grouped_by(["architecture"])
    assert "They were grouped by context_length" in refused.hint
    assert "--by architecture context_length" in refused.hint


def test_a_write_that_fails_leaves_the_old_file(fitted, fitted_file, monkeypatch):
    before = fitted_file.read_bytes()

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("xarray.DataTree.to_netcdf", full)
    with pytest.raises(InputError, match="No space left"):
        fitted.save(fitted_file)
    assert fitted_file.read_bytes() == before
    assert list(fitted_file.parent.iterdir()) == [fitted_file]


def test_summary_has_a_row_a_parameter_and_group(fitted):
    table = fitted.summary()
    alpha = table.query("parameter == 'alpha'")
    assert alpha["context_length"].tolist() == [1024, 4096, 1024, 4096]
    assert (alpha["q5"] < alpha["q25"]).all()
    assert (alpha["q75"] < alpha["q95"]).all()
    assert alpha["median"].to_numpy() == pytest.approx(np.median(fitted.draws("alpha"), axis=0))


def test_groups_are_selected_by_label_or_the_known_ones_are_named(fitted):
    assert fitted.select(architecture="xlstm") == [2, 3]
    assert fitted.select(architecture="xlstm", context_length=4096) == [3]
    with pytest.raises(InputError, match="no group with architecture mamba"):
        fitted.select(architecture="mamba")


def test_the_summary_says_which_row_chains_agree_less_on(fitted, tmp_path, capsys):
    from allometry.cli import main
    from allometry.inference.convergence import MAX_RHAT

    assert fitted.record.convergence.converged
    tree = fitted.idata.copy()
    draws = tree["posterior"].to_dataset()
    apart = 0.15 * draws["A"].std(("chain", "draw")) * (draws["chain"] - draws["chain"].mean())
    tree["posterior"] = xr.DataTree(draws.assign(A=draws["A"] + apart))
    path = replace(fitted, idata=tree).save(tmp_path / "fit.nc")
    assert main(["summary", str(path), "--json"]) == 0
    captured = capsys.readouterr()
    worst = max(json.loads(captured.out), key=lambda row: row["r_hat"])
    assert worst["parameter"] == "A"
    assert worst["r_hat"] > MAX_RHAT
    place = f"{worst['architecture']}/{worst['context_length']}"
    assert f"note: R-hat {worst['r_hat']:.3f} of A ({place}) is above" in captured.err
    assert captured.err.count("note:") == 1
