"""`fit_valleys`: IsoFLOP runs to growth laws that carry the uncertainty of the minima."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from arviz_base import from_dict

from allometry.errors import InputError
from allometry.inference.convergence import Convergence, judge, require_converged
from allometry.inference.groups import Grouping, group_runs
from allometry.inference.holdout import run_flops
from allometry.inference.mode import find_mode
from allometry.inference.nuts import MAX_TREE_DEPTH
from allometry.inference.sampling import DEFAULT_SAMPLER, Sampler, Stage, sample_from
from allometry.inference.summary import interval_columns
from allometry.inference.valley_model import ValleyArrays, ValleyProgram
from allometry.observations import Runs, read_runs

Resource = Literal["params", "tokens"]
SAME_BUDGET = 0.15
"""Runs whose log10 FLOPs differ by less from the next are of one budget (realised: 10 %)."""

MIN_SIZES = 4
"""Sizes that a budget needs: with three a valley fits any three losses."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ValleyPosterior:
    """Posterior of an IsoFLOP study.

    Attributes
    ----------
    idata : DataTree
        ArviZ tree; ``exponent`` by group, ``log_optimum`` and ``minimum`` by valley.
    valleys : DataFrame
        One row a valley: group columns, ``flops`` (mean of its runs), ``runs``.
    groups : DataFrame
        One row a group.
    resource : str
        params or tokens.
    convergence : Convergence
    """

    idata: xr.DataTree
    valleys: pd.DataFrame
    groups: pd.DataFrame
    resource: Resource
    convergence: Convergence

    def growth_law(self, *, force: bool = False) -> pd.DataFrame:
        """Growth exponent of each group: ``{resource}_exponent_*``, its range, its valleys."""
        require_converged(self.convergence, force=force, where="isoflop")
        draws = self._draws("exponent")
        by_group = self.valleys.groupby("_group")["flops"]
        return self.groups.assign(
            **interval_columns(f"{self.resource}_exponent", draws),
            flops_low=by_group.min().to_numpy(),
            flops_high=by_group.max().to_numpy(),
            budgets=by_group.size().to_numpy(),
        )

    def minima(self, *, force: bool = False) -> pd.DataFrame:
        """Minimum of each valley: ``{resource}_*`` and ``loss_*`` with intervals."""
        require_converged(self.convergence, force=force, where="isoflop")
        return self.valleys.drop(columns="_group").assign(
            **interval_columns(self.resource, np.exp(self._draws("log_optimum"))),
            **interval_columns("loss", np.exp(self._draws("minimum"))),
        )

    def _draws(self, name: str) -> Values:
        values = self.idata["posterior"][name].to_numpy()
        return np.asarray(values.reshape(-1, values.shape[-1]))


def fit_valleys(
    runs: Runs | pd.DataFrame | str | Path,
    *,
    resource: Resource = "params",
    by: Sequence[str] | None = None,
    sampler: Sampler = DEFAULT_SAMPLER,
    seed: int = 0,
    progress: Stage | None = None,
) -> ValleyPosterior:
    """Fit all valleys of an IsoFLOP study at once.

    Each budget of each group is a valley of log loss in log N (or log D); minima follow
    ``N* = a C^p`` per group with scatter, exponents and curvatures are partially pooled.

    Parameters
    ----------
    runs : Runs, DataFrame or str
        Checked runs, or anything `read_runs` takes. Budgets are found as clusters of training
        FLOPs; runs of clusters with fewer than four sizes are not used.
    resource : {"params", "tokens"}
        What the valley is against.
    by, sampler, seed, progress
        As in `fit`; the method is always NUTS.

    Raises
    ------
    InputError
        If no group has two budgets with four sizes each.
    """
    began = time.perf_counter()
    checked = runs if isinstance(runs, Runs) else read_runs(runs)
    if resource not in ("params", "tokens"):
        raise InputError(f"resource must be params or tokens, got {resource!r}")
    groups = group_runs(checked.table, by if by is not None else (checked.by or None))
    table, valleys, labels = find_valleys(checked.table, groups)
    with jax.enable_x64(True):
        data, centres = _arrays(table, valleys, resource)
        program = ValleyProgram(n_groups=len(labels), n_valleys=len(valleys))
        mode = find_mode(_start(data, program), program, data)
        chains = sample_from(mode, program, data, sampler, seed, progress)
    convergence = judge(
        draws=chains.x,
        statistics=chains.statistics,
        divergences=int(chains.diverging.sum()),
        tree_depth_hits=int((chains.steps >= 2**MAX_TREE_DEPTH - 1).sum()),
        log_posteriors=np.asarray([mode.log_posterior]),
        seconds=time.perf_counter() - began,
    )
    tree = _tree(chains.x, chains.diverging, program, data, centres)
    return ValleyPosterior(
        idata=tree,
        valleys=valleys,
        groups=labels,
        resource=resource,
        convergence=convergence,
    )


