import json

import pandas as pd
import pytest

from allometry.errors import InputError
from allometry.observations import import_runs, read_runs


def test_epochs_points_become_the_registered_table(public, tmp_path):
    registered = pd.read_csv(public("chinchilla"))
    upstream = registered.rename(columns={"params": "Model Size", "flops": "Training FLOP"})
    path = tmp_path / "svg_extracted_data.csv"
    upstream[["Model Size", "Training FLOP", "loss"]].to_csv(path, index=False)
    runs = import_runs(path)
    for column in ("run_id", "params", "tokens", "flops", "loss", "in_fit_240"):
        assert runs.table[column].tolist() == registered[column].tolist(), column


def test_an_open_lm_record_becomes_the_row_of_the_registered_table(samples, public):
    runs = import_runs(samples / "open_lm")
    row = runs.table.iloc[0].to_dict()
    registered = pd.read_csv(public("overtraining")).set_index("run_id").loc[row["run_id"]]
    for column in set(row) - {"run_id"}:
        assert row[column] == registered[column], column


def test_another_test_set_of_an_open_lm_record_can_be_named(samples):
    runs = import_runs(samples / "open_lm", evaluation="paloma_c4_en")
    assert runs.table["loss"].tolist() == [3.826109914818509]
    with pytest.raises(InputError, match="0 test sets have 'nope' in their names") as error:
        import_runs(samples / "open_lm", evaluation="nope")
    assert "c4_val" in str(error.value)


def test_a_wandb_export_maps_its_columns_and_leaves_out_what_did_not_finish(samples):
    runs = import_runs(samples / "wandb_runs.csv")
    assert runs.table["run_id"].tolist() == ["1a2b3c4d", "3c4d5e6f"]
    assert runs.table["loss"].tolist() == [3.412, 3.051]
    assert runs.table["params"].tolist() == [125829120, 354418688]
    assert runs.table["context_length"].tolist() == [2048, 2048]
    assert [(e.row, e.run_id) for e in runs.excluded] == [(1, "2b3c4d5e")]
    assert "State" in runs.excluded[0].reason


def test_the_documented_api_export_of_wandb_is_unpacked(samples):
    runs = import_runs(samples / "wandb_api.csv", aliases={
        "model/seq_len": "context_length", "model/arch": "architecture"
    })  # fmt: skip
    assert runs.table["run_id"].tolist() == ["fast-sun-12", "blue-fog-10"]
    assert runs.table["architecture"].tolist() == ["llama", "llama"]
    assert runs.table["tokens"].tolist() == [2516582400, 7088373760]


def test_a_hostile_cell_of_an_api_export_is_refused_and_not_run(tmp_path):
    path = tmp_path / "export.csv"
    cell = f"__import__('pathlib').Path({str(tmp_path / 'owned')!r}).touch()"
    pd.DataFrame({"summary": [cell], "config": ["{}"], "name": ["x"]}).to_csv(path)
    with pytest.raises(InputError, match="not a dict of plain values"):
        import_runs(path)
    assert not (tmp_path / "owned").exists()


def test_the_export_of_a_wandb_chart_is_named_as_such(tmp_path):
    path = tmp_path / "chart.csv"
    columns = ["Step", "fast-sun-12 - eval/loss", "fast-sun-12 - eval/loss__MIN"]
    pd.DataFrame([[1, 3.0, 3.0]], columns=columns).to_csv(path, index=False)
    with pytest.raises(InputError, match="the export of a chart"):
        import_runs(path, kind="wandb")


def test_any_other_table_is_read_by_its_column_names(clean_runs, tmp_path):
    path = tmp_path / "mine.csv"
    foreign = clean_runs.rename(columns={"params": "N", "tokens": "D", "flops": "C"})
    foreign.to_csv(path, index=False)
    runs = import_runs(path)
    assert runs.source == str(path)
    pd.testing.assert_frame_equal(runs.table, read_runs(clean_runs).table, check_dtype=False)


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        ("a,b\n1,2\n", "epoch", "no column Model Size, Training FLOP, loss"),
        ("a,b\n1,2\n", "auto", "no column params, tokens, loss"),
        ("a,b\n1,2\n", "excel", "format 'excel' is not known"),
    ],
)
def test_a_source_that_is_not_what_it_is_called_is_refused(content, kind, message, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        import_runs(path, kind=kind)


def test_a_folder_without_records_or_with_others_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no \.json file"):
        import_runs(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps({"name": "x"}))
    with pytest.raises(InputError, match="not an open-lm record"):
        import_runs(tmp_path)
