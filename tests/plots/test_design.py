"""What the pictures of a design show: gains over FLOPs, and the runs among the fitted ones."""

import pandas as pd
import pytest

from allometry.errors import InputError
from allometry.plots.design import draw_design, plot_design, plot_gain


def design_table():
    table = pd.DataFrame(
        {
            "rank": [1, 2, 3],
            "architecture": ["a", "b", "a"],
            "params": [1e9, 3e8, 1.01e9],
            "tokens": [2e10, 6e9, 2.02e10],
            "flops": [1e20, 1e19, 1e20],
            "gain": [0.3, 0.1, 0.05],
            "cumulative_flops": [1e20, 1.1e20, 2.1e20],
            "sd_before": 0.2,
            "sd_after": [0.167, 0.155, 0.148],
        }
    )
    table.attrs["quantity"] = "log N* of a at 1e22 FLOPs"
    return table


def fitted_runs():
    return pd.DataFrame(
        {"architecture": ["a", "b", "c"], "params": [1e8, 2e8, 3e8], "tokens": [4e9, 5e9, 6e9]}
    )


def dots(ax, size):
    return {
        (x, y): line.get_color()
        for line in ax.lines
        if line.get_linestyle() == "None" and line.get_markersize() == size
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }


def test_gains_add_up_over_the_flops_so_far():
    ax = plot_gain(design_table())
    places = dots(ax, 7)
    assert sorted(x for x, _ in places) == pytest.approx([1e20, 1.1e20, 2.1e20])
    assert sorted(y for _, y in places) == pytest.approx([0.3, 0.4, 0.45])
    assert "sd 0.2 now, 0.148 after all" in ax.get_title()


def test_new_runs_stand_out_among_the_fitted_and_near_ones_share_a_label():
    ax = plot_design(design_table(), fitted_runs())
    new, old = dots(ax, 9), dots(ax, 3)
    assert len(new) == 3
    assert len(old) == 3
    assert new[3e8, 6e9] == old[2e8, 5e9]  # group b in its own colour
    assert old[3e8, 6e9] not in new.values()  # a group without a new run
    assert [text.get_text() for text in ax.texts] == ["1, 3", "2"]
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words == ["a", "b", "to do, by rank", "fitted (grey: no new run there)"]


def test_both_are_drawn_under_the_quantity_s_name():
    figure = draw_design(design_table(), fitted_runs())
    assert len(figure.axes) == 2
    assert figure.get_suptitle() == "log N* of a at 1e22 FLOPs"


def test_a_table_without_gain_is_refused():
    with pytest.raises(InputError, match="no column gain"):
        plot_gain(design_table().drop(columns="gain"))
