"""Small studies cut from public ones, and scores of what is said of the runs that were hidden."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd
from public_studies import PublicStudies

from allometry.criticism.baseline import HuberFit, additive_log_loss
from allometry.criticism.scores import covered, crps, width
from allometry.decisions.optimum import optimum
from allometry.decisions.prediction import predict_draws
from allometry.inference import Posterior, Sampler, fit, group_runs

Array = npt.NDArray[np.float64]

GROUPS = {
    "chinchilla": ["all"],
    "farseer": ["all"],
    "overtraining": ["c4_original", "rpj"],
    "xlstm": ["transformer/8192", "xlstm/8192"],
    "repetition": ["all"],
    "llama3": ["all"],
    "marin": ["transformer-nemotron", "transformer-comma"],
    "misfitting": ["all"],
    "openeuro": ["all"],
}
"""Groups with runs enough for small studies, of those that are fitted as one study at most two."""

CUTOFF = 0.1
"""Runs to fit have at most this share of the group's largest compute."""

MOST_TEST = 40
MOST_DESIGN = 64
"""Runs that designs are the beginnings of, so that a larger one goes on from a smaller one."""

COLUMNS = ["params", "tokens", "loss"]
LEVELS = (50, 80, 90)
ASKED = ("run", "loss", "exponent", "optimum")
"""A new run of the larger ones; log loss at the best size for the group's largest compute; the
exponent of N*; log N* at that compute."""

NEAR = 20.0, 5.0
"""Tokens a param about which isoflop sweeps lie, and the factor either way."""

