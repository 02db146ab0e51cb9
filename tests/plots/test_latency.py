"""What the pictures of latency show: bands, timings, ceilings, bottlenecks, ends."""

import numpy as np
import pandas as pd
import pytest

from allometry.errors import InputError
from allometry.plots.latency import plot_bottleneck, plot_frontier, plot_roofline, plot_runtime
from allometry.plots.latency_decide import draw_crossover, draw_lifetime_cost

ENDS = {"median": 1.0, "q5": 0.8, "q25": 0.9, "q75": 1.1, "q95": 1.2}
CONTEXTS = np.array([128, 1024, 8192])


def intervals(name, values):
    return {f"{name}_{end}": np.asarray(values) * factor for end, factor in ENDS.items()}


def runtimes(params=1e9):
    seconds = [1e-3, 2e-3, 4e-3]
    labels = {"architecture": "a", "params": params, "batch_size": 1, "quantity": "step_time"}
    columns = {"prefill_length": CONTEXTS} | intervals("seconds", seconds)
    return pd.DataFrame(columns | intervals("run_seconds", seconds) | labels)


def lines_of(ax, style):
    return [line for line in ax.lines if line.get_linestyle() == style]


@pytest.mark.parametrize("params", [1e9, 2e9])
def test_a_runtime_is_dashed_beyond_the_longest_timing(params):
    """Of its own model, and of the architecture where the model was not timed."""
    timed = runtimes().iloc[:2].assign(seconds=[1.1e-3, 1.9e-3])
    ax = plot_runtime(runtimes(params), timed)
    (solid,) = lines_of(ax, "-")
    (dashed,) = lines_of(ax, "--")
    assert solid.get_xdata().tolist() == [128, 1024]
    assert dashed.get_xdata().tolist() == CONTEXTS.tolist()
    (dots,) = lines_of(ax, "None")
    assert list(dots.get_ydata()) == ([1.1e-3, 1.9e-3] if params == 1e9 else [])


def test_runtimes_of_two_quantities_are_refused():
    mixed = pd.concat([runtimes(), runtimes().assign(quantity="ttft")])
    with pytest.raises(InputError, match="mix ttft and step_time"):
        plot_runtime(mixed)


def test_a_roof_is_flat_from_where_rate_over_bandwidth():
    row = {"label": "a prefill", **intervals("rate", [1e14]), **intervals("bandwidth", [1e12])}
    ax = plot_roofline(pd.DataFrame(row), peak_flops=2e14, peak_bandwidth=2e12)
    sheet, roof = ax.lines
    x = np.asarray(roof.get_xdata())
    assert np.asarray(roof.get_ydata()) == pytest.approx(np.where(x < 100, 1e12 * x, 1e14))
    assert (np.asarray(sheet.get_ydata()) > np.asarray(roof.get_ydata())).all()


def test_each_cell_of_a_bottleneck_has_the_color_of_its_longest_part():
    grid = pd.MultiIndex.from_product([[1, 8], [128, 8192]], names=["batch_size", "prefill_length"])
    parts = ["launch", "walk", "memory", "walk"]
    table = grid.to_frame(index=False).assign(
        bottleneck=parts, probability_memory_bound=[0.0, 1.0, 1.0, 1.0]
    )
    ax = plot_bottleneck(table.assign(architecture="a", params=1e9, quantity="step_time"))
    codes = np.asarray(ax.collections[0].get_array()).ravel()
    assert codes.tolist() == [0, 3, 2, 3]
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words == ["launch", "memory", "walk", "P(memory-bound)"]


def test_a_frontier_is_a_line_of_medians_for_each_architecture():
    columns = intervals("loss", [3.0, 2.5]) | intervals("seconds", [1e-3, 2e-3])
    labels = {"context_length": 2048, "batch_size": 8, "quantity": "step_time"}
    one = pd.DataFrame(columns | labels)
    ax = plot_frontier(pd.concat([one.assign(architecture=name) for name in "ab"]))
    assert [line.get_label() for line in ax.lines] == ["a", "b"]
    assert ax.lines[0].get_ydata().tolist() == [3.0, 2.5]
    assert ax.lines[0].get_xdata().tolist() == [1e-3, 2e-3]


def test_a_crossover_that_is_not_sure_has_no_point_and_a_lone_one_its_interval():
    columns = intervals("context_length", [4000.0, 2000.0])
    table = pd.DataFrame(columns).assign(architecture="a", params=1e9, batch_size=[1, 8])
    ax = draw_crossover(table.assign(probability_crosses=[0.5, 1.0])).axes[0]
    (line,) = ax.lines
    assert line.get_xdata().tolist() == [8]
    assert line.get_label() == "a 1e+09, P < 0.95 at 1 of 2"
    ends = [
        c.get_segments()[0][:, 1].tolist() for c in ax.collections if hasattr(c, "get_segments")
    ]
    assert ends == [[1600.0, 2400.0], [1800.0, 2200.0]]


def test_costs_at_one_demand_stand_beside_each_other():
    asked = {"served_tokens": 1e12, "target_loss": 2.4, "context_length": 8192, "batch_size": 32}
    table = pd.DataFrame(
        {"architecture": ["a", "b"]}
        | asked
        | intervals("params", [1e9, 1e9])
        | intervals("tokens_per_param", [300.0, 300.0])
        | intervals("device_hours", [3e4, 3e4])
    )
    for ax in draw_lifetime_cost(table).axes:
        left, right = (line.get_xdata()[0] for line in ax.lines)
        assert left < 1e12 < right
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1e12"]


def test_cost_of_a_life_has_nothing_served_at_the_left_and_three_panels():
    table = pd.DataFrame({"served_tokens": [0.0, 1e11, 1e12]}).assign(
        architecture="a", target_loss=2.3, context_length=8192, batch_size=8,
        **intervals("params", [3e9, 2e9, 1e9]), **intervals("device_hours", [1e3, 1e4, 1e5]),
        **intervals("tokens_per_param", [20.0, 60.0, 300.0]),
    )  # fmt: skip
    axes = draw_lifetime_cost(table).axes
    assert [ax.lines[0].get_ydata().tolist()[-1] for ax in axes] == [1e9, 300.0, 1e5]
    assert all(ax.get_xscale() == "symlog" for ax in axes)
