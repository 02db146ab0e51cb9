"""A small study begins with the library, says so, and never with a prior made from itself."""

import json
from dataclasses import replace

import jax
import numpy as np
import pandas as pd
import pytest
from simulation import TRUTH, simulate_runs

from allometry.cli import main
from allometry.inference import Posterior, Sampler, default_priors, fit, group_runs
from allometry.inference.arrays import law_structure
from allometry.inference.importing import ImportingStudy
from allometry.laws import Scale, get_law
from allometry.observations import find_table, read_runs
from allometry.observations.catalogue import TABLES
from allometry.priors import LibraryPriorWarning, PriorUse, choose_library, library_prior
from allometry.priors.default import MOST_RUNS, share_near
from allometry.priors.sources import MARKS, joined_marks, run_marks, shared_source

ONE = {("transformer", 1024): TRUTH["transformer", 1024]}
QUICK = Sampler(method="laplace", chains=2, draws=200, starts=2)
TYPICAL = library_prior("typical")


def study(n):
    """So many runs of one group at scattered places, under a law unlike any public study's."""
    return simulate_runs(8, groups=ONE, sizes=-(-n // 3)).head(n)


def chosen(runs, law="pnorm"):
    uses, notes = choose_library(read_runs(runs), get_law(law))
    return [use.use.file.name for use in uses], notes


@pytest.mark.parametrize("n", [4, 6, MOST_RUNS])
def test_few_runs_begin_with_the_typical_law(n):
    assert chosen(study(n)) == (["typical"], ())


def test_more_runs_and_other_laws_begin_without_it():
    assert chosen(study(MOST_RUNS + 1)) == ([], ())
    assert chosen(study(6), law="chinchilla") == ([], ())
    assert chosen(study(6), law="gamma") == ([], ())


def test_what_is_given_wins_over_the_library():
    runs = study(8)
    named = fit(runs, prior=[PriorUse(file=replace(TYPICAL, name="mine"))], sampler=QUICK)
    assert {name for o in named.record.imported for name in o.names} == {"mine"}
    assert not any(o.by_default for o in named.record.imported)
    own = fit(runs, priors=default_priors(get_law("pnorm")), sampler=QUICK)
    off = fit(runs, library=False, sampler=QUICK)
    assert own.record.imported == off.record.imported == ()
    assert np.array_equal(own.draws("E"), off.draws("E"))


def test_a_fit_says_that_it_began_with_the_library_and_keeps_it(tmp_path):
    with pytest.warns(LibraryPriorWarning) as caught:
        posterior = fit(study(8), sampler=QUICK)
    line = str(caught[0].message)
    assert line.startswith("library prior typical imported")
    assert "(weight of the vague part 0.2 before" in line
    assert "--no-library" in line
    assert "\n" not in line
    loaded = Posterior.load(posterior.save(tmp_path / "fit.nc")).record.imported
    assert [(o.about, o.by_default) for o in loaded] == [("law", True), ("noise", True)]
    assert "imported by default, since 8 runs are few" in loaded[0].notes[0]


def test_what_its_laws_have_taken_up_is_not_doubted_again(tmp_path):
    runs = study(8)
    largest = runs.iloc[[int(np.argmax(runs["params"] * runs["tokens"]))]]
    ahead = largest[["params", "tokens"]] * 3.0
    widths = {}
    for cells in (TYPICAL.fitted_over, ()):
        file = replace(TYPICAL, name="mine", fitted_over=cells)
        # Without the default prior beside it, so that these runs cannot set it aside.
        posterior = fit(runs, prior=[PriorUse(file=file, vague=0.0)], sampler=QUICK)
        assert [one.weight for one in posterior.record.fitted_ranges] == [1.0] * bool(cells)
        loss = posterior.predict(ahead, force=True)
        widths[bool(cells)] = np.log(loss["loss_q95"] / loss["loss_q5"]).to_numpy()
        (outcome,) = [one for one in posterior.record.imported if one.about == "law"]
        assert ("what such a law gets wrong" in outcome.words) == bool(cells)
        if cells:
            left, whole = outcome.left_discrepancy
            assert left < 0.9 * whole
            again = Posterior.load(posterior.save(tmp_path / "fit.nc"))
            assert again.record.imported == posterior.record.imported
    assert (widths[True] < 0.9 * widths[False]).all()


def test_the_unit_of_loss_does_not_matter_to_it():
    runs = read_runs(study(8))
    (use,), _ = choose_library(runs, get_law("pnorm"))
    bound = {}
    for unit, scale in (("nats per token", 1.0), ("bits per byte", 0.3), ("unknown", 7.0)):
        groups, law = group_runs(runs.table), get_law("pnorm")
        importing = ImportingStudy(
            law=law,
            structure=law_structure(law, groups),
            groups=groups,
            scale=Scale(params=1e8, tokens=2e9, loss=scale),
            priors=default_priors(law),
            table=runs.table.assign(loss=scale * runs.table["loss"]),
            loss_unit=unit,
        )
        bound[unit] = use.bind(importing)
    first, *others = bound.values()
    assert first[0].source.law_part == "shape"  # all but the level, the only thing with a unit
    for other in others:
        for mine, theirs in zip(first, other, strict=True):
            a, b = (replace(one.source, shift=one.source.shift[:2]) for one in (mine, theirs))
            assert jax.tree.all(jax.tree.map(np.array_equal, a, b))


def test_models_far_smaller_than_all_of_its_studies_begin_without_it():
    tiny = simulate_runs(8, groups=ONE, sizes=4, budgets=(1e12, 1e13))
    uses, notes = chosen(tiny)
    assert uses == []
    assert notes[0].startswith("the library's prior typical is left out: most of these runs lie")
    few = pd.concat([tiny.head(3), study(6)])
    assert chosen(few) == (["typical"], ())
    assert share_near(TYPICAL.fitted_over, read_runs(few)) == pytest.approx(6 / 9)


def test_a_study_never_begins_with_a_prior_made_from_itself():
    runs = read_runs(study(6))
    digest = TYPICAL.provenance["sha256"][0]
    assert shared_source(TYPICAL, runs) == ""
    assert "this table" in shared_source(TYPICAL, replace(runs, sha256=digest))
    assert "table chinchilla" in shared_source(TYPICAL, replace(runs, source="chinchilla"))
    of_same_paper = replace(runs, source="xlstm-extra")
    assert TABLES["xlstm-extra"].paper in shared_source(TYPICAL, of_same_paper)
    assert chosen_notes(replace(runs, sha256=digest)).startswith(
        "the library's prior typical is left out: it was made from this table"
    )


def chosen_notes(runs):
    uses, notes = choose_library(runs, get_law("pnorm"))
    assert uses == ()
    return notes[0]


@pytest.mark.parametrize("name", ["chinchilla", "farseer", "overtraining", "xlstm", "repetition"])
def test_some_runs_of_a_public_table_are_recognised(name):
    if find_table(name) is None:
        pytest.skip(f"{name} is not at hand: set ALLOMETRY_DATA to a folder that has it")
    known = read_runs(name, exclude=["epochs > 1.01"] if name == "repetition" else None)
    few = known.table[["params", "tokens", "loss"]].iloc[::9].head(8)
    assert f"{len(few)} of these {len(few)} runs" in shared_source(TYPICAL, read_runs(few))
    others = few.assign(loss=few["loss"] * (1 + 2e-3))  # other runs at the same places
    assert shared_source(TYPICAL, read_runs(others)) == ""


def test_half_of_the_runs_are_enough_and_fewer_are_not():
    own, other = study(8), study(8).assign(loss=lambda t: t["loss"] * 1.01)
    columns = [own[n].to_numpy() for n in ("params", "tokens", "loss")]
    file = replace(TYPICAL, provenance={MARKS: joined_marks([columns])})
    mixed = pd.concat([own.head(4), other.tail(4)])
    assert "4 of these 8 runs" in shared_source(file, read_runs(mixed))
    assert shared_source(file, read_runs(pd.concat([own.head(3), other.tail(5)]))) == ""
    assert len(set(run_marks(*columns))) == 8


def test_the_command_says_it_in_one_line_and_can_be_told_not_to(tmp_path, capsys):
    table = tmp_path / "runs.csv"
    study(8).to_csv(table, index=False)
    quick = ["--method", "laplace", "--chains", "2", "--draws", "200", "--json"]
    output = str(tmp_path / "fit.nc")
    main(["fit", str(table), "-o", output, *quick])
    captured = capsys.readouterr()
    told = [line for line in captured.err.splitlines() if "library prior" in line]
    assert len(told) == 1
    assert "--no-library" in told[0]
    document = json.loads(captured.out)
    assert [entry["by_default"] for entry in document["imported"]] == [True, True]
    assert main(["summary", output, "--json"]) == 0
    captured = capsys.readouterr()
    assert told[0] in captured.err
    assert json.loads(captured.out)
    main(["fit", str(table), "-o", output, "--no-library", *quick])
    captured = capsys.readouterr()
    assert "library prior" not in captured.err
    assert json.loads(captured.out)["imported"] == []


def test_a_prior_that_was_asked_for_and_made_from_these_runs_is_used_with_a_warning(
    tmp_path, capsys
):
    table, prior, output = (tmp_path / name for name in ("runs.csv", "own.json", "fit.nc"))
    study(8).to_csv(table, index=False)
    known = TYPICAL.provenance | {"sha256": read_runs(table).sha256}
    replace(TYPICAL, name="own", provenance=known).save(prior)
    quick = ["--method", "laplace", "--chains", "2", "--draws", "200", "--json"]
    main(
        ["fit", str(table), "-o", str(output), "--prior", str(prior), "--prior", "typical", *quick]
    )
    captured = capsys.readouterr()
    told = "prior own: it was made from this table: runs that both have count twice"
    assert captured.err.count("count twice") == captured.err.count(told) == 1
    for warnings in (json.loads(captured.out)["warnings"], Posterior.load(output).record.warnings):
        assert [w for w in warnings if "count twice" in w] == [told]


def test_each_prior_of_the_command_line_may_give_a_part(tmp_path, capsys):
    table, output = tmp_path / "runs.csv", tmp_path / "fit.nc"
    study(8).to_csv(table, index=False)
    command = ["fit", str(table), "-o", str(output), "--method", "laplace", "--draws", "100"]
    parts = ["--prior", "typical:law", "--prior", "xlstm:noise"]
    main([*command, *parts, "--json"])
    capsys.readouterr()
    record = Posterior.load(output).record
    assert [outcome.names for outcome in record.imported] == [("typical",), ("xlstm",)]
    assert record.settings["prior"] == ["typical", "xlstm"]
    assert record.settings["prior_parts"] == [["law"], ["noise"]]
    assert main([*command, "--prior", "typical:everything"]) == 2
    assert "no bundled prior 'typical:everything'" in capsys.readouterr().err
