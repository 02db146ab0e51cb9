import pandas as pd
import pytest

from allometry.errors import InputError
from allometry.observations.points import check_points, read_points


def written(folder, text):
    path = folder / "points.csv"
    path.write_text(text)
    return path


def test_points_are_read_with_the_names_and_units_of_a_runs_table(tmp_path):
    path = written(tmp_path, "n_params,training_tokens,arch,seq_len\n1.5B,3e10,mamba,2048\n")
    points = read_points(path)
    assert points.to_dict("records") == [
        {"params": 1.5e9, "tokens": 3e10, "architecture": "mamba", "context_length": 2048}
    ]
    path = written(tmp_path, "size,d\n1e9,3e10\n")
    assert read_points(path, aliases={"size": "params"})["params"].tolist() == [1e9]


def test_what_no_run_can_have_is_one_error_with_the_file_and_the_row(tmp_path):
    path = written(tmp_path, "params,tokens\n1e9,lots\n-1,1e9\n")
    with pytest.raises(InputError, match=r"tokens is not a number, got 'lots'.*row 0") as error:
        read_points(path)
    assert str(path) in str(error.value)
    assert "params must be positive and finite, got -1 (row 1)" in str(error.value)
    with pytest.raises(InputError, match="no column tokens; found params"):
        read_points(written(tmp_path, "params\n1e9\n"))
    with pytest.raises(InputError, match="params must lie between"):
        check_points(pd.DataFrame({"params": [1e300], "tokens": [1e9]}))
