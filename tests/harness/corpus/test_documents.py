import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from allometry.errors import InputError
from allometry.harness.corpus import documents
from allometry.harness.corpus.documents import in_validation, input_files, read_pieces


def texts(path, **options):
    return [piece.text for piece in read_pieces(input_files([path]), **options)]


def test_a_separator_line_ends_a_document(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n<|endoftext|>\n<|endoftext|>\nthree")
    pieces = list(read_pieces([path]))
    assert [piece.text for piece in pieces] == ["one\ntwo\n", "three"]
    assert len({piece.group for piece in pieces}) == 2


def test_a_long_text_comes_in_pieces_of_one_document(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "PIECE_CHARACTERS", 10)
    path = tmp_path / "a.txt"
    content = "0123456\n" * 5 + "a line that is longer than a piece\nend"
    path.write_text(content)
    pieces = list(read_pieces([path]))
    assert "".join(piece.text for piece in pieces) == content
    assert [piece.starts for piece in pieces] == [True] + [False] * (len(pieces) - 1)
    assert [piece.ends for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert len({piece.group for piece in pieces}) == 1


def test_text_jsonl_gzip_and_parquet_give_the_same_documents(tmp_path):
    wanted = ["first\n", "zweite, größer\n", "third\n"]
    (tmp_path / "a.txt").write_text("<|endoftext|>\n".join(wanted))
    lines = "".join(json.dumps({"text": text, "n": 1}) + "\n" for text in wanted)
    (tmp_path / "b.jsonl").write_text(lines)
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    pq.write_table(pa.table({"text": wanted, "n": [1, 2, 3]}), tmp_path / "d.parquet")
    for name in ("a.txt", "b.jsonl", "c.jsonl.gz", "d.parquet"):
        assert texts(tmp_path / name) == wanted, name
    assert texts(tmp_path) == wanted * 4


def test_split_by_groups_documents(documents):
    groups = {piece.group for piece in read_pieces([documents], split_by="topic")}
    assert groups == {f"topic {i}" for i in range(20)}


def test_the_validation_share_of_groups_is_near_the_fraction():
    held_out = sum(in_validation(f"group {i}", 0.1) for i in range(5000))
    assert abs(held_out - 500) < 5 * (5000 * 0.1 * 0.9) ** 0.5  # five standard deviations


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.txt", None, "no such file"),
        ("a.zip", b"x", "cannot read files of kind '.zip'"),
        ("a.txt", b"\xff\xfe", "not UTF-8"),
        ("a.jsonl", b'{"text": "x"}\nnot json\n', "row 1: not JSON"),
        ("a.jsonl", b'{"body": "x"}\n', "row 0 has no text field 'text'; found body"),
        ("a.jsonl", b"[1]\n", "row 0 has no text field"),
        ("a.jsonl", b'{"text": null}\n', "row 0: field 'text' is null, not text"),
        ("a.jsonl.gz", b"\x1f\x8bxx", "a.jsonl.gz"),
        ("a.txt.gz", gzip.compress(b"x", mtime=0)[:10] + b"\xff" * 20, "damaged gzip file"),
        ("a.parquet", b"x", "not a Parquet file"),
    ],
)
def test_a_bad_input_is_named(tmp_path, name, content, said):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said) as error:
        texts(path)
    assert name in str(error.value)


def test_a_parquet_file_that_is_damaged_inside_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [str(i) * 50 for i in range(2000)]}), path)
    content = bytearray(path.read_bytes())
    content[100:4000] = b"\xff" * 3900
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.parquet: damaged Parquet file"):
        texts(path)


def test_a_parquet_file_without_the_column_lists_what_it_has(tmp_path):
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="no column text; found body"):
        texts(tmp_path / "a.parquet")
