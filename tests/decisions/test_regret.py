"""Regret against its definition, band ends against the loss there, and levels in words."""

import numpy as np
import pytest
from losses import loss_at

from allometry.decisions import least_regret, regret_curve
from allometry.decisions.grids import band, least
from allometry.decisions.questions import check_level
from allometry.errors import InputError

ONE = {"architecture": "xlstm", "context_length": 1024}
BUDGET = 1e21


def test_regret_is_the_loss_above_the_best_of_the_budget(fitted):
    table = regret_curve(fitted, [BUDGET], params=[5e8, 2e9], **ONE)
    best = fitted.allocate([BUDGET], **ONE)
    for _, row in table.iterrows():
        tokens = BUDGET / 6 / row["params"]
        assert row["tokens"] == pytest.approx(tokens, rel=1e-3)
        # Both share the drift, so the median of the difference is near that of medians.
        difference = loss_at(fitted, ONE, [row["params"]], [tokens])[0] - best["loss_median"][0]
        assert row["regret_median"] == pytest.approx(difference, rel=0.15)
        assert row["expected_regret_percent"] == pytest.approx(
            100 * row["expected_regret"] / best["loss_median"][0], rel=0.02
        )


def test_no_size_has_less_expected_regret_than_the_one_recommended(fitted):
    best = least_regret(fitted, [BUDGET], **ONE).iloc[0]
    near = best["params"] * np.geomspace(0.5, 2.0, 21)
    others = regret_curve(fitted, [BUDGET], params=near, **ONE)["expected_regret"]
    # The grid's parabola may miss by less than a hundredth of the regret itself.
    assert best["expected_regret"] <= others.min() * 1.01
    assert others.iloc[0] > 3 * best["expected_regret"]
    assert best["expected_regret"] > 0


def test_loss_at_the_ends_of_the_band_is_the_level_above_the_best(fitted):
    level = 0.01
    row = least_regret(fitted, [BUDGET], within=level, **ONE).iloc[0]
    ends = regret_curve(fitted, [BUDGET], params=[row["safe_low"], row["safe_high"]], **ONE)
    assert ends["expected_regret"].to_numpy() == pytest.approx(level, rel=0.02)
    assert row["band_low_q95"] < row["params"] < row["band_high_q5"]
    wider = least_regret(fitted, [BUDGET], within=2 * level, **ONE).iloc[0]
    assert wider["band_low_median"] < row["band_low_median"]
    assert wider["band_high_median"] > row["band_high_median"]


def test_a_level_in_percent_is_that_share_of_the_loss(fitted):
    loss = fitted.allocate([BUDGET], **ONE)["loss_median"][0]
    percent = least_regret(fitted, [BUDGET], within="0.5%", **ONE).iloc[0]
    absolute = least_regret(fitted, [BUDGET], within=0.005 * loss, **ONE).iloc[0]
    assert percent["band_low_median"] == pytest.approx(absolute["band_low_median"], rel=0.01)


def test_the_least_place_of_a_parabola_is_found_between_grid_points():
    x = np.linspace(0.0, 1.0, 11)
    true = np.array([0.234, 0.5, -1.0])
    place, value = least((x - true[:, None]) ** 2 + 3.0, x)
    assert place == pytest.approx([0.234, 0.5, 0.0])
    assert value == pytest.approx([3.0, 3.0, 4.0])
    broken = np.where(x < 0.35, np.inf, (x - 0.2) ** 2)[None]
    assert least(broken, x)[0] == pytest.approx([0.4])  # next to what cannot be had


def test_band_ends_are_linear_between_points_and_stop_at_the_grid():
    x = np.linspace(-1.0, 1.0, 21)
    low, high = band(np.abs(x)[None], 0.55, x)
    assert (low[0], high[0]) == (pytest.approx(-0.55), pytest.approx(0.55))
    low, high = band(np.abs(x)[None], 5.0, x)
    assert (low[0], high[0]) == (-1.0, 1.0)
    assert np.isnan(band(np.abs(x)[None] + 1.0, 0.5, x)).all()


@pytest.mark.parametrize("bad", ["", "much", "0", "-1%", "nan", "1%%"])
def test_levels_that_are_none_are_refused(bad):
    with pytest.raises(InputError, match="within"):
        check_level(bad)


def test_bad_questions_are_one_clear_error(fitted):
    with pytest.raises(InputError, match="params: must be positive"):
        regret_curve(fitted, [BUDGET], params=[-1.0])
    with pytest.raises(InputError, match="finer than the grid") as error:
        least_regret(fitted, [BUDGET], within=1e-14)
    wider = error.value.hint.split()[-1].rstrip(".")
    assert least_regret(fitted, [BUDGET], within=wider)["band_low_median"].notna().all()


def test_a_level_finer_than_the_first_grid_has_a_narrow_band(fitted):
    bands = [least_regret(fitted, [BUDGET], within=w) for w in ("0.1%", "0.001%")]
    wide, narrow = (np.log(b["band_high_median"] / b["band_low_median"]) for b in bands)
    # The valley is a parabola near its bottom: a hundredth of the level is a tenth of the width.
    assert (narrow / wide).to_numpy() == pytest.approx(0.1, rel=0.25)


def test_a_draw_whose_optimum_is_off_the_grid_widens_it(fitted, monkeypatch):
    from allometry.decisions import grids

    monkeypatch.setattr(grids, "FIRST_WIDTH", 1.0)
    monkeypatch.setattr(grids, "WIDENINGS", 1)
    found = least_regret(fitted, [BUDGET], within="0.0001%")
    assert (found["band_low_q5"] < found["band_high_q95"]).all()
