import dataclasses
import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from allometry.errors import InputError
from allometry.observations import TABLES, fetch_table, find_table, table_path

QUIET = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *args: None})
CONTENT = b"params,tokens,loss\n1e8,2e9,3.1\n"


@pytest.fixture
def entry(monkeypatch):
    """A table of the registry whose bytes this test has."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    original = TABLES["chinchilla"]
    table = dataclasses.replace(original, name="mine", file="mine.csv", sha256=digest)
    monkeypatch.setitem(TABLES, "mine", table)
    return table


@pytest.fixture
def mirror(tmp_path):
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / "mine.csv").write_bytes(CONTENT)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QUIET, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


def test_every_entry_says_whose_it_is():
    for entry in TABLES.values():
        assert all([entry.description, entry.source, entry.citation, entry.licence, entry.upstream])
        assert len(entry.sha256) == 64
        assert entry.bundled or "commit" in entry.source


def test_the_registered_bytes_are_those_at_hand(public):
    for name, entry in TABLES.items():
        path = public(name)  # verifies the sha256
        rows = path.read_text().count("\n") - 1 if path.suffix == ".csv" else entry.rows
        assert rows == entry.rows


def test_a_table_is_looked_for_in_the_named_folder_first(entry, tmp_path, monkeypatch):
    monkeypatch.setenv("ALLOMETRY_DATA", str(tmp_path / "env"))
    for folder in ("env", "given"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.csv").write_bytes(CONTENT)
    assert find_table("mine") == tmp_path / "env" / "mine.csv"
    assert find_table("mine", folder=tmp_path / "given") == tmp_path / "given" / "mine.csv"
    assert find_table("mine", folder=tmp_path) is None


def test_a_changed_file_is_not_taken_for_the_registered_one(entry, tmp_path):
    (tmp_path / "mine.csv").write_bytes(CONTENT + b"2e8,4e9,2.9\n")
    with pytest.raises(InputError, match=r"sha256 is .* but that of mine is"):
        table_path("mine", folder=tmp_path)


def test_a_table_that_is_nowhere_says_how_to_get_it(entry, tmp_path):
    with pytest.raises(InputError, match="is not on this machine") as error:
        table_path("mine", folder=tmp_path)
    assert "git clone https://github.com/epoch-research/analyzing-chinchilla" in error.value.hint
    assert "data import" in error.value.hint
    assert "ALLOMETRY_DATA" in error.value.hint


def test_nothing_is_fetched_without_a_mirror(entry, tmp_path):
    with pytest.raises(InputError, match="is not on this machine"):
        fetch_table("mine", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_mirror_fills_the_cache(entry, mirror, tmp_path):
    address, _ = mirror
    cache = tmp_path / "cache"
    path = fetch_table("mine", mirror=address, folder=cache)
    assert path.read_bytes() == CONTENT
    assert fetch_table("mine", folder=cache) == path  # now without the mirror


@pytest.mark.parametrize("case", ["other bytes", "no such file", "no server"])
def test_a_mirror_that_cannot_serve_it_leaves_no_file(case, entry, mirror, tmp_path):
    address, folder = mirror
    if case == "other bytes":
        (folder / "mine.csv").write_bytes(b"something else")
    elif case == "no such file":
        (folder / "mine.csv").unlink()
    else:
        address = "http://127.0.0.1:9"  # the discard port: nobody answers
    cache = tmp_path / "cache"
    with pytest.raises(InputError, match="cannot be fetched"):
        fetch_table("mine", mirror=address, folder=cache)
    assert not (cache / "mine.csv").exists()


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match="no registered table 'x'; there are xlstm"):
        table_path("x")
