"""Posteriors under other names, or without what one of their parts adds."""

from dataclasses import replace

import xarray as xr

from allometry.inference import Drift


def relabelled(posterior, names):
    """The posterior with other architectures: labels are all that a file can choose freely."""
    dataset = posterior.idata["posterior"].to_dataset()
    changed = {}
    for name in ("architecture", "group"):
        values = [str(v) for v in dataset[name].to_numpy()]
        for old, new in names.items():
            values = [v.replace(old, new) for v in values]
        changed[name] = (dataset[name].dims, values)
    tree = posterior.idata.copy()
    tree["posterior"] = xr.DataTree(dataset.assign_coords(changed))
    parents = tuple(names[p] for p in posterior.record.parents)
    return replace(posterior, idata=tree, record=replace(posterior.record, parents=parents))


def without_discrepancy(posterior):
    """The posterior whose law is exact, with the same draws of its coefficients."""
    return replace(posterior, record=replace(posterior.record, drift=Drift(scale=0.0)))
