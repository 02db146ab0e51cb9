import gzip
import hashlib
import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allometry.errors import InputError
from allometry.observations import load_table, write_table

CSV = "params,tokens,loss\n1e8,2e9,3.1\n2e8,4e9,2.9\n"

BAD = {
    "folder.csv": (None, "is a folder, not a table"),
    "absent.csv": ("absent", "no such file"),
    "empty.csv": (b"", "the file is empty"),
    "blank.csv": (b"\n \n", "the file is empty"),
    "header.csv": (b"params,tokens,loss\n", "the table has no rows"),
    "latin.csv": ("name,loss\nMüller,3\n".encode("latin1"), "not UTF-8 text: byte 0xfc"),
    "utf16.csv": (CSV.encode("utf-16"), "not UTF-8 text"),
    "nul.csv": (b"params,loss\n1,\x002\n", "a NUL byte at position 14"),
    "binary.csv": (bytes(range(256)), "not UTF-8 text"),
    "garbage.parquet": (b"PAR1garbage", "not a readable Parquet file"),
    "short.csv.gz": (gzip.compress(CSV.encode() * 50)[:-12], "damaged gzip file"),
    "plain.csv.gz": (CSV.encode(), "damaged gzip file"),
    "sheet.xlsx": (b"PK", "format .xlsx is not known"),
    "nameless": (CSV.encode(), "format without a file ending is not known"),
    "ragged.csv": (b"a,b\n1,2,3\n", "rows have more fields than the header"),
    "ragged2.csv": (b"a,b\n1,2\n1,2,3\n", "not a well-formed table"),
    "twice.csv": (b"loss,loss\n1,2\n", "column 'loss' appears more than once"),
    "bad.jsonl": (b'{"loss": 1}\n{bad\n', r"not valid JSON: .* \(line 2\)"),
    "list.json": (b"[1, 2]", "row 0 is not a JSON object but 1"),
    "deep.json": (b"[" * 100_000, "cannot be read: "),
    "deep.jsonl": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "cannot be read: |nested too"),
    "long.json": (b'[{"loss": ' + b"9" * 5000 + b"}]", "cannot be read: "),
    "text.json": (b'["a"]', "row 0 is not a JSON object but 'a'"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_one_clear_error(name, tmp_path):
    content, message = BAD[name]
    path = tmp_path / name
    if content is None:
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        load_table(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".jsonl"])
@settings(max_examples=20)
@given(
    rows=st.lists(
        st.tuples(
            st.floats(1e-300, 1e300), st.integers(-(2**53), 2**53), st.sampled_from('aéß,;"')
        ),
        min_size=1,
        max_size=8,
    )
)
def test_a_written_table_is_read_back_equal(suffix, rows, tmp_path_factory):
    table = pd.DataFrame(rows, columns=["loss", "count", "name"])
    path = tmp_path_factory.mktemp("tables") / f"table{suffix}"
    write_table(table, path)
    back, digest = load_table(path)
    # JSON lines keep 15 significant digits, the most pandas writes there; the others keep all.
    exact = {"rtol": 1e-14} if suffix == ".jsonl" else {"check_exact": True}
    pd.testing.assert_frame_equal(
        back.astype({"name": object}), table.astype({"name": object}), **exact
    )
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_of_the_header_is_used(separator, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(CSV.replace(",", separator))
    assert list(load_table(path)[0].columns) == ["params", "tokens", "loss"]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(CSV, encoding="utf-8-sig")
    assert load_table(path)[0].columns[0] == "params"


def test_nested_json_becomes_columns_with_slashes(tmp_path):
    path = tmp_path / "table.jsonl"
    path.write_text('{"N": 1, "eval": {"loss": 2.5}}\n')
    assert load_table(path)[0].to_dict("records") == [{"N": 1, "eval/loss": 2.5}]


@pytest.mark.parametrize("orient", ["records", "columns", "split", "list"])
def test_json_as_pandas_writes_it_is_a_table(orient, tmp_path):
    path = tmp_path / "table.json"
    table = pd.DataFrame({"N": [1, 2, 3], "loss": [2.5, 2.25, None]})
    if orient == "list":
        path.write_text(json.dumps({"N": [1, 2, 3], "loss": [2.5, 2.25, None]}, indent=1))
    else:
        table.to_json(path, orient=orient)
    pd.testing.assert_frame_equal(load_table(path)[0], table)


def test_one_object_of_objects_is_one_run(tmp_path):
    path = tmp_path / "table.json"
    path.write_text('{"train": {"loss": 2.5}, "eval": {"loss": 2.75}}')
    assert load_table(path)[0].to_dict("records") == [{"train/loss": 2.5, "eval/loss": 2.75}]


def test_prose_above_the_header_is_no_header(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("# exported on a Sunday\n#\n" + CSV)
    assert list(load_table(path)[0].columns) == ["params", "tokens", "loss"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.parquet"
    write_table(pd.DataFrame({"a": [1]}), path)
    before = path.read_bytes()
    with pytest.raises(Exception, match=r"(?i)convert|conversion|mixed|object"):
        write_table(pd.DataFrame({"a": [1, object()]}), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["table.parquet"]


def test_an_unknown_ending_is_not_written(tmp_path):
    with pytest.raises(InputError, match=r"cannot write \.xlsx"):
        write_table(pd.DataFrame({"a": [1]}), tmp_path / "table.xlsx")


def test_a_place_that_cannot_be_written_is_left_clean(tmp_path):
    (tmp_path / "table.csv").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_table(pd.DataFrame({"a": [1]}), tmp_path / "table.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_a_table_in_utf_16_is_said_to_be_one(tmp_path):
    path = tmp_path / "excel.csv"
    path.write_bytes(CSV.encode("utf-16"))
    with pytest.raises(InputError) as error:
        load_table(path)
    assert "iconv -f utf-16" in error.value.hint


@pytest.mark.parametrize(
    ("text", "loss"),
    [
        ("params;loss\n1e8;3,141\n2e8;2,9\n", [3.141, 2.9]),  # a comma is the decimal mark
        ("params;loss\n1,5;3,141\n", [3.141]),
        ("params;loss\n1e8;3.141\n2e8;2.9\n", [3.141, 2.9]),
        ("params;loss\n1,000,000;3\n2,000;2\n", [3, 2]),  # thousands: left to the reader of cells
        ("params;loss\n1,000;3.5\n", [3.5]),
    ],
)
def test_commas_between_semicolons_are_decimal_marks_unless_points_are(text, loss, tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(text)
    table, _ = load_table(path)
    assert table["loss"].tolist() == loss
    if "1,000" in text:
        assert table["params"].tolist()[0] == text.split("\n")[1].split(";")[0]


def test_named_index_levels_of_a_parquet_file_are_columns(tmp_path):
    path = tmp_path / "runs.parquet"
    table = pd.DataFrame({"params": [1e8], "tokens": [2e9], "loss": [3.0]})
    table.set_index(["params", "tokens"]).to_parquet(path)
    assert load_table(path)[0].to_dict("records") == table.to_dict("records")
