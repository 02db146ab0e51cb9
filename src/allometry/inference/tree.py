"""The ArviZ tree of a posterior, and its file."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from allometry.errors import InputError
from allometry.files import writing
from allometry.inference.checksums import ATTRIBUTE, checksums
from allometry.inference.derive import Arrays, Derived
from allometry.inference.groups import Grouping
from allometry.inference.model import STUDENT_DF, site_shapes
from allometry.inference.nuts import ChainDraws
from allometry.inference.record import Record

SITE_DIMS = {
    "mean": ["coefficient"],
    "log_spread": ["coefficient"],
    "per_doubling": ["coefficient"],
    "log_parent_spread": ["coefficient"],
    "parent": ["coefficient", "parent_level"],
    "noise_offset": ["group"],
    "theta": ["coefficient", "group"],
}
"""Dimensions of the model's sites in the tree; the other sites are scalars."""


def build_tree(
    *,
    posterior: Derived,
    prior: Derived,
    chains: ChainDraws,
    drift: npt.NDArray[np.float64],
    table: pd.DataFrame,
    flops: npt.NDArray[np.float64],
    groups: Grouping,
    coefficient_names: tuple[str, ...],
    law_columns: tuple[str, ...] = (),
    loss_scale: float,
    seed: int,
) -> xr.DataTree:
    """Everything of a fit in the groups that ArviZ knows.

    Draws come as (chain, draw, ...); runs in the order of `table`; loss in the table's unit. Of
    very many runs the groups by run hold evenly spaced draws only.
    """
    n_chains = len(chains.diverging)

    def split(values: Arrays) -> Arrays:
        return {name: part.reshape(n_chains, -1, *part.shape[1:]) for name, part in values.items()}

    def single(values: Arrays) -> Arrays:
        return {name: part[None] for name, part in values.items()}

    def predictive(derived: Derived, stream: int) -> npt.NDArray[Any]:
        rng = np.random.default_rng([seed, stream])
        noise = rng.standard_t(STUDENT_DF, size=derived.log_mean.shape)
        log_loss = derived.log_mean + derived.sd * noise
        # A run far off the valley under a vague prior: beyond what float32 holds.
        return np.asarray(loss_scale * np.exp(np.minimum(log_loss, 80.0)), dtype=np.float32)

    known = {
        name: table[name].to_numpy(dtype=np.float64)
        for name in ("loss_stderr", *law_columns)
        if name in table
    }
    data: dict[str, Any] = {
        "posterior": split(posterior.published | posterior.sites | {"drift": drift}),
        "posterior_predictive": split({"loss": predictive(posterior, 4)}),
        "log_likelihood": split({"loss": posterior.log_likelihood.astype(np.float32)}),
        "sample_stats": {
            "diverging": chains.diverging,
            "n_steps": chains.steps,
            "acceptance_rate": chains.acceptance,
            "energy": chains.energy,
        },
        "prior": single(prior.published | prior.sites),
        "prior_predictive": single({"loss": predictive(prior, 5)}),
        "observed_data": {"loss": table["loss"].to_numpy()},
        "constant_data": {
            "params": table["params"].to_numpy(),
            "tokens": table["tokens"].to_numpy(),
            "flops": flops,
            "group_index": groups.index,
            **known,
        },
    }
    per_group = {name: ["group"] for name in (*posterior.published, "drift")}
    names = ("loss", "params", "tokens", "flops", "group_index", *known)
    per_run = {name: ["run"] for name in names}
    coords = {
        "group": list(groups.names),
        "coefficient": list(coefficient_names),
        "parent_level": list(groups.parents),
        "run": _run_names(table),
    }
    dims = SITE_DIMS | per_group | per_run
    datasets = {name: _dataset(name, values, dims, coords) for name, values in data.items()}
    tree = xr.DataTree.from_dict(datasets)
    return _label_groups(tree, groups.labels if groups.columns else None)


