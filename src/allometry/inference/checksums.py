"""Checksums of a posterior file's values and record: whether they are those that were written."""

import json
import zlib

import numpy as np
import xarray as xr

from allometry.errors import InputError

ATTRIBUTE = "allometry_checksums"
"""Root attribute: JSON of group/variable -> CRC-32 of its values; absent in files of old.

The texts of the record, root attributes too, are there as ``/name``: not in files of old.
"""

HINT = "The file is damaged or was changed: fit again."


def checksums(tree: xr.DataTree) -> dict[str, str]:
    """CRC-32 of the values of each variable and coordinate, by ``group/name``, and of the record.

    Not HDF5's own fletcher32: it needs chunks, 2 kB more a variable, and passes by strings.
    """
    record = {
        f"/{name}": _crc(text.encode())
        for name, text in tree.attrs.items()
        if isinstance(text, str) and name != ATTRIBUTE
    }
    return record | {
        f"{group}/{name}": _checksum(variable)
        for group, node in tree.children.items()
        for name, variable in node.to_dataset().variables.items()
    }


def _crc(content: bytes) -> str:
    return f"{zlib.crc32(content):08x}"


def _checksum(variable: xr.Variable) -> str:
    values = variable.to_numpy()
    if values.dtype.kind in "biufc":
        content = np.ascontiguousarray(values).tobytes()
    else:
        content = "\0".join(map(str, values.ravel())).encode()
    return _crc(content)


def require_as_written(tree: xr.DataTree, *, where: str) -> None:
    """Refuse a tree whose values or record are not those it was written with.

    Whole groups other than the posterior may be gone. A file without checksums passes.

    Raises
    ------
    InputError
        One line that names what changed.
    """
    known = tree.attrs.get(ATTRIBUTE)
    if known is None:
        return
    try:
        written = dict(json.loads(known))
    except (TypeError, ValueError) as error:
        raise InputError("damaged checksums", where=where, hint=HINT) from error
    found = checksums(tree)
    kept = {"", "posterior", *tree.children}
    absent = [name for name in written if name not in found and name.split("/")[0] in kept]
    if absent:
        raise InputError(f"{_few(absent)} missing", where=where, hint=HINT)
    changed = [name for name, value in found.items() if written.get(name, value) != value]
    if changed:
        what = f"values are not those that were written: {_few(changed)}"
        raise InputError(what, where=where, hint=HINT)


def _few(names: list[str], shown: int = 4) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    told = [f"{name[1:]} of the record" if name[0] == "/" else name for name in names[:shown]]
    return ", ".join(told) + more
