"""Registered tables by name: where they are, and how to get those that are not here."""

from pathlib import Path

from allometry.errors import InputError
from allometry.observations.catalogue import TABLES
from allometry.observations.registry import cache_folder, locate, not_here, registered, verify


def find_table(name: str, *, folder: Path | None = None) -> Path | None:
    """Path of a registered table, or None where it is not on this machine.

    Parameters
    ----------
    name : str
        A key of `TABLES`.
    folder : Path, optional
        The only folder to look into. Default: the folder $ALLOMETRY_DATA names, the project's
        ``data/`` for bundled tables, then the per-user cache.
    """
    return locate(registered(name, TABLES), folder=folder)


def table_path(name: str, *, folder: Path | None = None) -> Path:
    """Path of a registered table whose bytes are as registered.

    Raises
    ------
    InputError
        If it is not on this machine (the hint says how to get it), or was changed.
    """
    entry = registered(name, TABLES)
    path = locate(entry, folder=folder)
    if path is None:
        raise not_here(entry, folder=folder)
    return verify(entry, path)


def fetch_table(
    name: str, *, mirror: str | None = None, folder: Path | None = None, progress: bool = False
) -> Path:
    """Path of a registered table, downloaded into the cache if a mirror has it.

    Most tables are derived from what their authors published, so no public address serves these
    very bytes. A `mirror` is any address under which somebody keeps the files by name; what comes
    from it is taken only if its sha256 is the registered one.

    Parameters
    ----------
    name : str
        A key of `TABLES`.
    mirror : str, optional
        Address of a folder, http or https.
    folder : Path, optional
        Where to look and to write; default as in `find_table`, writing to the cache.
    progress : bool
        Show a progress bar on stderr.

    Raises
    ------
    InputError
        If the table is not here and no mirror is given (the hint says how to make it), or the
        mirror fails or serves other bytes.
    """
    entry = registered(name, TABLES)
    if (path := locate(entry, folder=folder)) is not None:
        return verify(entry, path)
    if mirror is None:
        raise not_here(entry, folder=folder)
    import pooch  # loads requests: only when something is downloaded
    import requests

    address = f"{mirror.rstrip('/')}/{entry.file}"
    downloader = pooch.HTTPDownloader(progressbar=progress, timeout=30)
    try:
        fetched = pooch.retrieve(
            address,
            known_hash=f"sha256:{entry.sha256}",
            path=folder or cache_folder(),
            fname=entry.file,
            downloader=downloader,
        )
    except (ValueError, OSError, requests.RequestException) as error:
        hint = entry.upstream or "Check the address."
        raise InputError(f"cannot be fetched: {error}", where=address, hint=hint) from error
    return Path(fetched)
