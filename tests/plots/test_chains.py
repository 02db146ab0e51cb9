import numpy as np
import pytest

from allometry.plots.chains import RANK_LEVEL, plot_chains, rank_band


@pytest.mark.parametrize("chains", [2, 4, 8])
def test_the_band_holds_chains_that_agree_and_no_others(chains):
    rng, draws, studies = np.random.default_rng(chains), 200, 300
    places = np.arange(1, draws + 1) / draws

    def held(shift):
        found = 0
        for _ in range(studies):
            ranks = rng.standard_normal((chains, draws))
            ranks[0] += shift
            ranks = ranks.ravel().argsort().argsort().reshape(ranks.shape) / ranks.size
            counts = np.stack([np.searchsorted(np.sort(r), places, side="right") for r in ranks])
            found += np.abs(counts / draws - places).max() < rank_band(chains, draws)
        return found / studies

    assert held(0.0) >= RANK_LEVEL
    assert held(0.8) < 0.05


def test_the_band_of_rank_plots_is_that_of_the_chains(fitted):
    figure = plot_chains(fitted, "rank")
    chains, draws = (fitted.idata["posterior"].sizes[name] for name in ("chain", "draw"))
    drawn = [ax for ax in figure.axes if ax.lines]
    assert drawn
    for ax in drawn:
        (band,) = ax.patches
        assert band.get_height() == pytest.approx(2 * rank_band(chains, draws))
        low, high = ax.get_ylim()
        assert band.get_height() > 0.3 * (high - low)  # lines are not lost in it, nor it in them
