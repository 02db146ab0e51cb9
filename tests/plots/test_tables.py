"""Tables that plots draw, from a posterior; and whole figures."""

import numpy as np
import pandas as pd
import pytest
from simulation import simulate_runs

from allometry import plots
from allometry.errors import InputError
from allometry.plots.tables import unseen_runs
from allometry.plots.writing import save_figure


def test_fitted_runs_find_their_budget(fitted):
    table = plots.fitted_table(fitted)
    assert len(table) == 72
    found = sorted(table["budget"].unique())
    assert found == pytest.approx([1e18, 1e19, 1e20])
    assert (table.groupby(["architecture", "context_length", "budget"]).size() == 6).all()


def test_runs_that_share_no_budget_have_no_valley():
    decades = np.log10(np.geomspace(1e18, 1e22, 12))
    assert np.isnan(plots.tables._budgets(decades)).all()


def test_valleys_lie_on_their_budget_and_span_the_runs(fitted):
    table = plots.valley_table(fitted, points=9)
    np.testing.assert_allclose(table["flops"], table["budget"], rtol=1e-9)
    assert len(table) == 4 * 3 * 9
    runs = plots.fitted_table(fitted)
    assert table["params"].min() < runs["params"].min()
    assert table["params"].max() > runs["params"].max()


def test_surface_is_a_grid_of_one_group(fitted):
    table = plots.surface_table(fitted, group=2, points=5)
    assert table[["architecture", "context_length"]].drop_duplicates().values.tolist() == [
        ["xlstm", 1024]
    ]
    assert len(table) == 25
    assert table["params"].nunique() == table["tokens"].nunique() == 5


def test_frontier_has_the_border_of_the_data_and_goes_beyond(fitted):
    table = plots.frontier_table(fitted, beyond=10.0)
    for _, part in table.groupby(["architecture", "context_length"]):
        assert np.isclose(part["extrapolation_factor"], 1.0, rtol=1e-9).any()
        assert part["extrapolation_factor"].max() == pytest.approx(10.0)
        assert part["flops"].min() == pytest.approx(1e18)


def test_best_runs_are_the_lowest_of_their_valley(fitted):
    best, runs = plots.best_runs(fitted), plots.fitted_table(fitted)
    assert len(best) == 12
    lowest = runs.groupby(["architecture", "context_length", "budget"])["loss"].min()
    assert sorted(best["loss"]) == pytest.approx(sorted(lowest))


def test_comparison_says_how_far_beyond_both_it_is(fitted):
    table = plots.comparison_table(fitted, "xlstm", "transformer", flops=[1e20, 1e21])
    assert sorted(table["extrapolation_factor"]) == pytest.approx([1, 1, 10, 10])


def test_density_integrates_to_one_observed_and_replicated(fitted):
    table = plots.density_table(fitted, replicas=20)
    for name in ("observed", "density_median"):
        # Margins of a tenth of the range cut the tails of the smoothing kernel.
        assert np.trapezoid(table[name], table["loss"]) == pytest.approx(1.0, abs=0.05)


def test_prior_is_wider_than_the_data_and_holds_them(fitted):
    table = plots.prior_table(fitted)
    runs = plots.fitted_table(fitted)
    middle = table.iloc[(table["flops"] - runs["flops"].median()).abs().argmin()]
    assert middle["loss_q5"] < runs["loss"].min()
    assert middle["loss_q95"] > runs["loss"].max()


def test_unseen_runs_are_those_the_fit_did_not_use(fitted):
    runs = simulate_runs(1)
    more = runs.head(2).assign(loss=[2.0, 2.1])
    unseen = unseen_runs(fitted, pd.concat([runs, more], ignore_index=True))
    assert unseen["loss"].tolist() == [2.0, 2.1]


@pytest.mark.parametrize("kind", ["exponents", "prior", "ppc", "residuals", "trace"])
def test_a_kind_is_drawn_from_a_posterior_alone(fitted, kind):
    figure = plots.draw_figure(fitted, kind)
    assert all(ax.has_data() for ax in figure.axes if ax.get_visible() and ax.axison)


@pytest.mark.slow
def test_every_kind_is_drawn_and_written_whole(fitted, tmp_path):
    held_out = simulate_runs(9, budgets=(1e21,))
    request = plots.Request(held_out=held_out, context_length=1024, flops=(1e20, 1e21))
    for kind in plots.KINDS:
        figure = plots.draw_figure(fitted, kind, request)
        path = save_figure(figure, tmp_path / f"{kind}.png", dpi=40)
        assert path.read_bytes().startswith(b"\x89PNG")
        drawn = [ax for ax in figure.axes if ax.has_data()]
        assert drawn, kind
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"{k}.png" for k in plots.KINDS)


def test_unknown_kinds_and_formats_are_named_with_the_known(fitted, tmp_path):
    with pytest.raises(InputError, match="'pie'") as caught:
        plots.draw_figure(fitted, "pie")
    assert "valleys" in caught.value.hint
    figure = plots.draw_figure(fitted, "prior")
    with pytest.raises(InputError, match="'xyz'"):
        save_figure(figure, tmp_path / "a.xyz")
    assert list(tmp_path.iterdir()) == []


def test_panels_are_named_as_legends_name_their_groups(fitted):
    request = plots.Request(architecture="xlstm", context_length=1024)
    figure = plots.draw_figure(fitted, "valleys", request)
    assert figure.axes[0].get_title() == "xlstm, context 1024"
