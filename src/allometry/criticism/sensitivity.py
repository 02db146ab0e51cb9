"""How far the answers hang on the prior, and on the data, by power-scaling.

The prior (or the likelihood) is raised to a power near one and the posterior reweighted; a
parameter that moves with the prior is not determined by the data (Kallioinen et al. 2024,
doi:10.1007/s11222-023-10366-5). Of a hierarchy only the highest level is scaled: the distribution
of the groups around their population is part of the model.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from arviz_stats import psense  # type: ignore[attr-defined]
from scipy import stats

from allometry.decisions.outlook import law_draws
from allometry.errors import InputError
from allometry.inference import Posterior, group_names
from allometry.inference.import_density import imported_density
from allometry.inference.iso_compute import compute_optimal
from allometry.inference.model import SPREAD_LOG_SD

Array = npt.NDArray[np.float64]

THRESHOLD = 0.05
"""Sensitivity from which on a scaled component matters (Kallioinen et al., section 2.4)."""

BEYOND = 10.0
"""The loss of a compute-optimal run at this multiple of the largest run is checked as well."""

PREDICTED = "loss_at_10x"
PUBLISHED = ("E", "A", "B", "alpha", "beta", "gamma")


def log_prior(posterior: Posterior) -> Array:
    """Log density of the highest priors at each draw, shape (chain, draw), up to a constant.

    Of a pooled fit: population means, spreads, changes per doubling and noise. Of a single group:
    its coefficients and the noise. Imported priors are scaled with them: what they multiply the
    default density with is added.

    Raises
    ------
    InputError
        If priors were imported by a version that did not keep their density.
    """
    data = posterior.idata["posterior"]
    priors = posterior.record.priors
    numbers = {
        field: np.asarray([getattr(c, field) for c in priors.coefficients])
        for field in ("loc", "scale", "between", "per_doubling")
    }
    total = np.zeros((data.sizes["chain"], data.sizes["draw"]))

    def add(name: str, loc: Any, scale: Any) -> None:
        nonlocal total
        if name in data:
            density = stats.norm.logpdf(data[name].to_numpy(), loc, scale)
            total = total + density.reshape(*total.shape, -1).sum(axis=-1)

    for name, prior in (("log_noise", priors.noise), ("log_off_valley", priors.off_valley)):
        add(name, np.log(prior.median), prior.log_sd)
    if "mean" in data:
        add("mean", numbers["loc"], numbers["scale"])
        add("log_spread", np.log(numbers["between"]), SPREAD_LOG_SD)
        add("log_parent_spread", np.log(numbers["between"]), SPREAD_LOG_SD)
        add("per_doubling", 0.0, numbers["per_doubling"])
    else:
        sd = np.sqrt(numbers["scale"] ** 2 + numbers["between"] ** 2)
        add("theta", numbers["loc"][:, None], sd[:, None])
    imported = imported_density(posterior.idata)
    if imported is None and posterior.record.imported:
        what = "the density of its imported priors was not kept"
        raise InputError(what, where=posterior.where, hint="Fit it again.")
    if imported is not None:
        total = total + imported
    return np.asarray(total)


def prior_sensitivity(posterior: Posterior) -> pd.DataFrame:
    """Sensitivity of the published coefficients and of a prediction, group by group.

    Returns
    -------
    DataFrame
        ``parameter, group, prior, likelihood, diagnosis``; the parameter `PREDICTED` is the loss of
        a compute-optimal run at ten times the group's largest, where the law allows it.
    """
    quantities = _quantities(posterior)
    dims = ("chain", "draw")
    log_likelihood = posterior.idata["log_likelihood"].to_dataset()
    # Of very many runs a fit keeps the log likelihood of evenly spaced draws.
    every = slice(None, None, quantities.sizes["draw"] // log_likelihood.sizes["draw"])
    log_priors = xr.Dataset({"top": (dims, log_prior(posterior))})
    quantities, log_priors = quantities.isel(draw=every), log_priors.isel(draw=every)
    log_likelihood = log_likelihood.assign_coords(draw=np.arange(log_likelihood.sizes["draw"]))
    quantities = quantities.assign_coords(draw=log_likelihood["draw"])
    tree = xr.DataTree.from_dict(
        {
            "posterior": quantities,
            "log_prior": log_priors,
            "log_likelihood": log_likelihood,
        }
    )
    with _quiet():
        prior = _dataset(psense(tree, group="prior"))  # type: ignore[no-untyped-call]
        likelihood = _dataset(psense(tree, group="likelihood"))  # type: ignore[no-untyped-call]
    names = list(group_names(posterior))
    rows = []
    for parameter in map(str, quantities.data_vars):
        for g, name in enumerate(names):
            pair = (float(prior[parameter][g]), float(likelihood[parameter][g]))
            rows.append((parameter, name, *pair, diagnosis(*pair)))
    return pd.DataFrame(rows, columns=["parameter", "group", "prior", "likelihood", "diagnosis"])


def diagnosis(prior: float, likelihood: float) -> str:
    """What two sensitivities mean together."""
    if prior < THRESHOLD:
        return "determined by the data"
    if likelihood < THRESHOLD:
        return "determined by the prior"
    return "prior and data disagree or share the say"


def _quantities(posterior: Posterior) -> xr.Dataset:
    data = posterior.idata["posterior"].to_dataset()
    kept = data[[name for name in PUBLISHED if name in data]]
    if posterior.law.columns:
        return kept
    groups = np.arange(data.sizes["group"])
    flops = BEYOND * posterior.largest_flops()
    draws = law_draws(posterior, groups)
    log_loss = compute_optimal(draws, posterior.record.cost, groups, flops)[2]
    shape = (data.sizes["chain"], data.sizes["draw"], len(groups))
    return kept.assign({PREDICTED: (("chain", "draw", "group"), log_loss.reshape(shape))})


def _dataset(found: Any) -> xr.Dataset:
    # arviz-stats answers with a tree or a dataset, depending on what it was given.
    if isinstance(found, xr.DataTree):
        return (
            found["posterior"].to_dataset() if "posterior" in found.children else found.to_dataset()
        )
    return found  # type: ignore[no-any-return]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep arviz-stats from logging its own advice: ours is in the result."""
    logger = logging.getLogger("arviz_stats")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