def _dataset(
    group: str,
    values: Mapping[str, npt.NDArray[Any]],
    dims: Mapping[str, list[str]],
    coords: Mapping[str, list[str]],
) -> xr.Dataset:
    """One group of the tree, as `arviz_base.from_dict` makes it (which imports Matplotlib)."""
    sample = [] if "data" in group else ["chain", "draw"]
    variables = {name: ([*sample, *dims.get(name, [])], part) for name, part in values.items()}
    sizes: dict[str, int] = {}
    for names, part in variables.values():
        sizes |= dict(zip(names, np.shape(part), strict=True))
    return xr.Dataset(
        variables,
        coords={name: coords.get(name, np.arange(size)) for name, size in sizes.items()},
        attrs={
            "created_at": datetime.now(UTC).isoformat(),
            "creation_library": "allometry",
            "creation_library_version": version("allometry"),
            "creation_library_language": "Python",
        },
    )


def _run_names(table: pd.DataFrame) -> list[str]:
    if "run_id" in table and table["run_id"].is_unique:
        return table["run_id"].astype(str).tolist()
    return [str(row) for row in range(len(table))]


def _label_groups(tree: xr.DataTree, labels: pd.DataFrame | None) -> xr.DataTree:
    """Put each group column beside the group names, as coordinates."""
    if labels is None:
        return tree
    columns = {
        name: ("group", labels[name].astype(str).to_numpy(dtype=object))
        if labels[name].dtype.kind not in "iuf"
        else ("group", labels[name].to_numpy())
        for name in labels.columns
    }
    for name in tree.children:
        if "group" in tree[name].dims:
            tree[name] = xr.DataTree(tree[name].to_dataset().assign_coords(columns))
    return tree


def site_names(tree: xr.DataTree) -> list[str]:
    """The sampled variables of a posterior tree, without what is derived from them."""
    known = {"log_noise", "log_off_valley", *SITE_DIMS}
    return [str(name) for name in tree["posterior"].data_vars if name in known]


class Attributes(Protocol):
    """A record that can be written into root attributes."""

    def to_attributes(self) -> dict[str, str]:
        """One JSON text for each field."""


def save_tree(tree: xr.DataTree, record: Attributes, path: Path) -> None:
    """Write the tree with its record as one NetCDF file, whole or not at all."""
    labelled = tree.copy()
    labelled.attrs = dict(labelled.attrs) | record.to_attributes()
    labelled.attrs[ATTRIBUTE] = json.dumps(checksums(labelled))
    with writing(path) as partial:
        # Not compressed: draws are noise, of which zlib takes an eighth and half of the time.
        labelled.to_netcdf(partial, engine="h5netcdf")


def load_tree(path: Path) -> tuple[xr.DataTree, Record]:
    """Read a posterior of a loss law that `save_tree` wrote; nothing in it is executed.

    Raises
    ------
    InputError
        If there is no such file, or it is damaged or foreign: one line.
    """
    hint = "Give a file that allometry fit wrote."
    tree = read_tree(path, hint=hint)
    record = Record.from_attributes({str(k): v for k, v in tree.attrs.items()}, source=str(path))
    return tree, record


def read_tree(path: Path, *, hint: str) -> xr.DataTree:
    """Read a NetCDF file with groups into memory.

    Raises
    ------
    InputError
        If there is no such file, or it is damaged: one line with the hint.
    """
    if not path.is_file():
        raise InputError("no such file", where=str(path), hint=hint)
    try:
        with xr.open_datatree(path, engine="h5netcdf") as opened:
            return opened.load()
    except Exception as error:  # h5py, h5netcdf and xarray raise many kinds for a damaged file
        what = "not a NetCDF file that can be read (damaged, or of another kind)"
        raise InputError(what, where=str(path), hint=hint) from error


__all__ = ["build_tree", "load_tree", "read_tree", "save_tree", "site_names", "site_shapes"]
