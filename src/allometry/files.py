"""Files that are whole or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from allometry.errors import InputError

TEMPORARY = ".tmp-"
"""Prefix of files that a killed process may leave behind; nobody reads them."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Path of a temporary file beside `path` that takes its place once it is on the disk.

    The folder is made if it is missing. Where the block fails, `path` is as it was before.
    """
    partial = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        with suppress(OSError):  # a folder that cannot be written has no partial file
            partial.unlink()


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """`replacing`, for what a user asked for.

    Raises
    ------
    InputError
        If the place cannot be written.
    """
    try:
        with replacing(path) as partial:
            yield partial
    except OSError as error:
        what = f"cannot be written: {error.strerror or error}"  # str() names the partial file
        raise InputError(what, where=str(path)) from error


def check_writable(path: Path) -> None:
    """Refuse a place that cannot be written, before hours of work are done for it.

    Nothing is left behind: a folder that is missing is made when the file is written.

    Raises
    ------
    InputError
        If `path` is a folder, or nothing can be written beside it.
    """
    if path.is_dir():
        raise InputError("is a folder", where=str(path), hint="Name a file in it.")
    probe = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    missing = [folder for folder in path.absolute().parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
        with suppress(OSError):  # another process began to write there
            for folder in missing:
                folder.rmdir()
    except OSError as error:
        what = f"cannot be written: {error.strerror or error}"
        raise InputError(what, where=str(path), hint="Name another place.") from error


def check_folder(folder: Path) -> None:
    """`check_writable` of a folder that files are to be written into; it may be missing.

    Raises
    ------
    InputError
        If it is a file, or nothing can be written in it.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError("is a file", where=str(folder), hint="Name a folder.")
    try:
        check_writable(folder / "file")
    except InputError as error:
        raise InputError(error.what, where=str(folder), hint=error.hint) from error
