"""From a posterior to the tables that plots draw: nothing here is drawn, all can be printed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from allometry.decisions import allocate, compare, predict
from allometry.errors import InputError
from allometry.inference import Posterior, interval_columns
from allometry.inference.evaluate import LawDraws, log_loss_at

SAME_BUDGET = 0.045
"""Decades of compute within which runs share a budget: realised FLOPs scatter by 10 %."""

SURFACE_DRAWS = 400

LEAST_RUNS = 4
"""Runs that make a valley."""

Floats = npt.NDArray[np.float64]


def fitted_table(posterior: Posterior) -> pd.DataFrame:
    """The runs of a fit: group columns, ``params, tokens, flops, loss, budget``, one row a run.

    ``budget`` is the compute that the runs of a valley share; NaN for runs outside of valleys.
    """
    data = posterior.idata["constant_data"]
    index = data["group_index"].to_numpy()
    table = posterior.groups.iloc[index].reset_index(drop=True)
    table = table.assign(
        **{name: data[name].to_numpy() for name in ("params", "tokens", "flops")},
        loss=posterior.idata["observed_data"]["loss"].to_numpy(),
    )
    budget = np.full(len(table), np.nan)
    for group in np.unique(index):
        rows = np.flatnonzero(index == group)
        budget[rows] = _budgets(np.log10(table["flops"].to_numpy()[rows]))
    return table.assign(budget=budget)


def _budgets(decades: Floats) -> Floats:
    """Shared compute of each run: the densest window first, until none has enough runs."""
    found = np.full(len(decades), np.nan)
    free = np.ones(len(decades), dtype=bool)
    while free.any():
        near = (np.abs(decades[:, None] - decades) < SAME_BUDGET) & free & free[:, None]
        centre = int(near.sum(axis=1).argmax())
        members = near[centre]
        if members.sum() < LEAST_RUNS:
            break
        found[members] = 10.0 ** np.median(decades[members])
        free &= ~members
    return found


def valley_table(posterior: Posterior, *, points: int = 40, force: bool = False) -> pd.DataFrame:
    """Loss along the valley of each group and budget of the data.

    Returns
    -------
    DataFrame
        As `predict` gives it, with ``budget``; params span each budget's runs and a little more.
    """
    runs = fitted_table(posterior)
    names = list(posterior.groups.columns)
    valleys = runs.dropna(subset=["budget"])
    if valleys.empty:
        what = f"no {LEAST_RUNS} runs of a group share a budget"
        raise InputError(what, where=posterior.where, hint="Draw the surface instead.")
    keyed = posterior.groups.assign(_index=np.arange(len(posterior.groups)))
    frames = []
    cells: Any = valleys.groupby([*names, "budget"], sort=True)
    for key, part in cells:
        labels: dict[Any, Any] = dict(zip(names, key[:-1], strict=True))
        params = np.geomspace(part["params"].min() / 1.25, part["params"].max() * 1.25, points)
        group = keyed.merge(pd.DataFrame([labels]))["_index"].iloc[0]
        tokens = posterior.record.cost.tokens_at(group, key[-1], params)
        frame = pd.DataFrame({"params": params, "tokens": tokens, "budget": key[-1]})
        frames.append(frame.assign(**labels))
    return predict(posterior, pd.concat(frames, ignore_index=True), force=force)


def surface_table(
    posterior: Posterior, *, group: int = 0, points: int = 32, force: bool = False
) -> pd.DataFrame:
    """Loss of one group on a grid of params and tokens that covers its runs.

    Returns
    -------
    DataFrame
        As `predict` gives it from every few draws (about `SURFACE_DRAWS` in all: the surface shows
        medians), `points` times `points` rows, params varying slowest.
    """
    labels = posterior.groups.iloc[[group]]
    runs = fitted_table(posterior).merge(labels)
    axes = [
        np.geomspace(runs[name].min() / 1.5, runs[name].max() * 1.5, points)
        for name in ("params", "tokens")
    ]
    params, tokens = (part.ravel() for part in np.meshgrid(*axes, indexing="ij"))
    grid = pd.DataFrame({"params": params, "tokens": tokens})
    few = _thinned(posterior, SURFACE_DRAWS)
    return predict(few, grid.merge(labels, how="cross"), force=force)


def _thinned(posterior: Posterior, draws: int) -> Posterior:
    """The same posterior with every few draws only."""
    step = max(posterior.n_draws // draws, 1)
    thin = posterior.idata["posterior"].to_dataset().isel(draw=slice(None, None, step))
    tree = posterior.idata.copy()
    tree["posterior"] = xr.DataTree(thin)
    return replace(posterior, idata=tree)


def budget_grid(
    posterior: Posterior,
    beyond: float = 100.0,
    *,
    points: int = 12,
    of: Sequence[int] | None = None,
) -> Floats:
    """Budgets from the smallest run to `beyond` times the largest one."""
    data = posterior.idata["constant_data"]
    keep = np.isin(data["group_index"].to_numpy(), list(of or range(len(posterior.groups))))
    flops = data["flops"].to_numpy()[keep]
    return np.geomspace(flops.min(), beyond * flops.max(), points)


def frontier_table(
    posterior: Posterior,
    *,
    flops: Sequence[float] | None = None,
    beyond: float = 100.0,
    architecture: str | None = None,
    context_length: int | None = None,
    force: bool = False,
) -> pd.DataFrame:
    """Compute-optimal allocation from the smallest run to far beyond: `allocate` on many budgets.

    Without `flops`, each group's smallest run to `beyond` times the largest of all; the smallest
    and the largest run of each group are among its budgets, so that lines end where the data do.
    """
    groups = posterior.select(architecture=architecture, context_length=context_length)
    names = list(posterior.groups.columns)
    asked = posterior.groups.iloc[groups]
    by_group = fitted_table(posterior).merge(asked).groupby(names)["flops"]
    ends = by_group.agg(_smallest="min", _largest="max").reset_index()
    grid = np.asarray(flops) if flops is not None else budget_grid(posterior, beyond, of=groups)
    borders = ends[["_smallest", "_largest"]].to_numpy().ravel()
    table = allocate(
        posterior,
        np.unique(np.concatenate([grid, borders])),
        architecture=architecture,
        context_length=context_length,
        force=force,
    )
    kept = table.merge(ends, how="left")
    smallest, largest = kept.pop("_smallest"), kept.pop("_largest")
    own = kept["flops"].isin(grid)
    own |= (kept["flops"] == smallest) | (kept["flops"] == largest)
    return kept[own & ((kept["flops"] >= smallest) | (flops is not None))].reset_index(drop=True)


def unseen_runs(posterior: Posterior, runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of a table that the fit did not use, by their params, tokens and loss."""
    names = ["params", "tokens", "loss"]
    fitted = fitted_table(posterior)[names].astype(np.float64)
    marked = (
        runs[names]
        .astype(np.float64)
        .merge(fitted.drop_duplicates(), on=names, how="left", indicator=True)
    )
    return runs[(marked["_merge"] == "left_only").to_numpy()].reset_index(drop=True)