def find_valleys(
    table: pd.DataFrame, groups: Grouping
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Runs that lie in valleys, the valleys, and the groups that have two or more of them.

    Raises
    ------
    InputError
        If no group has two budgets with enough sizes.
    """
    work = table.assign(_group=groups.index, _log=np.log10(run_flops(table)))
    work = work.sort_values(["_group", "_log"])
    new = (work["_group"].diff() != 0) | (work["_log"].diff() > SAME_BUDGET)
    work["_valley"] = new.cumsum()
    sizes = work.groupby("_valley")["params"].transform("nunique")
    work = work[sizes >= MIN_SIZES]
    budgets = work.groupby("_group")["_valley"].transform("nunique")
    work = work[budgets >= 2]
    if work.empty:
        what = f"no group has two budgets with {MIN_SIZES} sizes each"
        hint = "IsoFLOP runs share their training FLOPs within a budget; fit a loss law instead."
        raise InputError(what, where="isoflop", hint=hint)
    kept = np.unique(work["_group"])
    names = list(groups.labels.columns)
    labels = groups.labels.iloc[kept].reset_index(drop=True)
    work["_group"] = np.searchsorted(kept, work["_group"])
    work["_valley"] = pd.factorize(work["_valley"])[0]
    per_valley = work.groupby("_valley")
    valleys = labels.iloc[per_valley["_group"].first()].reset_index(drop=True)[names]
    flops = 10.0 ** work["_log"]
    valleys = valleys.assign(
        flops=flops.groupby(work["_valley"]).mean().to_numpy(),
        runs=per_valley.size().to_numpy(),
        _group=per_valley["_group"].first().to_numpy(),
    )
    return work, valleys, labels


def _arrays(
    table: pd.DataFrame, valleys: pd.DataFrame, resource: Resource
) -> tuple[ValleyArrays, tuple[float, float]]:
    log_size, log_loss = np.log(table[resource].to_numpy()), np.log(table["loss"].to_numpy())
    size_centre, loss_centre = float(log_size.mean()), float(log_loss.mean())
    log_flops = np.log(valleys["flops"])
    centred = log_flops - log_flops.groupby(valleys["_group"]).transform("mean")
    least = pd.Series(log_loss - loss_centre).groupby(table["_valley"].to_numpy()).min()
    arrays = ValleyArrays(
        valley=jnp.asarray(table["_valley"].to_numpy()),
        log_size=jnp.asarray(log_size - size_centre),
        log_loss=jnp.asarray(log_loss - loss_centre),
        weight=jnp.ones(len(table)),
        group=jnp.asarray(valleys["_group"].to_numpy()),
        log_flops=jnp.asarray(centred.to_numpy()),
        least=jnp.asarray(least.to_numpy()),
    )
    return arrays, (size_centre, loss_centre)


def _start(data: ValleyArrays, program: ValleyProgram) -> Values:
    """Each valley's smallest loss is its minimum; each group's optimum their mean."""
    v, size, loss = (np.asarray(part) for part in (data.valley, data.log_size, data.log_loss))
    best = np.array([size[v == j][np.argmin(loss[v == j])] for j in range(program.n_valleys)])
    group = np.asarray(data.group)
    centre = np.array([best[group == g].mean() for g in range(program.n_groups)])
    start = {name: np.zeros(shape) for name, shape in program.shapes.items()}
    start |= {
        "exponent_mean": np.asarray(0.5),
        "log_exponent_spread": np.asarray(-3.2),
        "log_scatter": np.asarray(-3.5),
        "log_curvature_mean": np.asarray(-3.9),
        "log_curvature_spread": np.asarray(-1.6),
        "log_noise": np.asarray(-5.5),
        "centre": centre,
        "minimum": np.asarray(data.least),
    }
    return np.concatenate([np.ravel(start[name]) for name in program.shapes])


def _tree(
    x: Values,
    diverging: npt.NDArray[np.bool_],
    program: ValleyProgram,
    data: ValleyArrays,
    centres: tuple[float, float],
) -> xr.DataTree:
    sites, start = {}, 0
    for name, shape in program.shapes.items():
        width = int(np.prod(shape))
        sites[name] = x[..., start : start + width].reshape(*x.shape[:2], *shape)
        start += width
    spread = np.exp(sites["log_exponent_spread"])[..., None]
    exponent = sites["exponent_mean"][..., None] + spread * sites["exponent_z"]
    group, log_flops = np.asarray(data.group), np.asarray(data.log_flops)
    scatter = np.exp(sites["log_scatter"])[..., None] * sites["scatter_z"]
    law = sites["centre"][..., group] + exponent[..., group] * log_flops
    derived = {
        "exponent": exponent,
        "log_optimum": law + scatter + centres[0],
        "minimum": sites["minimum"] + centres[1],
    }
    dims = {name: ["group"] for name in ("exponent", "exponent_z", "centre", "skew")}
    of_valley = ("log_optimum", "minimum", "scatter_z", "curvature_z")
    dims |= {name: ["valley"] for name in of_valley}
    content = {"posterior": sites | derived, "sample_stats": {"diverging": diverging}}
    tree: xr.DataTree = from_dict(content, dims=dims)
    return tree
