"""Whether a posterior that was read from a file is whole, and of the law that it names."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from allometry.errors import InputError
from allometry.inference.checksums import HINT, require_as_written
from allometry.inference.record import Record
from allometry.laws import Law

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "posterior": ("theta", "drift", "log_noise", "log_off_valley"),
    "constant_data": ("params", "tokens", "flops", "group_index"),
    "observed_data": ("loss",),
    "sample_stats": ("diverging",),
}
"""Group of the tree -> variables that every decision may read."""


def require_intact(tree: xr.DataTree, record: Record, law: Law, *, where: str) -> None:
    """Refuse a tree that lacks a variable, does not fit its record or its law, or was changed.

    Raises
    ------
    InputError
        One line that says what is wrong with the file.
    """
    if wrong := _missing(tree) or _contradiction(tree, record, law):
        raise InputError(wrong, where=where, hint=HINT)
    require_as_written(tree, where=where)


def _missing(tree: xr.DataTree) -> str:
    for group, names in REQUIRED.items():
        if group not in tree.children:
            return f"group {group} is missing"
        if absent := [name for name in names if name not in tree[group].data_vars]:
            return f"{group} lacks {', '.join(absent)}"
    # Published coefficients have other names in each law; the prior's draws have all of them.
    expected = tree["prior"].data_vars if "prior" in tree.children else ()
    if absent := [str(name) for name in expected if name not in tree["posterior"].data_vars]:
        return f"posterior lacks {', '.join(absent)}"
    return ""


def _contradiction(tree: xr.DataTree, record: Record, law: Law) -> str:
    theta, data = tree["posterior"]["theta"], tree["constant_data"]
    if theta.dims != ("chain", "draw", "coefficient", "group"):
        return f"theta has dimensions {', '.join(map(str, theta.dims))}"
    names = tuple(map(str, theta["coefficient"].to_numpy()))
    if names != law.names:
        return f"coefficients {', '.join(names)}; law {law.name} has {', '.join(law.names)}"
    if absent := [name for name in record.by if name not in tree["posterior"].coords]:
        return f"posterior lacks group columns {', '.join(absent)}"
    if not np.isfinite(theta.to_numpy()).all():
        return "theta holds draws that are not finite"
    if undefined := [
        str(name) for name, v in tree["posterior"].data_vars.items() if v.isnull().any()
    ]:
        return f"{', '.join(undefined)} of posterior: draws that are no numbers"
    index = data["group_index"].to_numpy()
    if not ((index >= 0) & (index < theta.sizes["group"])).all():
        return f"group_index is not within the {theta.sizes['group']} group(s)"
    if tree["observed_data"].sizes.get("run") != len(index):
        return "observed_data and constant_data hold different runs"
    return ""
