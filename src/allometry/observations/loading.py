"""Bytes on disk to an unchecked DataFrame (CSV, Parquet, JSON lines); a failure is one line."""

import codecs
import csv
import gzip
import hashlib
import io
import json
import re
import warnings
import zlib
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from allometry.errors import InputError

# pandas 3 reads exactly by default and deprecates the argument.
_EXACT: Literal["round_trip"] | None = "round_trip" if pd.__version__ < "3" else None

SUFFIXES = (".csv", ".tsv", ".parquet", ".pq", ".jsonl", ".ndjson", ".json")
"""File endings that can be read; each but Parquet may be followed by ``.gz``."""


def load_table(path: Path) -> tuple[pd.DataFrame, str]:
    """Read a table as it is, and the sha256 of the file.

    Parameters
    ----------
    path : Path
        A file with one of `SUFFIXES`, text in UTF-8. JSON may be one object a line or one list of
        objects; nested objects become columns ``outer/inner``.

    Returns
    -------
    table : DataFrame
        Columns and types as the file has them; at least one row.
    sha256 : str
        Of the file's bytes, as ``sha256sum`` prints it.

    Raises
    ------
    InputError
        If there is no such file, or it is a folder, empty, damaged, not UTF-8, of another format,
        or names a column twice.
    """
    raw = read_bytes(path)
    digest = hashlib.sha256(raw).hexdigest()
    suffix, body = _unpack(path, raw)
    if suffix in (".parquet", ".pq"):
        table = _parse_parquet(body, path)
    elif suffix in (".jsonl", ".ndjson", ".json"):
        table = _parse_json(_decode(body, path), path)
    else:
        table = _parse_csv(_decode(body, path), path, tabs=suffix == ".tsv")
    if table.empty:
        raise InputError("the table has no rows", where=str(path), hint="Is this the right file?")
    return table, digest


def read_bytes(path: Path) -> bytes:
    """Whole file as bytes, or one `InputError` that says why not."""
    where = str(path)
    if path.is_dir():
        hint = "Name a file in it (allometry data import reads some folders)."
        raise InputError("is a folder, not a table", where=where, hint=hint)
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        hint = "Check the path; allometry data list names the tables known by name."
        raise InputError("no such file", where=where, hint=hint) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=where) from error
    if not raw.strip():
        raise InputError("the file is empty", where=where, hint="Is this the right file?")
    return raw


def _unpack(path: Path, raw: bytes) -> tuple[str, bytes]:
    # The table's own suffix, and its bytes uncompressed.
    suffixes = [part.lower() for part in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] == ".gz"
    suffix = ["", *suffixes][-2 if packed else -1]
    if suffix == ".txt":
        suffix = ".csv"
    if suffix not in SUFFIXES:
        what = f"format {suffix or 'without a file ending'} is not known"
        hint = f"Name the file after its format: {', '.join(SUFFIXES)} (and .gz)."
        raise InputError(what, where=str(path), hint=hint)
    if not packed:
        return suffix, raw
    try:
        return suffix, gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        hint = "The download may be cut short; fetch it again."
        raise InputError(f"damaged gzip file ({error})", where=str(path), hint=hint) from error


def _decode(body: bytes, path: Path) -> str:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"not UTF-8 text: byte 0x{body[error.start]:02x} at position {error.start}"
        marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        other = "utf-16" if body.startswith(marks) else "latin1"
        hint = f"Save it as UTF-8, for instance with iconv -f {other} -t utf-8."
        raise InputError(what, where=str(path), hint=hint) from error
    if "\x00" in text:
        what = f"not text: a NUL byte at position {text.index(chr(0))}"
        hint = "A binary file, or UTF-16; save it as UTF-8 text."
        raise InputError(what, where=str(path), hint=hint)
    return text


def _parse_csv(text: str, path: Path, *, tabs: bool) -> pd.DataFrame:
    text = _COMMENTS.sub("", text)
    header = next((line for line in text.splitlines() if line.strip()), "")
    separator = "\t" if tabs else max(",;\t|", key=header.count)
    _refuse_repeated(next(csv.reader([header], delimiter=separator)), path)
    try:
        with warnings.catch_warnings():
            # Rows longer than the header would otherwise be cut with a mere ParserWarning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                io.StringIO(text),
                sep=separator,
                decimal="," if separator == ";" and _has_decimal_commas(text) else ".",
                index_col=False,
                skipinitialspace=True,
                float_precision=_EXACT,
                low_memory=False,
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        reason = " ".join(str(error).split())
        if isinstance(error, pd.errors.ParserWarning):
            reason = "rows have more fields than the header"
        what = f"not a well-formed table: {reason}"
        hint = "Every line needs as many fields as the header; quote fields that hold separators."
        raise InputError(what, where=str(path), hint=hint) from error


