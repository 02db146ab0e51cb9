import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allometry.observations import read_runs, robust_exclusions


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), runs=st.integers(10, 60))
def test_clean_runs_are_never_left_out(seed, runs, simulate):
    assert robust_exclusions(simulate(seed=seed, runs=runs)) == []


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), runs=st.integers(30, 60), row=st.integers(3, 26))
def test_a_gross_error_inside_a_group_is_found_alone(seed, runs, row, simulate):
    # 50 %: neighbours scattered over two decades of tokens predict a loss to some 5 %.
    table = simulate(seed=seed, runs=runs)
    table.loc[row, "loss"] *= 1.5
    assert [found.row for found in robust_exclusions(table)] == [row]


def test_a_reason_has_the_figures(clean_runs):
    table = clean_runs.assign(run_id=[f"r{i}" for i in range(30)])
    table.loc[7, "loss"] *= 1.3
    runs = read_runs(table, exclude="outliers")
    assert [(e.row, e.run_id) for e in runs.excluded] == [(7, "r7")]
    assert "is +29" in runs.excluded[0].reason
    assert "off the law of its group" in runs.excluded[0].reason
    assert len(runs.table) == 29


def test_clean_public_runs_stay(public):
    for name, most in {"xlstm": 0, "farseer": 0, "overtraining": 0, "chinchilla": 1}.items():
        public(name)
        assert (
            len(read_runs(name, exclude="outliers").excluded) - len(read_runs(name).excluded)
            == most
        )


def test_a_group_too_small_to_judge_is_left_alone(clean_runs):
    table = clean_runs.head(9).copy()
    table.loc[0, "loss"] *= 2
    assert robust_exclusions(table) == []


@pytest.mark.parametrize("column", ["params", "tokens"])
def test_a_table_on_one_line_is_judged_too(column, clean_runs):
    # One N or one D leaves a coefficient undetermined; the rule must neither fail nor misjudge.
    table = clean_runs.assign(**{column: 1e9})
    loss = 1.8 + 480 * table.params**-0.35 + 2000 * table.tokens**-0.37
    table["loss"] = loss * np.exp(0.003 * np.random.default_rng(1).standard_normal(30))
    assert robust_exclusions(table) == []
    table.loc[4, "loss"] *= 1.3
    assert [found.row for found in robust_exclusions(table)] == [4]


def test_groups_are_judged_apart(clean_runs):
    other = clean_runs.assign(architecture="b", loss=clean_runs["loss"] * 1.3)
    both = pd.concat([clean_runs, other], ignore_index=True)
    assert robust_exclusions(both, by=["architecture"]) == []