DESIGNS = ("spread", "near")
"""Runs spread over all params and tokens, or over those near `NEAR`."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Group:
    """Runs of one group: to choose from, and to predict."""

    study: str
    own: str
    name: str
    small: pd.DataFrame
    large: pd.DataFrame
    every: pd.DataFrame

    @property
    def span(self) -> tuple[float, float]:
        """Compute of the smallest and the largest run to choose from: the exponent is between."""
        flops = 6.0 * self.small["params"] * self.small["tokens"]
        return float(flops.min()), float(flops.max())

    @property
    def budgets(self) -> Array:
        """Ends of that range, and the group's largest compute."""
        return np.array(
            [*self.span, float((6.0 * self.large["params"] * self.large["tokens"]).max())]
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Reference:
    """What all runs of a group tell of the numbers that are asked for: median and sd."""

    loss: tuple[float, float]
    exponent: tuple[float, float]
    optimum: tuple[float, float]


def groups_of(studies: PublicStudies, name: str) -> list[Group]:
    """The groups of a public study, cut at a tenth of their largest compute."""
    runs = studies.runs(name)
    grouping = group_runs(runs.table, runs.by or None)
    found = []
    for wanted in GROUPS[name]:
        own = [wanted in ("all", name) for name in grouping.names]
        table = runs.table[np.asarray(own)[grouping.index]][COLUMNS]
        flops = 6.0 * table["params"] * table["tokens"]
        small = table[flops <= CUTOFF * flops.max()].reset_index(drop=True)
        large = table[flops > CUTOFF * flops.max()].reset_index(drop=True)
        chosen = np.linspace(0, len(large) - 1, min(MOST_TEST, len(large))).astype(int)
        label = name if wanted == "all" else f"{name} {wanted}"
        test = large.iloc[chosen]
        found.append(
            Group(study=name, own=wanted, name=label, small=small, large=test, every=table)
        )
    return found


def design(
    table: pd.DataFrame, n: int, rng: np.random.Generator, *, kind: str = "spread"
) -> pd.DataFrame:
    """So many runs spread over params and tokens: each is the farthest from those before it."""
    if kind == "near":
        ratio, factor = NEAR
        away = np.abs(np.log(table["tokens"] / table["params"] / ratio))
        table = table[away <= np.log(factor)].reset_index(drop=True)
    x = np.log(table[["params", "tokens"]].to_numpy(dtype=float))
    x = (x - x.mean(axis=0)) / x.std(axis=0) + 0.05 * rng.normal(size=x.shape)
    order = [int(rng.integers(len(x)))]
    while len(order) < min(n, len(x)):
        distance = np.min([((x - x[i]) ** 2).sum(axis=1) for i in order], axis=0)
        order.append(int(np.argmax(distance)))
    return table.iloc[order].reset_index(drop=True)


@lru_cache(maxsize=8)
def reference_of(group: Group, sampler: Sampler) -> Reference:
    """What a fit to all runs of a group says, larger ones included."""
    drawn = _sizes(
        fit(group.every.reset_index(drop=True), by=(), library=False, sampler=sampler), group
    )
    told = {name: (float(np.median(x)), float(x.std())) for name, x in drawn.items()}
    return Reference(**told)


def _sizes(posterior: Posterior, group: Group) -> dict[str, Array]:
    """Draws of the exponent of N*, and of log N* and log loss there at the largest compute."""
    index = np.zeros(3, dtype=np.int64)
    params, _, log_loss = optimum(posterior, index, group.budgets)
    return _growth(np.log(params), log_loss, group)


def _growth(log_params: Array, log_loss: Array, group: Group) -> dict[str, Array]:
    low, high = np.log(group.span)
    return {
        "loss": 100 * log_loss[:, 2],
        "exponent": (log_params[:, 1] - log_params[:, 0]) / (high - low),
        "optimum": log_params[:, 2],
    }


def score(posterior: Posterior, group: Group, reference: Reference) -> dict[str, float]:
    """Widths, coverage, CRPS and error of what a posterior says of a group's larger runs."""
    test = group.large
    _, run = predict_draws(posterior, test.assign(group="all"))
    return _scores(np.log(run), _sizes(posterior, group), test, reference)


def score_practice(
    found: HuberFit, group: Group, reference: Reference, rng: np.random.Generator
) -> dict[str, float]:
    """The same of the additive law by least squares, from its bootstrap."""
    test = group.large
    params, tokens = (test[name].to_numpy(dtype=float) for name in ("params", "tokens"))
    _, run = found.predict_draws(params, tokens, rng)
    optima = [_additive_optimum(found.bootstrap, flops) for flops in group.budgets]
    log_params, log_loss = np.stack(optima, axis=2)
    return _scores(run, _growth(log_params, log_loss, group), test, reference)


def _additive_optimum(theta: Array, flops: float) -> Array:
    """Optimum log N and log loss of additive laws (law, 5) at C = 6 N D, as (2, law).

    Within nine e-folds of N = D.
    """
    log_params = np.linspace(-9.0, 9.0, 2001) + 0.5 * np.log(flops / 6)
    log_loss = additive_log_loss(theta.T[:, :, None], log_params, np.log(flops / 6) - log_params)
    return np.stack([log_params[np.argmin(log_loss, axis=1)], log_loss.min(axis=1)])


def _scores(
    run: Array, sizes: dict[str, Array], test: pd.DataFrame, reference: Reference
) -> dict[str, float]:
    observed = np.log(test["loss"].to_numpy(dtype=float))
    drawn = {"run": (100 * run, 100 * observed, 0.0)}
    for name in ASKED[1:]:
        centre, sd = getattr(reference, name)
        drawn[name] = (sizes[name][:, None], np.array([centre]), sd)
    found = {}
    for name, (draws, truth, sd) in drawn.items():
        found[f"{name}_crps"] = float(crps(draws, truth).mean())
        # What all runs of a group tell is known up to a spread of its own.
        blurred = draws + sd * np.random.default_rng(5).normal(size=draws.shape)
        for level in LEVELS:
            found[f"{name}_width_{level}"] = float(width(draws, level / 100).mean())
            found[f"{name}_covered_{level}"] = float(covered(blurred, truth, level / 100).mean())
    error = np.median(run, axis=0) - observed
    return found | {"rmse": 100 * float(np.sqrt(np.mean(error**2)))}
