"""The registry's machinery: what an entry says, where its file lies, how it is fetched."""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Literal

import pandas as pd

from allometry.errors import InputError

DATA_VARIABLE = "ALLOMETRY_DATA"
"""Environment variable naming a folder of tables that is looked into before the cache."""


def _unchanged(table: pd.DataFrame) -> pd.DataFrame:
    return table


@dataclass(frozen=True, kw_only=True, slots=True)
class Preparation:
    """What `read_runs` does to a table beyond reading it.

    Attributes
    ----------
    aliases : dict of str to str
        Columns read under another name.
    exclude : tuple of (str, str)
        Conditions whose rows are left out, each with its reason.
    by : tuple of str
        Group columns, where they are not architecture and context length.
    loss_unit : str
        Unit of `loss`.
    notes : tuple of str
        What a person must know before a fit; they become warnings.
    repeated : str
        Why runs that appear more than once are no error: the first is kept, this is the reason
        recorded for the others. Empty: they are an error.
    derive : callable
        DataFrame -> DataFrame, adds columns that follow from others.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    exclude: tuple[tuple[str, str], ...] = ()
    by: tuple[str, ...] = ()
    loss_unit: str = "nats per token"
    notes: tuple[str, ...] = ()
    repeated: str = ""
    derive: Callable[[pd.DataFrame], pd.DataFrame] = _unchanged


@dataclass(frozen=True, kw_only=True, slots=True)
class RegisteredTable:
    """One public or bundled table.

    Attributes
    ----------
    name, file : str
        What it is called; the file's name in the cache or the data folder.
    kind : {"runs", "curves", "latency"}
        What a row is.
    description, source, paper, citation, licence : str
        What it holds; upstream repository with commit; arXiv number; how to cite; as stated.
    sha256 : str
        Of the file's bytes.
    rows : int
        Rows of the file, before preparation.
    hint : str
        What to do with it, where `read_runs` is not the way.
    upstream : str
        How to get the original where this very file cannot be downloaded.
    bundled : bool
        Whether it comes with the project, under ``data/``.
    prepare : Preparation
        How its rows are made ready for a fit.
    """

    name: str
    file: str
    kind: Literal["runs", "curves", "latency"] = "runs"
    description: str
    source: str
    paper: str
    citation: str
    licence: str
    sha256: str
    rows: int
    hint: str = ""
    upstream: str = ""
    bundled: bool = False
    prepare: Preparation = field(default_factory=Preparation)


def registered(name: str, tables: Mapping[str, RegisteredTable]) -> RegisteredTable:
    """Entry of a name, or an `InputError` that lists the names."""
    if name in tables:
        return tables[name]
    what = f"no registered table {name!r}; there are {', '.join(tables)}"
    raise InputError(what, where="data registry", hint="See allometry data list.")


def locate(entry: RegisteredTable, *, folder: Path | None = None) -> Path | None:
    """First place an entry's file lies: `folder`, else $ALLOMETRY_DATA, the project, the cache."""
    return next((place for place in _places(entry, folder) if place.is_file()), None)


def verify(entry: RegisteredTable, path: Path) -> Path:
    """Path again, if its bytes have the sha256 that the registry states."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest == entry.sha256:
        return path
    what = f"sha256 is {digest[:12]}..., but that of {entry.name} is {entry.sha256[:12]}..."
    hint = "Remove it and fetch it again, or read it by its path to use it as it is."
    raise InputError(what, where=str(path), hint=hint)


def cache_folder() -> Path:
    """Per-user cache of fetched tables, as pooch chooses it for this system."""
    import pooch  # only where it is needed: it loads requests

    return Path(pooch.os_cache("allometry"))


def not_here(entry: RegisteredTable, *, folder: Path | None = None) -> InputError:
    """Make the error for a table whose file is nowhere, with the honest way to get it."""
    looked = ", ".join(str(place.parent) for place in _places(entry, folder))
    hint = f"Put {entry.file} into a folder and set {DATA_VARIABLE} to it. {entry.upstream}".strip()
    what = f"{entry.file} is not on this machine; looked in {looked}"
    return InputError(what, where=entry.name, hint=hint)


def _places(entry: RegisteredTable, folder: Path | None) -> list[Path]:
    if folder is not None:
        return [folder / entry.file]
    # The one environment variable of this room: a name has no other way to say where its file is.
    named = os.environ.get(DATA_VARIABLE)
    places = [Path(named) / entry.file] if named else []
    if entry.bundled:
        places.append(bundled_folder() / entry.file)
    return [*places, cache_folder() / entry.file]


def bundled_folder() -> Path:
    """Folder ``data/`` of a checkout, beside ``src/``; an installed wheel has none."""
    return Path(str(resources.files("allometry"))).parent.parent / "data"
