"""A posterior with groups that were never run: coefficients, noise, drift and cost of each.

Coefficients come from `allometry.inference.population`; noise and drift are those of one more group
of the study; the cost model goes on in its own way (`allometry.inference.costs.extended_cost`).
"""

import zlib
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from allometry.errors import InputError
from allometry.inference.costs import extended_cost
from allometry.inference.groups import group_name
from allometry.inference.population import new_theta

if TYPE_CHECKING:
    from allometry.inference.posterior import Posterior

Draws = npt.NDArray[np.float64]

STREAM = 12
"""Of the random numbers here; what follows it is the name of what is drawn."""


def extend(posterior: "Posterior", labels: pd.DataFrame) -> "Posterior":
    """The posterior with further groups that were never run.

    Parameters
    ----------
    posterior : Posterior
    labels : DataFrame
        One row a new group, with all group columns.

    Raises
    ------
    InputError
        If a column is missing, a context is not positive, or a group is there already.
    """
    labels = _checked(posterior, labels)
    rows = [
        {str(k): v for k, v in zip(labels.columns, row, strict=True)}
        for row in labels.itertuples(index=False)
    ]
    names = [group_name(row.values()) for row in rows]
    theta = new_theta(posterior, labels)
    new = {
        "theta": theta,
        "drift": _new_drift(posterior, names),
        "noise_offset": _new_noise(posterior, names),
        **_published(posterior, theta),
    }
    tree = posterior.idata.copy()
    tree["posterior"] = xr.DataTree(_with_draws(posterior, labels, names, new))
    tree["constant_data"] = xr.DataTree(_constants(posterior, rows, names))
    cost = extended_cost(posterior.record.cost, posterior.groups, labels)
    return replace(posterior, idata=tree, record=replace(posterior.record, cost=cost))


def _with_draws(
    posterior: "Posterior", labels: pd.DataFrame, names: list[str], new: dict[str, Draws]
) -> xr.Dataset:
    """The posterior's variables with the draws (draw, ..., group) of new groups behind the old."""
    dataset = posterior.idata["posterior"].to_dataset()
    size = dataset.sizes
    if "noise_offset" not in dataset:
        zeros = np.zeros((size["chain"], size["draw"], size["group"]))
        dataset = dataset.assign(noise_offset=(("chain", "draw", "group"), zeros))
    variables: dict[Hashable, Any] = {}
    for name, old in dataset.data_vars.items():
        if "group" not in old.dims:
            variables[name] = old
            continue
        last = old.transpose(..., "group")
        # Of a variable that is not known here nothing is known for a new group.
        unknown = np.full((posterior.n_draws, *last.shape[2:-1], len(names)), np.nan)
        added = new.get(str(name), unknown).reshape(*last.shape[:-1], len(names))
        variables[name] = (last.dims, np.concatenate([last.to_numpy(), added], axis=-1))
    coords: dict[Hashable, Any] = {
        name: coord for name, coord in dataset.coords.items() if "group" not in coord.dims
    }
    coords["group"] = [*map(str, dataset["group"].to_numpy()), *names]
    both = pd.concat([posterior.groups, labels], ignore_index=True)
    for column in posterior.record.by:
        values = both[column].to_numpy()
        coords[column] = ("group", values if values.dtype.kind in "iuf" else values.astype(object))
    return xr.Dataset(variables, coords=coords, attrs=dataset.attrs)


