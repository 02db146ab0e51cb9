"""Text, JSONL and Parquet files as one stream of pieces of documents, in constant memory."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import pyarrow.parquet as pq

from allometry.errors import InputError

SEPARATOR = "<|endoftext|>"
"""A line of this, alone, ends a document in a text file. Without it the file is one document."""
PIECE_CHARACTERS = 1 << 20
"""Longer documents of text files come in pieces of about this, cut at a line's end."""

_TEXT = {".txt", ".text", ".md", ".rst"}
_LINES = {".jsonl", ".ndjson"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A document, or a part of a long one.

    Attributes
    ----------
    group : str
        What must not be torn between training and validation: the document, or a field of it.
    text : str
        May be empty in the last piece of a document.
    starts, ends : bool
        Whether a document begins or is complete with this piece.
    """

    group: str
    text: str
    starts: bool = True
    ends: bool = True


def input_files(inputs: Sequence[Path]) -> tuple[Path, ...]:
    """Files behind the given files and folders, sorted within each folder.

    Raises
    ------
    InputError
        If an input does not exist, has a kind that is not read, or a folder holds none.
    """
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.is_file() and _kind(file))
            if not found:
                raise InputError("no text, JSONL or Parquet file in this folder", where=str(path))
            files += found
        elif not path.exists():
            raise InputError("no such file or folder", where=str(path))
        elif not _kind(path):
            hint = "Read are .txt .text .md .rst .jsonl .ndjson (each also .gz) and .parquet."
            raise InputError(
                f"cannot read files of kind {path.suffix!r}", where=str(path), hint=hint
            )
        else:
            files.append(path)
    return tuple(files)


def read_pieces(
    files: Sequence[Path], *, text_field: str = "text", split_by: str | None = None
) -> Iterator[Piece]:
    """Pieces of every document of the files, in order.

    Parameters
    ----------
    files : sequence of Path
        As `input_files` gives them.
    text_field : str
        Field (JSONL) or column (Parquet) of the text.
    split_by : str, optional
        Field whose value is the piece's `group`; by default each document is its own group.

    Raises
    ------
    InputError
        Naming file and row, if a row has no such field or a file cannot be decoded.
    """
    for file in files:
        kind = _kind(file)
        if kind == "text":
            yield from _read_text(file)
        else:
            rows = _parquet_rows(file, text_field, split_by) if kind == "parquet" else _rows(file)
            for number, row in rows:
                piece = _piece(row, f"{file.name}:{number}", file, number, text_field, split_by)
                if piece.text:
                    yield piece


def in_validation(group: str, fraction: float) -> bool:
    """Whether a group belongs to the validation split: by its hash, so order does not matter."""
    digest = hashlib.sha256(group.encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2.0**64


def _kind(path: Path) -> str:
    suffixes = path.suffixes[:-1] if path.suffix == ".gz" else path.suffixes
    suffix = suffixes[-1].lower() if suffixes else ""
    if suffix in _TEXT:
        return "text"
    if suffix in _LINES:
        return "jsonl"
    return "parquet" if path.suffix == ".parquet" else ""


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return cast(TextIO, gzip.open(path, "rt", encoding="utf-8", newline="\n"))
    return path.open(encoding="utf-8", newline="\n")


def _read_text(path: Path) -> Iterator[Piece]:
    number, starts = 0, True
    lines: list[str] = []
    size = 0
    with _open(path) as file:
        while line := _next_line(file, path):
            if line.rstrip("\r\n") == SEPARATOR:
                if lines or not starts:
                    yield Piece(group=f"{path.name}:{number}", text="".join(lines), starts=starts)
                number, starts, lines, size = number + 1, True, [], 0
                continue
            lines.append(line)
            size += len(line)
            if size >= PIECE_CHARACTERS:
                text, group = "".join(lines), f"{path.name}:{number}"
                yield Piece(group=group, text=text, starts=starts, ends=False)
                starts, lines, size = False, [], 0
    if lines or not starts:
        yield Piece(group=f"{path.name}:{number}", text="".join(lines), starts=starts)


def _next_line(file: TextIO, path: Path) -> str:
    try:
        return file.readline(PIECE_CHARACTERS)
    except UnicodeDecodeError as error:
        hint = "Convert it first: iconv -f ENCODING -t UTF-8."
        raise InputError(f"not UTF-8 text: {error}", where=str(path), hint=hint) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"damaged gzip file: {error}", where=str(path)) from error


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with _open(path) as file:
        number = 0
        while parts := _whole_line(file, path):
            if parts.strip():
                try:
                    row = json.loads(parts)
                except ValueError as error:
                    raise InputError(f"row {number}: not JSON: {error}", where=str(path)) from error
                yield number, row
            number += 1


def _whole_line(file: TextIO, path: Path) -> str:
    line = _next_line(file, path)
    while line and not line.endswith("\n") and (more := _next_line(file, path)):
        line += more
    return line


def _parquet_rows(
    path: Path, text_field: str, split_by: str | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        table = pq.ParquetFile(path)
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise InputError(f"not a Parquet file: {error}", where=str(path)) from error
    columns = [text_field, *([split_by] if split_by else [])]
    if missing := [name for name in columns if name not in table.schema_arrow.names]:
        what = f"no column {', '.join(missing)}; found {', '.join(table.schema_arrow.names)}"
        raise InputError(what, where=str(path), hint="Name it with --text-field or --split-by.")
    number = 0
    batches = table.iter_batches(batch_size=256, columns=columns)
    while rows := _next_rows(batches, path):
        for row in rows:
            yield number, row
            number += 1


def _next_rows(batches: Iterator[Any], path: Path) -> list[dict[str, Any]]:
    # Of the next batch that has any; empty at the end.
    try:
        return next((rows for batch in batches if (rows := batch.to_pylist())), [])
    except (OSError, ValueError) as error:
        raise InputError(f"damaged Parquet file: {error}", where=str(path)) from error


def _piece(
    row: Any, name: str, path: Path, number: int, text_field: str, split_by: str | None
) -> Piece:
    fields = row if isinstance(row, dict) else {}
    text = fields.get(text_field)
    group = name if split_by is None else fields.get(split_by)
    if not isinstance(text, str) or group is None:
        missing = split_by if isinstance(text, str) else text_field
        what = f"row {number} has no text field {missing!r}; found {', '.join(fields) or 'none'}"
        if missing in fields:
            value = json.dumps(fields[missing], default=str)
            what = f"row {number}: field {missing!r} is {value[:40]}, not text"
        raise InputError(what, where=str(path), hint="Name it with --text-field or --split-by.")
    return Piece(group=str(group), text=text)
