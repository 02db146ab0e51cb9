"""Runs that differ in their settings alone."""

import numpy as np
import pandas as pd
import pytest

from allometry.observations import TABLES, read_runs


@pytest.fixture
def sweep(simulate):
    """30 runs, each at three learning rates: the second is the best, the others 2 and 4 % worse."""
    clean = simulate(seed=1, runs=30).assign(run_id=[f"r{i}" for i in range(30)])
    parts = [
        clean.assign(
            loss=clean["loss"] * worse, learning_rate=rate, run_id=clean["run_id"] + f"-{rate}"
        )
        for rate, worse in ((1e-3, 1.02), (2e-3, 1.0), (4e-3, 1.04))
    ]
    return pd.concat(parts, ignore_index=True)


def test_a_sweep_over_settings_is_told_and_its_best_runs_are_kept(sweep):
    warned = read_runs(sweep).warnings
    told = [text for text in warned if "--exclude beaten" in text]
    assert len(told) == 1
    assert "90 of 90 runs share params and tokens" in told[0]
    assert "4.0% in the median" in told[0]
    best = read_runs(sweep, exclude="beaten")
    assert set(best.table["learning_rate"]) == {2e-3}
    assert len(best.table) == 30
    assert len(best.excluded) == 60
    assert best.excluded[0].run_id == "r0-0.001"
    assert best.excluded[0].reason.startswith("beaten: loss ")
    assert not any("--exclude beaten" in text for text in best.warnings)


def test_repeated_seeds_are_no_sweep(simulate):
    clean = simulate(seed=2, runs=30)
    rng = np.random.default_rng(0)
    again = clean.assign(loss=clean["loss"] * np.exp(0.003 * rng.normal(size=30)))
    table = pd.concat([clean.assign(seed=0), again.assign(seed=1)], ignore_index=True)
    assert not any("--exclude beaten" in text for text in read_runs(table).warnings)


def test_runs_of_other_groups_do_not_beat_each_other(simulate):
    clean = simulate(seed=3, runs=20)
    worse = clean.assign(loss=clean["loss"] * 1.05, architecture="xlstm")
    table = pd.concat([clean.assign(architecture="transformer"), worse], ignore_index=True)
    assert len(read_runs(table, exclude="beaten").table) == 40


@pytest.mark.parametrize("name", [n for n, entry in TABLES.items() if entry.kind == "runs"])
def test_known_tables_are_no_sweeps(name, public):
    if name != "synthetic":
        public(name)
    assert not any("--exclude beaten" in text for text in read_runs(name).warnings)