def _checked(posterior: "Posterior", labels: pd.DataFrame) -> pd.DataFrame:
    columns = list(posterior.record.by)
    if not columns:
        what = "the runs were not grouped: there is no population to draw a new group from"
        hint = (
            "Fit again with --by and the columns whose cells are groups, such as --by architecture "
            "context_length (by=[...])."
        )
        raise InputError(what, where=posterior.where, hint=hint)
    if missing := [name for name in columns if name not in labels]:
        raise InputError(f"a new group needs {', '.join(missing)} too", where="group")
    labels = labels[columns].drop_duplicates().reset_index(drop=True)
    if "context_length" in columns:
        contexts = pd.to_numeric(labels["context_length"], errors="coerce").to_numpy(dtype=float)
        bad = ~(np.isfinite(contexts) & (contexts > 0) & (contexts == np.round(contexts)))
        if bad.any():
            shown = ", ".join(map(str, labels["context_length"][bad].unique().tolist()[:5]))
            what = f"context_length must be a whole number of tokens, got {shown}"
            raise InputError(what, where="group")
        labels = labels.assign(context_length=contexts.astype(np.int64))
    known = set(map(str, posterior.idata["posterior"]["group"].to_numpy()))
    names = [group_name(row) for row in labels.itertuples(index=False)]
    if there := [name for name in names if name in known]:
        raise InputError(f"{', '.join(there)} is there already", where="group")
    return labels


def _constants(
    posterior: "Posterior", rows: list[dict[str, object]], names: list[str]
) -> xr.Dataset:
    """Constant data with what unseen groups have instead of runs of their own."""
    largest, smallest = posterior.largest_flops(), posterior.smallest_flops()
    alike = list(posterior.alike())
    for row in rows:
        own = _groups_of(posterior, str(next(iter(row.values()))))
        own = own if len(own) else np.flatnonzero(~posterior.unseen)
        # As far as every group of the architecture was run: a larger one tells of its context only.
        least = int(own[largest[own].argmin()])
        alike.append(least)
        largest = np.append(largest, largest[least])
        smallest = np.append(smallest, smallest[own].min())
    unseen = [*posterior.unseen, *([True] * len(rows))]
    data = posterior.idata["constant_data"].to_dataset()
    data = data.drop_vars([n for n in data.variables if "group" in data[n].dims])
    every = [*map(str, posterior.idata["posterior"]["group"].to_numpy()), *names]
    return data.assign_coords(group=every).assign(
        largest_flops=("group", largest),
        smallest_flops=("group", smallest),
        alike=("group", np.array(alike, dtype=np.int64)),
        unseen=("group", np.array(unseen)),
    )


def _published(posterior: "Posterior", theta: Draws) -> dict[str, Draws]:
    with jax.enable_x64(True):
        by_name = {n: jax.numpy.asarray(theta[:, i]) for i, n in enumerate(posterior.law.names)}
        published = posterior.law.published(by_name, posterior.record.scale)
        return {name: np.asarray(value) for name, value in published.items()}


def _new_noise(posterior: "Posterior", names: Sequence[str]) -> Draws:
    """Log noise of new groups over the common one, (draw, group)."""
    between = posterior.record.priors.noise_between
    if "noise_offset" not in posterior.idata["posterior"]:
        between = between * np.sqrt(2.0)  # the one group's own distance is in its level
    z = [_rng(posterior, "noise", n).normal(size=posterior.n_draws) for n in names]
    return np.asarray(between * np.stack(z, axis=1))


def _new_drift(posterior: "Posterior", names: Sequence[str]) -> Draws:
    """Drift of new groups given that of the others, all equally correlated, (draw, group)."""
    drift, rho = posterior.record.drift, posterior.record.drift.shared
    found = posterior.draws("drift")
    for name in names:
        count = found.shape[1]
        gain = rho / (1.0 + (count - 1) * rho)
        mean = gain * found.sum(axis=1)
        sd = drift.scale * np.sqrt(1.0 - count * rho * gain)
        z = _rng(posterior, "drift", name).normal(size=len(mean))
        found = np.concatenate([found, (mean + sd * z)[:, None]], axis=1)
    return found[:, found.shape[1] - len(names) :]


def _groups_of(posterior: "Posterior", level: str) -> npt.NDArray[np.int64]:
    """Indices of the groups of a level of the first column that were run."""
    first = posterior.groups.iloc[:, 0].astype(str).to_numpy()
    return np.flatnonzero((first == level) & ~posterior.unseen)


def _rng(posterior: "Posterior", *name: str) -> np.random.Generator:
    """Random numbers of a name: the same group has the same draws, whatever else is asked."""
    key = zlib.crc32("\x1f".join(name).encode())
    return np.random.default_rng([posterior.record.seed, STREAM, key])
