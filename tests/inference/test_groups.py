import numpy as np
import pandas as pd
import pytest

from allometry.errors import InputError
from allometry.inference import group_runs

TABLE = pd.DataFrame(
    {
        "architecture": ["xlstm", "transformer", "xlstm", "transformer"],
        "context_length": [2048, 2048, 8192, 2048],
        "params": 1e8,
    }
)


def test_groups_are_the_cells_that_occur():
    groups = group_runs(TABLE)
    assert groups.names == ("transformer/2048", "xlstm/2048", "xlstm/8192")
    assert groups.index.tolist() == [1, 0, 2, 0]
    assert groups.runs_per_group.tolist() == [2, 1, 1]
    assert groups.parents == ("transformer", "xlstm")
    assert groups.parent.tolist() == [0, 1, 1]
    assert groups.nested
    assert groups.covariate


def test_doublings_are_relative_to_the_geometric_mean_context():
    groups = group_runs(TABLE)
    assert groups.doublings == pytest.approx(np.array([-2 / 3, -2 / 3, 4 / 3]))
    assert np.log2(groups.context_reference) == pytest.approx(11 + 2 / 3)


def test_a_table_without_group_columns_is_one_group():
    groups = group_runs(TABLE[["params"]])
    assert groups.names == ("all",)
    assert not groups.nested
    assert not groups.covariate


def test_one_context_an_architecture_is_not_nested():
    groups = group_runs(TABLE.query("context_length == 2048"))
    assert groups.n_groups == 2
    assert not groups.nested


def test_missing_and_empty_group_columns_are_refused():
    with pytest.raises(InputError, match="no column data to group by"):
        group_runs(TABLE, ["data"])
    with pytest.raises(InputError, match="architecture has empty cells"):
        group_runs(TABLE.assign(architecture=[None, "a", "b", "c"]))
