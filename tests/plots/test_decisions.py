"""What the pictures of decisions show: medians, outcomes, the place of nothing served."""

import numpy as np
import pandas as pd
import pytest

from allometry.errors import InputError
from allometry.plots.choices import draw_break_even, draw_lifetime, draw_repeated
from allometry.plots.decisions import draw_regret, draw_speedup

ENDS = {"median": 1.0, "q5": 0.8, "q25": 0.9, "q75": 1.1, "q95": 1.2}


def intervals(name, values):
    return {f"{name}_{end}": np.asarray(values) * factor for end, factor in ENDS.items()}


def regret_table():
    params = np.geomspace(1e8, 1e10, 41)
    regret = 0.02 * np.log(params / 1e9) ** 2 + 1e-4
    percent = {"expected_regret": regret, "expected_regret_percent": 40 * regret}
    one = pd.DataFrame({"params": params, **percent, **intervals("regret", regret)})
    frames = [one.assign(architecture=a, flops=f) for a in ("a", "b") for f in (1e20, 1e21)]
    return pd.concat(frames, ignore_index=True)


def legend_words(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_the_dot_of_a_regret_is_the_size_of_least_expected_regret():
    figure = draw_regret(regret_table(), within="0.1%", loss_unit="nats")
    assert [ax.get_title() for ax in figure.axes] == ["1e20 FLOPs", "1e21 FLOPs"]
    for ax in figure.axes:
        dots = [line for line in ax.lines if len(line.get_xdata()) == 1]
        assert [line.get_xdata()[0] for line in dots] == pytest.approx([1e9, 1e9])
        assert ax.get_ylabel() == "expected loss above the best (nats)"
    bands = ["50 % interval", "90 % interval"]
    assert legend_words(figure) == ["a", "b", *bands, "expected within 0.1%"]


def test_a_level_that_no_size_keeps_is_said_to_be_so():
    table = regret_table()
    worse = table.assign(expected_regret_percent=table["expected_regret_percent"] + 0.2)
    assert legend_words(draw_regret(worse, within="0.1%"))[-1] == "no size is expected within 0.1%"


@pytest.mark.parametrize("name", ["flops", "context"])
def test_bars_of_a_break_even_are_its_four_probabilities(name):
    shares = dict(zip(("a_takes_over", "b_takes_over", "a_throughout", "b_throughout"),
                      (0.1, 0.2, 0.3, 0.4), strict=True))  # fmt: skip
    where = {f"{name}_low": [1e3], f"{name}_high": [1e6], **intervals(f"break_even_{name}", [3e4])}
    row = {"a": ["x"], "b": ["y"], **where, **{f"probability_{k}": [v] for k, v in shares.items()}}
    table = pd.DataFrame(row)
    table = table.assign(context_length=2048) if name == "flops" else table.assign(flops=1e21)
    places, bars = draw_break_even(table).axes
    assert [bar.get_width() for bar in bars.patches] == pytest.approx([0.3, 0.1, 0.2, 0.4])
    assert places.lines[0].get_xdata()[0] == pytest.approx(3e4)
    label = "context 2048" if name == "flops" else "1e21 FLOPs"
    assert [text.get_text() for text in places.get_yticklabels()] == [label]


def test_nothing_served_is_drawn_at_the_left_edge():
    served = [0.0, 1e11, 1e12]
    table = pd.DataFrame(
        {"architecture": "a", "served_tokens": served}
        | intervals("params", [3e9, 2e9, 1e9])
        | intervals("overtraining", [1.0, 2.0, 4.0])
    )
    params, over = draw_lifetime(table).axes
    line = next(line for line in params.lines if len(line.get_xdata()) == 3)
    assert line.get_xdata() == pytest.approx([1e10, 1e11, 1e12])
    assert line.get_ydata() == pytest.approx([3e9, 2e9, 1e9])
    assert "compute optimum" in over.get_ylabel()


def test_each_supply_of_tokens_is_a_line():
    frames = [
        pd.DataFrame({"flops": [1e20, 1e21], "unique_tokens": supply}
                     | intervals("params", [1e9, 2e9]) | intervals("epochs", [1.0, 5.0]))
        for supply in (1e9, 1e10)
    ]  # fmt: skip
    words = legend_words(draw_repeated(pd.concat(frames)))
    assert words[:2] == ["1e9 unique tokens", "1e10 unique tokens"]


def test_speedups_without_end_are_cut_at_the_top():
    table = pd.DataFrame({"a": "x", "b": "y", "flops": [1e20, 1e21], "context_length": 2048}
                         | intervals("speedup", [1.5, np.inf]))  # fmt: skip
    (ax,) = draw_speedup(table).axes
    line = next(line for line in ax.lines if len(line.get_xdata()) == 2)
    assert line.get_ydata()[0] == pytest.approx(1.5)
    assert np.isfinite(line.get_ydata()).all()


def test_a_table_of_another_kind_is_refused():
    with pytest.raises(InputError, match="no column"):
        draw_break_even(pd.DataFrame({"a": ["x"]}))


@pytest.mark.parametrize(("values", "wanted"), [([1.6, 2.0], "1.6"), ([1.5, 900.0], "100")])
def test_a_speedup_is_read_as_a_plain_number(values, wanted):
    table = pd.DataFrame({"a": "x", "b": "y", "flops": [1e20, 1e21]}
                         | intervals("speedup", values))  # fmt: skip
    figure = draw_speedup(table)
    figure.draw_without_rendering()
    (ax,) = figure.axes
    labels = [t.get_text() for t in ax.get_yticklabels(which="both") if t.get_text()]
    assert wanted in labels
    assert not any("10^" in label for label in labels)
    assert len(labels) < 25


def test_a_best_size_far_above_the_level_is_still_in_the_picture():
    table = regret_table()
    far = table.assign(
        expected_regret=table["expected_regret"] + 0.05,
        expected_regret_percent=table["expected_regret_percent"] + 2.0,
    )
    for ax in draw_regret(far, within="0.1%").axes:
        low, high = ax.get_ylim()
        dots = [line for line in ax.lines if len(line.get_xdata()) == 1]
        assert all(low < line.get_ydata()[0] < high for line in dots)


def test_a_panel_of_less_than_two_decades_names_sizes_between_powers_of_ten():
    figure = draw_regret(regret_table(), within="0.1%")
    figure.draw_without_rendering()
    for ax in figure.axes:
        low, high = ax.get_xlim()
        assert high < 100 * low
        shown = zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
        words = [label.get_text() for tick, label in shown if low <= tick <= high]
        assert len(words) >= 3
        assert {"5e8", "1e9", "2e9"} <= set(words)


def test_groups_asked_at_one_place_stand_beside_each_other():
    names = {"architecture": list("abcdef"), "flops": 1e21, "unique_tokens": 1e9}
    numbers = intervals("params", [2e9] * 6) | intervals("epochs", [3.0] * 6)
    groups = pd.DataFrame(names | numbers)
    figure = draw_repeated(groups)
    for ax in figure.axes:
        places = sorted(line.get_xdata()[0] for line in ax.lines)
        assert len(places) == 6
        assert np.diff(np.log(places)).min() > 0.05
        assert np.exp(np.log(places).mean()) == pytest.approx(1e21)
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1e21"]
    assert legend_words(figure)[-2:] == ["50 % interval", "90 % interval"]
    widths = {width for part in figure.axes[0].collections for width in part.get_linewidths()}
    assert len(widths) == 2  # thick lines of 50 %, thin ones of 90 %
    one = pd.DataFrame({"a": "x", "b": "y", "flops": 1e21, "context_length": [2048, 8192]}
                       | intervals("speedup", [1.5, 1.5]))  # fmt: skip
    (ax,) = draw_speedup(one).axes
    dots = [line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 1]
    assert len(set(dots)) == 2
