"""Tables onto disk: whole or not at all."""

from pathlib import Path

import pandas as pd

from allometry.errors import InputError
from allometry.files import writing


def write_table(table: pd.DataFrame, path: Path) -> Path:
    """Write a table as CSV, Parquet or JSON lines, after the file's ending; atomically.

    Parameters
    ----------
    table : DataFrame
        Written without its index; floats in full precision.
    path : Path
        Ends in ``.csv``, ``.csv.gz``, ``.parquet`` or ``.jsonl``. Its folder is made if missing;
        a file that is there is replaced only once the new one is complete.

    Raises
    ------
    InputError
        If the ending is another, or the place cannot be written.
    """
    kind = table_ending(path)
    with writing(path) as partial:
        _write(table, partial, kind)
    return path


def table_ending(path: Path) -> str:
    """The ending that says how a table is written, or an `InputError`."""
    kind = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    if kind not in (".csv", ".csv.gz", ".parquet", ".jsonl"):
        what = f"cannot write {kind or 'a file without an ending'}"
        hint = "Name the output .csv, .csv.gz, .parquet or .jsonl."
        raise InputError(what, where=str(path), hint=hint)
    return kind


def _write(table: pd.DataFrame, path: Path, kind: str) -> None:
    if kind == ".parquet":
        table.to_parquet(path, index=False)
    elif kind == ".jsonl":
        table.to_json(path, orient="records", lines=True, double_precision=15)
    else:
        compression = {"method": "gzip", "mtime": 0} if kind == ".csv.gz" else None
        table.to_csv(path, index=False, lineterminator="\n", compression=compression)
