"""What is drawn: the numbers of the table, the labels, the legend."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from allometry import plots
from allometry.errors import InputError
from allometry.plots import style


def intervals(name, median, width=0.1):
    ends = {"median": 0.0, "q5": -2.0, "q25": -1.0, "q75": 1.0, "q95": 2.0}
    return {f"{name}_{end}": np.asarray(median) * (1 + width * k) for end, k in ends.items()}


def frontier(groups=("transformer", "xlstm")):
    flops = np.array([1e19, 1e20, 1e21, 1e22])
    frames = [
        pd.DataFrame(
            {"architecture": name, "context_length": 2048, "flops": flops}
            | intervals("params", np.sqrt(flops / 120) * (1 + i))
            | intervals("run_loss", 3.0 - 0.1 * np.arange(4) + i)
            | {"extrapolation_factor": flops / 1e20}
        )
        for i, name in enumerate(groups)
    ]
    return pd.concat(frames, ignore_index=True)


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_growth_draws_the_medians_of_each_group_solid_inside_and_dashed_beyond(ax):
    table = frontier()
    assert plots.plot_growth(table, ax=ax) is ax
    inside, beyond = ax.lines[0], ax.lines[1]
    own = table[table["architecture"] == "transformer"]
    np.testing.assert_allclose(inside.get_xdata(), own["flops"][:2])
    np.testing.assert_allclose(inside.get_ydata(), own["params_median"][:2])
    np.testing.assert_allclose(beyond.get_ydata(), own["params_median"][1:])
    assert inside.get_linestyle() == "-"
    assert beyond.get_linestyle() == "--"
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_xlabel() == "training compute (FLOPs)"
    assert {"50 % interval", "90 % interval", "beyond the largest run"} <= set(labels(ax))
    assert "xlstm, context 2048" in labels(ax)


def test_groups_differ_in_colour_and_in_marker(ax):
    table = frontier(groups=[f"architecture-{i}" for i in range(9)])
    plots.plot_growth(table, ax=ax)
    looks = {(line.get_color(), line.get_marker()) for line in ax.lines}
    assert len(looks) == 9
    assert len({marker for _, marker in looks}) == 9


def test_bands_span_the_interval_ends(ax):
    table = frontier(groups=["xlstm"])
    plots.plot_growth(table, ax=ax)
    wide = ax.collections[0].get_paths()[0].vertices[:, 1]
    inside = table[table["extrapolation_factor"] <= 1]
    assert wide.min() == pytest.approx(inside["params_q5"].min())
    assert wide.max() == pytest.approx(inside["params_q95"].max())


def test_fan_marks_held_out_runs_where_they_lie(ax):
    unseen = pd.DataFrame(
        {"architecture": ["xlstm"], "context_length": [2048], "flops": [1e21], "loss": [3.7]}
    )
    plots.plot_fan(frontier(), held_out=unseen, ax=ax)
    drawn = [
        line for line in ax.lines if line.get_markeredgecolor() == "k" and len(line.get_xdata())
    ]
    assert [tuple(line.get_xydata()[0]) for line in drawn] == [(1e21, 3.7)]
    assert "runs held out" in labels(ax)
    assert ax.get_ylabel() == "loss (nats per token)"


def test_held_out_runs_are_drawn_as_percent_of_their_prediction(ax):
    table = pd.DataFrame(
        {"architecture": ["xlstm"] * 2, "extrapolation_factor": [2.0, 8.0], "loss": [2.2, 1.9]}
        | intervals("run_loss", np.array([2.0, 2.0]), width=0.01)
    )
    plots.plot_held_out(table, ax=ax)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [10.0, -5.0])
    wide = ax.collections[0].get_segments()
    np.testing.assert_allclose([s[:, 1] for s in wide], [[-2.0, 2.0]] * 2)


def test_allocations_stand_beside_each_other_at_their_budgets(ax):
    table = frontier()
    plots.plot_allocations(table, quantity="params", ax=ax)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1e19", "1e20", "1e21", "1e22"]
    points = ax.collections[2].get_offsets()  # after the two intervals of the first group
    own = table[table["architecture"] == "transformer"]
    np.testing.assert_allclose(points[:, 1], own["params_median"])
    assert (np.abs(points[:, 0] - np.arange(4)) < 0.5).all()


def test_forest_has_one_row_a_group_and_crosses_for_published_values(ax):
    table = pd.DataFrame(
        {"architecture": ["transformer", "xlstm"], "context_length": [2048, 2048]}
        | intervals("params_exponent", np.array([0.57, 0.53]), width=0.01)
    )
    published = table[["architecture", "context_length"]].assign(value=[0.55, 0.56])
    plots.plot_exponents(table, reference=published, ax=ax)
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        "transformer, context 2048",
        "xlstm, context 2048",
    ]
    medians = [line.get_xdata()[0] for line in ax.lines if line.get_marker() in "os"]
    crosses = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "x"]
    assert medians == pytest.approx([0.57, 0.53])
    assert crosses == pytest.approx([0.55, 0.56])
    assert "published" in labels(ax)


def test_valleys_mark_each_minimum_and_write_its_budget(ax):
    params = np.geomspace(1e8, 1e9, 21)
    frames = [
        pd.DataFrame(
            {"budget": budget, "params": params}
            | intervals("run_loss", 3 - i + np.log(params / 3e8) ** 2, width=0.01)
        )
        for i, budget in enumerate((6e18, 1e20))
    ]
    runs = pd.DataFrame({"budget": [6e18], "params": [2e8], "loss": [3.1]})
    plots.plot_valleys(pd.concat(frames), runs=runs, ax=ax)
    minima = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "|"]
    nearest = params[np.abs(np.log(params / 3e8)).argmin()]
    assert minima == pytest.approx([nearest, nearest])
    assert [text.get_text() for text in ax.texts] == ["6e18", "1e20"]
    assert any(tuple(p) == (2e8, 3.1) for line in ax.lines for p in line.get_xydata())
    assert "compute-optimal" in labels(ax)


def test_probability_map_hatches_what_lies_beyond_the_data_and_writes_numbers(ax):
    flops = np.array([1e19, 1e20, 1e21])
    table = pd.DataFrame(
        {
            "a": "xlstm",
            "b": "transformer",
            "flops": np.tile(flops, 2),
            "context_length": np.repeat([2048, 8192], 3),
            "probability_a_better": [0.999, 0.9, 0.6, 0.2, 0.3, 0.005],
            "extrapolation_factor": [0.1, 1.0, 10.0, 0.1, 0.5, 1.0],
        }
    )
    plots.plot_probability_map(table, ax=ax)
    mesh = ax.collections[0]
    expected = [[0.999, 0.9, 0.6], [0.2, 0.3, 0.005]]
    np.testing.assert_allclose(np.reshape(mesh.get_array(), (2, 3)), expected)
    assert [text.get_text() for text in ax.texts] == [">.99", ".90", ".60", ".20", ".30", "<.01"]
    (hatched,) = ax.patches  # only the first row has a budget beyond its data
    assert hatched.get_y() == -0.5
    assert hatched.get_x() == pytest.approx(10**20.5)


def test_residual_plot_derives_tokens_per_param_and_shades_the_expected_range(ax):
    table = pd.DataFrame(
        {"group": ["a", "b"], "params": [1e8, 2e8], "tokens": [2e9, 8e9], "standardised": [1.0, -1]}
    )
    plots.plot_residuals(table, x="tokens_per_param", ax=ax)
    drawn = [tuple(p) for line in ax.lines[:2] for p in line.get_xydata()]
    assert drawn == [(20.0, 1.0), (40.0, -1.0)]
    assert ax.get_xlabel() == "tokens per param"


def test_pit_histogram_counts_runs_against_the_uniform_band(ax):
    table = pd.DataFrame({"pit": np.r_[np.full(30, 0.01), np.full(70, 0.5)]})
    plots.plot_pit(table, bins=10, ax=ax)
    heights = ax.patches[-1].get_path().vertices[:, 1]
    assert heights.max() == 70
    assert "90 % if uniform" in labels(ax)


def test_a_table_without_the_drawn_columns_is_named():
    with pytest.raises(InputError, match="plot_growth: no column extrapolation_factor"):
        plots.plot_growth(frontier().drop(columns="extrapolation_factor"))
    with pytest.raises(InputError, match="no rows"):
        plots.plot_growth(frontier().iloc[:0])


def test_plots_leave_global_style_alone_and_make_their_own_figure():
    before = dict(plt.rcParams)
    ax = plots.plot_growth(frontier())
    assert ax.figure.number in plt.get_fignums()
    assert dict(plt.rcParams) == before


def test_ticks_between_powers_of_ten_are_numbers_as_people_write_them():
    figure, ax = plt.subplots()
    ax.plot([1e11, 1e12], [1.5e9, 8e9])
    style.finish(ax, x="tokens", y="params", log_y=True)
    figure.canvas.draw()
    told = [label.get_text() for label in ax.get_yticklabels(minor=True)]
    assert {"2e9", "6e9"} <= set(told)
    assert not any("times" in text for text in told)
    plt.close(figure)
