"""Atomic writes of the harness, hashes, and full disks said in one line."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from allometry import files
from allometry.errors import InputError, RunError
from allometry.files import TEMPORARY

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; put it in the place of `path` when the block succeeds.

    Raises
    ------
    RunError
        If the disk is full or the file size limit is met; `path` is as it was before.
    """
    with no_space_is_one_line(path), files.replacing(path) as partial, partial.open("wb") as file:
        yield file


@contextmanager
def no_space_is_one_line(path: Path) -> Iterator[None]:
    """Turn the operating system's "no space left" into a RunError that names the file."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        what = f"cannot write: {os.strerror(error.errno or 0)}"
        hint = "Free some space and give the same command again; it goes on where it stopped."
        raise RunError(what, where=str(path), hint=hint) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with replacing(path) as file:
        file.write(content)


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file atomically; keys keep their order, NaN is refused."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    InputError
        If it is missing, cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError("no such file", where=str(path)) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except ValueError as error:
        raise InputError(f"not valid JSON: {error}", where=str(path)) from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_temporary_files(folder: Path) -> None:
    """Remove what killed writers left in a folder."""
    for path in folder.glob(f"{TEMPORARY}*"):
        path.unlink(missing_ok=True)