def best_runs(posterior: Posterior) -> pd.DataFrame:
    """The run of least loss of each valley: where a budget's data see its optimum."""
    runs = fitted_table(posterior).dropna(subset=["budget"])
    names = list(posterior.groups.columns)
    return runs.loc[runs.groupby([*names, "budget"])["loss"].idxmin()].reset_index(drop=True)


def comparison_table(
    posterior: Posterior,
    a: str,
    b: str,
    *,
    flops: Sequence[float] | None = None,
    force: bool = False,
) -> pd.DataFrame:
    """`compare` over budgets, with how far each is beyond the smaller of both largest runs."""
    budgets = np.asarray(flops) if flops is not None else budget_grid(posterior, points=24)
    table = compare(posterior, a, b, budgets, force=force)
    groups = posterior.groups.assign(_largest=posterior.largest_flops())
    first, *others = (str(name) for name in posterior.groups.columns)
    both = groups[groups[first].astype(str).isin([a, b])]
    if not others:
        return table.assign(extrapolation_factor=table["flops"] / both["_largest"].min())
    smaller = both.groupby(others)["_largest"].min().reset_index()
    largest = table[others].merge(smaller, how="left")["_largest"].to_numpy()
    return table.assign(extrapolation_factor=table["flops"].to_numpy() / largest)


def density_table(posterior: Posterior, *, replicas: int = 200, points: int = 200) -> pd.DataFrame:
    """Density of the observed losses, and of as many replicated by the posterior.

    Returns
    -------
    DataFrame
        Columns ``loss``, ``observed``, and ``density_median, density_q5, ...`` over replicas.
    """
    from scipy.stats import gaussian_kde

    observed = np.log(posterior.idata["observed_data"]["loss"].to_numpy())
    simulated = posterior.idata["posterior_predictive"]["loss"].to_numpy()
    simulated = np.log(simulated.reshape(-1, simulated.shape[-1]))
    step = max(len(simulated) // replicas, 1)
    width = 0.1 * np.ptp(observed)
    x = np.linspace(observed.min() - width, observed.max() + width, points)
    bandwidth = gaussian_kde(observed).factor
    # Densities of log loss over the loss: densities of the loss itself.
    curves = np.stack([gaussian_kde(row, bandwidth)(x) for row in simulated[::step]]) / np.exp(x)
    return pd.DataFrame(
        {"loss": np.exp(x), "observed": gaussian_kde(observed, bandwidth)(x) / np.exp(x)}
        | interval_columns("density", curves)
    )


def prior_table(
    posterior: Posterior, *, tokens_per_param: float = 20.0, points: int = 40
) -> pd.DataFrame:
    """Loss under the prior from a thousandth of the data's compute to a thousand times it.

    Returns
    -------
    DataFrame
        Columns ``flops`` (6 N D), ``params``, ``tokens``, ``loss_*``: the law of the first group at
        `tokens_per_param`, over draws of the prior.
    """
    if posterior.law.columns:
        what = f"law {posterior.law.name} needs {', '.join(posterior.law.columns)}"
        raise InputError(what, where="prior")
    scale = posterior.record.scale
    middle = 6.0 * scale.params * scale.tokens
    flops = middle * np.geomspace(1e-4, 1e4, points)
    params = np.sqrt(flops / (6.0 * tokens_per_param))
    theta = posterior.idata["prior"]["theta"].to_numpy()
    theta = theta.reshape(-1, *theta.shape[2:])[:, :, :1]
    draws = LawDraws(
        law=posterior.law,
        coefficients=dict(zip(posterior.law.names, np.moveaxis(theta, 1, 0), strict=True)),
        log_reference=(np.log(scale.params), np.log(scale.tokens), np.log(scale.loss)),
    )
    log_loss, _ = log_loss_at(draws, params, tokens_per_param * params)
    return pd.DataFrame(
        {"flops": flops, "params": params, "tokens": tokens_per_param * params}
        | interval_columns("loss", np.exp(log_loss))
    )
