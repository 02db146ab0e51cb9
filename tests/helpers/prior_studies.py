"""Studies drawn from the prior predictive of the loss model, and the rank of their truth."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pandas as pd
from scipy.stats import chi2

from allometry.inference import default_priors, group_runs, loss_model
from allometry.inference.arrays import law_structure, run_arrays
from allometry.inference.coordinates import Data, Program, centring, to_sites
from allometry.inference.model import expected_log_loss
from allometry.inference.sampling import Sampler, climb_and_draw
from allometry.laws import Scale, get_law

REFERENCE = Scale(params=1e8, tokens=2e9, loss=1.0)
"""The reference run is fixed: a loss scale taken from the data would move the prior with them."""


def design(cells: dict[tuple[str, int], int], budgets=(1e17, 1e18, 1e19)) -> pd.DataFrame:
    """Sizes around the valley of each budget; so many runs a cell, over its budgets in turn."""
    rows = []
    for (architecture, context_length), runs in cells.items():
        sizes = -(-runs // len(budgets))
        factors = np.geomspace(0.25, 4.0, sizes)
        cell = [(np.sqrt(c / 120.0) * f, c) for f in factors for c in budgets]
        for params, flops in cell[:runs]:
            rows.append((architecture, context_length, params, flops / 6 / params, 3.0))
    names = ["architecture", "context_length", "params", "tokens", "loss"]
    return pd.DataFrame(rows, columns=names)


def problem(table: pd.DataFrame, law: str = "pnorm") -> tuple[Program, Data]:
    """What `fit` makes of a table, with the fixed reference run."""
    found, groups = get_law(law), group_runs(table)
    program = Program(law=found, structure=law_structure(found, groups))
    return program, Data(
        runs=run_arrays(table, groups, found, REFERENCE),
        priors=default_priors(found).arrays(),
        centred=centring(found, program.structure, groups.runs_per_group),
    )


def simulate_study(key: jax.Array, program: Program, data: Data) -> tuple[dict, Data]:
    """The model's sites drawn from the prior, and the data with losses drawn from them."""
    model = numpyro.handlers.seed(loss_model, key)
    arguments = (program.law, program.structure, data.runs, data.priors)
    traced = numpyro.handlers.trace(model).get_trace(*arguments, observed=False)
    sites = {name: site["value"] for name, site in traced.items() if site["type"] == "sample"}
    log_loss = sites.pop("log_loss")
    return sites, replace(data, runs=replace(data.runs, log_loss=log_loss))


def statistics(sites: dict, program: Program, data: Data) -> dict[str, jax.Array]:
    """What is ranked: every site and the law's loss at a tenfold budget of every group."""
    g = program.structure.n_groups
    far = replace(
        data.runs,
        group=jnp.arange(g),
        log_params=jnp.full(g, 3.0),
        log_tokens=jnp.full(g, 3.0),
        columns={},
    )
    ahead = expected_log_loss(program.law, sites["theta"], far)[0]
    named = {"log_loss_ahead": ahead} | {n: v for n, v in sites.items() if n != "theta"}
    return named | dict(zip(program.law.names, sites["theta"], strict=True))


def places_of_truth(
    program: Program,
    data: Data,
    *,
    studies: int,
    sampler: Sampler,
    kept: int,
    seed: int,
    distort=lambda sites, program, data: data,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Where in its posterior the truth lies, shape (study, component), and each fit's method.

    A place is (rank + u) / (kept + 1) among `kept` nearly independent draws: uniform on (0, 1) if
    the posterior is right. `distort` breaks the data on their way into the fit.
    """
    rng = np.random.default_rng([seed, 8])
    places: dict[str, list[np.ndarray]] = {}
    methods = []
    describe = jax.jit(jax.vmap(lambda x: statistics(to_sites(x, program, data)[0], program, data)))
    for study, key in enumerate(jax.random.split(jax.random.key(seed), studies)):
        truth, observed = simulate_study(key, program, data)
        _, (chains, method, _) = climb_and_draw(
            program, distort(truth, program, observed), sampler, study, None
        )
        methods.append(method)
        flat = chains.x.reshape(-1, program.size)
        chosen = flat[np.linspace(0, len(flat) - 1, kept).astype(int)]
        draws = jax.tree.map(np.asarray, describe(jnp.asarray(chosen)))
        for name, value in statistics(truth, program, data).items():
            rank = (draws[name] < np.asarray(value)).sum(axis=0)
            place = (rank + rng.random(rank.shape)) / (kept + 1)
            places.setdefault(name, []).append(np.ravel(place))
    return {name: np.stack(found) for name, found in places.items()}, methods


def shrunk_noise(sites: dict, program: Program, data: Data) -> Data:
    """Losses moved half-way to the law: what a wrong noise scale would look like."""
    expected = expected_log_loss(program.law, sites["theta"], data.runs)[0]
    runs = replace(data.runs, log_loss=(data.runs.log_loss + expected) / 2)
    return replace(data, runs=runs)


def uniformity(places: dict[str, np.ndarray], bins: int = 10) -> dict[str, float]:
    """Chi-square p-value of each component's places against uniform ones."""
    found = {}
    for name, values in places.items():
        for component, column in enumerate(values.T):
            counts = np.histogram(column, bins=bins, range=(0.0, 1.0))[0]
            expected = len(column) / bins
            statistic = ((counts - expected) ** 2 / expected).sum()
            found[f"{name}[{component}]"] = float(chi2.sf(statistic, bins - 1))
    return found
