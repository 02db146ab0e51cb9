"""The examples run and say what their text promises."""

import numpy as np
import pandas as pd
import pytest

from allometry.cli import main
from allometry.errors import AllometryError
from allometry.inference import Sampler, fit


def public(name):
    from allometry.observations import read_runs

    try:
        return read_runs(name)
    except AllometryError as error:
        pytest.skip(f"table {name} is not on this machine: {error}")


def test_shrinkage_is_a_joint_probability_over_draws(load, fitted):
    study = load("study")
    table = study.shrinkage_table(fitted, (1e19, 1e20))
    assert len(table) == 4
    for _, row in table.iterrows():
        # The median ratio is below one exactly where the probability of shrinking passes one half.
        assert (row["ratio_median"] < 1) == (row["probability_shrinks"] > 0.5)
    assert table["contexts"].unique().tolist() == ["4096 / 1024"]
    assert table["probability_more_than_xlstm"].notna().tolist() == [True, True, False, False]


def test_published_exponents_stand_beside_their_groups_only_when_asked(load, fitted):
    study = load("study")
    assert "params_published" not in study.growth_table(fitted, published=False)
    with_them = study.growth_table(fitted, published=True)
    assert with_them["params_published"].isna().all()  # no group of the study is simulated here


def test_coverage_is_yes_where_the_interval_holds_the_published_value(load, fitted, monkeypatch):
    chinchilla = load("chinchilla")
    summary = fitted.summary()
    row = summary[summary["parameter"] == "E"].iloc[0]
    monkeypatch.setattr(chinchilla, "PUBLISHED", {"E": row["median"], "alpha": 9.0})
    table = chinchilla.coverage_table(fitted, "this")
    assert table[table["parameter"] == "E"].iloc[0]["covered"] == "yes"
    assert set(table[table["parameter"] == "alpha"]["covered"]) == {"no"}
    assert set(table[table["parameter"] == "noise"]["covered"]) == {"-"}


def test_the_demo_takes_measured_runs_once_there_are_enough(load, tmp_path, monkeypatch):
    demo = load("demo")
    monkeypatch.setattr(demo, "DATA", tmp_path)
    assert "SYNTHETIC" in demo.bundled_table()[1]
    folder = tmp_path / "measured"
    folder.mkdir()
    for rows, word in ((demo.LEAST_RUNS - 1, "SYNTHETIC"), (demo.LEAST_RUNS, "measured")):
        (folder / "runs.csv").write_text("params\n" + "1\n" * rows)
        assert word in demo.bundled_table()[1]


def test_own_law_has_one_exponent_and_its_terms_in_published_units(load):
    import jax

    own = load("own_law")
    from allometry.laws import Point, Scale

    c = {"log_E": np.log(0.6), "log_u": np.log(0.2), "log_v": np.log(0.2), "log_s": np.log(0.3)}
    scale = Scale(params=1e9, tokens=2e10, loss=3.0)
    with jax.enable_x64(True):
        found = own.ONE_EXPONENT.published(c, scale)
        point = Point(log_params=np.log(5.0), log_tokens=np.log(2.0))
        loss = 3.0 * np.exp(own.ONE_EXPONENT.log_loss(c, point))
        direct = found["E"] + found["A"] * 5e9**-0.3 + found["B"] * 4e10**-0.3
    assert found["alpha"] == found["beta"] == pytest.approx(0.3)
    assert float(loss) == pytest.approx(float(direct), rel=1e-12)


def test_the_first_sweep_plans_both_sides_of_every_valley(load, tmp_path, capsys, monkeypatch):
    first_sweep, given = load("first_sweep"), []
    monkeypatch.setattr(first_sweep, "allometry", lambda *words: given.append([*map(str, words)]))
    assert first_sweep.main(output=tmp_path, workers=1) == 0
    (plan,) = (words for words in given if words[:2] == ["sweep", "plan"])
    corpus = plan.index("--corpus")  # not built here: its vocabulary is what the plan takes of it
    plan[corpus : corpus + 2] = ["--vocab-size", "512"]
    assert main(plan) == 0
    assert "warning" not in capsys.readouterr().err  # of valleys that are one-sided
    table = pd.read_csv(tmp_path / "plan.csv")
    valleys = table.groupby(["architecture", "budget"])
    assert (valleys.size() == 5).all()
    assert len(valleys) == 6
    assert (table.flops / table.budget - 1).abs().max() < 0.02
    # Two minutes on two cores at the 6e9 FLOP/s that models of this size reach.
    assert table.flops.sum() / 6e9 < 2 * 120


@pytest.mark.slow
def test_own_law_fits_and_allocates(load, capsys):
    load("own_law").main()
    text = capsys.readouterr().out
    assert "params_median" in text


@pytest.mark.slow
def test_the_demo_runs_from_table_to_figures(load, tmp_path, capsys):
    demo = load("demo")
    assert demo.main(output=tmp_path) in (0, None)
    text = capsys.readouterr().out
    assert "Growth laws" in text
    names = {path.name for path in tmp_path.iterdir()}
    assert {"posterior.nc", *(f"{kind}.png" for kind in demo.KINDS)} <= names


@pytest.mark.slow
def test_published_chinchilla_values_are_covered_under_the_matching_law_and_noise(load):
    chinchilla = load("chinchilla")
    public("chinchilla")
    sampler = Sampler(method="laplace")
    posterior = chinchilla.fit_points(
        "chinchilla", "chinchilla", "constant", sampler=sampler, seed=0
    )
    table = chinchilla.coverage_table(posterior, "matching")
    covered = table[table["parameter"].isin(chinchilla.PUBLISHED)]
    assert covered["covered"].tolist() == ["yes"] * 5


@pytest.mark.slow
def test_the_study_shrinks_with_context_for_the_transformer_more_than_for_the_xlstm(load):
    study = load("study")
    runs = public("xlstm")
    grid = runs.table[runs.table["experiment"] == "isoflop"] if "experiment" in runs.table else None
    table = runs.table if grid is None or grid.empty else grid
    kept = table[["architecture", "context_length", "params", "tokens", "flops", "loss"]]
    posterior = fit(pd.DataFrame(kept), sampler=Sampler(chains=2, draws=300), seed=0)
    shrinkage = study.shrinkage_table(posterior, (6e18,)).set_index("architecture")
    assert shrinkage.loc["transformer", "probability_shrinks"] > 0.99
    assert shrinkage.loc["transformer", "probability_more_than_xlstm"] > 0.95


def test_the_next_runs_are_for_both_decisions_and_end_in_a_page(load, fitted, tmp_path, capsys):
    next_runs = load("next_runs")
    file = fitted.thinned(100).save(tmp_path / "fit.nc")
    assert next_runs.main(file, output=tmp_path / "out", beyond=10.0, share=3.0) == 0
    text = capsys.readouterr().out
    assert "log N* of transformer" in text
    assert "difference of loss" in text
    assert "sd_after" in text
    page = (tmp_path / "out" / "page.html").read_text(encoding="utf-8")
    assert "What to train next" in page
    assert (tmp_path / "out" / "size.png").exists()