_COMMENTS = re.compile(r"\A(?:\s*#[^\n,;\t|]*\n)+")  # lines of prose above the header
_DOT, _COMMA = (
    re.compile(rf'(?mi)(?:^|;)\s*"?[+-]?\d*{mark}\d+(?:e[+-]?\d+)?"?\s*(?=;|$)')
    for mark in (r"\.", ",")
)


def _has_decimal_commas(text: str) -> bool:
    # Spreadsheets of half of Europe write 3,14 between semicolons; "1,000,000" is something else.
    return bool(_COMMA.search(text)) and not _DOT.search(text) and not re.search(r"\d,\d+,\d", text)


def _refuse_repeated(names: list[str], path: Path) -> None:
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        hint = "Give every column its own name."
        what = f"column {', '.join(map(repr, repeated))} appears more than once"
        raise InputError(what, where=str(path), hint=hint)


def _parse_parquet(body: bytes, path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(io.BytesIO(body))
        named = [name for name in table.index.names if name is not None and name not in table]
        if named:
            table = table.reset_index(level=named)
        return table.reset_index(drop=True)
    except (OSError, ValueError) as error:  # pyarrow's errors derive from both
        what = f"not a readable Parquet file: {str(error).splitlines()[0]}"
        raise InputError(what, where=str(path)) from error


def _parse_json(text: str, path: Path) -> pd.DataFrame:
    hint = "One JSON object a line, or one list of objects."
    try:
        rows: Any = _parse_document(text) or _parse_lines(text)
    except json.JSONDecodeError as error:
        what = f"not valid JSON: {error.msg} (line {error.lineno})"
        raise InputError(what, where=str(path), hint=hint) from error
    except (RecursionError, ValueError) as error:  # too deep; an integer of thousands of digits
        raise InputError(f"cannot be read: {error}", where=str(path), hint=hint) from error
    if wrong := [index for index, row in enumerate(rows) if not isinstance(row, dict)]:
        what = f"row {wrong[0]} is not a JSON object but {rows[wrong[0]]!r:.40}"
        raise InputError(what, where=str(path), hint=hint)
    try:
        table: pd.DataFrame = pd.json_normalize(rows, sep="/")
    except RecursionError as error:
        raise InputError("objects are nested too deeply", where=str(path)) from error
    return table


def _parse_document(text: str) -> list[Any] | None:
    """Rows of a text that is one JSON document; None where it is one object a line."""
    if text.lstrip().startswith("["):
        rows: list[Any] = json.loads(text)
        return rows
    try:
        document = json.loads(text)
    except json.JSONDecodeError:
        return None
    if not isinstance(document, dict):
        return None
    return _split_rows(document) or _column_rows(document)


def _split_rows(document: dict[str, Any]) -> list[Any] | None:
    """Rows of {"columns": names, "data": rows of cells}."""
    names, data = document.get("columns"), document.get("data")
    if not isinstance(names, list) or not isinstance(data, list):
        return None
    cells = [row for row in data if isinstance(row, list) and len(row) == len(names)]
    if len(cells) < len(data):
        return None
    return [dict(zip(map(str, names), row, strict=True)) for row in cells]


def _column_rows(document: dict[str, Any]) -> list[Any] | None:
    """Rows of {column: cells}, and of {column: {row number: cell}}, which pandas writes."""
    columns = list(document.values())
    if all(isinstance(c, dict) and all(map(str.isdigit, c)) for c in columns):
        columns = [list(c.values()) for c in columns if c.keys() == columns[0].keys()]
    if len(columns) < len(document) or not all(isinstance(c, list) for c in columns):
        return None
    if len({len(cells) for cells in columns}) != 1:
        return None
    return [dict(zip(document, row, strict=True)) for row in zip(*columns, strict=True)]


def _parse_lines(text: str) -> list[Any]:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise json.JSONDecodeError(error.msg, "\n" * (number - 1), number - 1) from error
    return rows
