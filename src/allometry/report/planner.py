"""What the planner shows: the decisions of every group on one grid of budgets.

The page's script only interpolates between these nodes; every node is what the decision functions,
and so the commands, answer for that budget.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.decisions import allocate, least_regret
from allometry.decisions.asking import with_unseen
from allometry.decisions.comparison import best_loss
from allometry.errors import InputError
from allometry.inference import Posterior
from allometry.inference.reach import farthest, known_reaches, reach_sentence
from allometry.inference.sampling import Stage, tell
from allometry.inference.summary import QUANTILES

BEYOND = 1000.0
"""The grid ends at so many times the largest trained budget."""

MOST_PER_DECADE, LEAST_PER_DECADE = 6, 1
"""Nodes a decade: fewer where groups are many, so that a page of 300 groups can be made."""

POINTS = 80
"""Nodes a decade times groups, at most."""

WITHIN = "0.1%"
"""Loss above the best that counts as equal, as in ``allometry regret``."""

QUANTITIES = ("params", "tokens", "tokens_per_param", "loss", "run_loss")
BANDS = ("band_low", "band_high")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Planner:
    """Decisions on a grid of training budgets.

    Attributes
    ----------
    flops : ndarray, shape (node,)
        Training budgets in FLOPs, rising, three significant digits each.
    largest : float
        That of the largest trained budget; a node, like 10, 100 and 1,000 times it.
    allocations : DataFrame
        What `allocate` answers, with the flat bands of `least_regret`: one row a group
        and budget, in the order of the posterior's groups.
    winners : DataFrame
        Probability that an architecture has the least loss of those run at the same place: one row
        an architecture, place (the other group columns) and budget, ``probability_best``. Empty
        where no place has two architectures.
    """

    flops: Floats
    largest: float
    allocations: pd.DataFrame
    winners: pd.DataFrame


def with_contexts(posterior: Posterior, contexts: Sequence[int]) -> Posterior:
    """The posterior with context lengths that were never run, for every architecture.

    Parameters
    ----------
    posterior : Posterior
    contexts : sequence of int
        Tokens; those that a group has are left as they are.

    Raises
    ------
    InputError
        If the runs were not grouped by context length, or a context is below 1.

    Warns
    -----
    UnseenGroupWarning
        For each new group: where its prediction comes from.
    """
    groups = posterior.groups
    if "context_length" not in posterior.record.by:
        raise posterior.not_grouped_by(["context_length"])
    if bad := [c for c in contexts if c < 1]:
        raise InputError(f"context length {bad[0]} is below 1", where="context length")
    others = groups.drop(columns="context_length").drop_duplicates()
    asked = others.merge(pd.DataFrame({"context_length": sorted(set(contexts))}), how="cross")
    asked = asked[list(groups.columns)].drop_duplicates()
    known = set(groups.itertuples(index=False, name=None))
    new = [row not in known for row in asked.itertuples(index=False, name=None)]
    return with_unseen(posterior, asked[new].reset_index(drop=True)) if any(new) else posterior


def plan(posterior: Posterior, *, force: bool = False, progress: Stage | None = None) -> Planner:
    """The planner of a posterior: compute-optimal allocations, flat bands, and who wins.

    Parameters
    ----------
    posterior : Posterior
        With the groups that the planner offers; those that were never run come from
        `Posterior.with_groups`.
    force : bool
        Answer although the fit did not converge.
    progress : callable, optional
        Told each stage.

    Raises
    ------
    NotConvergedError
        If the fit did not converge and `force` is not set.
    InputError
        If the law needs more than params and tokens.
    """
    flops = budget_nodes(posterior)
    stages = ("compute-optimal allocations", "flat bands", "who wins")
    tell(progress, stages[0], 0, len(stages))
    allocations = allocate(posterior, flops, force=force)
    tell(progress, stages[1], 1, len(stages))
    bands = flat_bands(posterior, flops, force=force)
    tell(progress, stages[2], 2, len(stages))
    winners = probability_best(posterior, flops)
    return Planner(
        flops=flops,
        largest=float(flops[flops <= posterior.largest_flops().max()].max()),
        allocations=pd.concat([allocations, bands], axis=1),
        winners=winners,
    )


def flat_bands(posterior: Posterior, flops: Floats, *, force: bool = False) -> pd.DataFrame:
    """Columns of `least_regret` on the flat band, group by group and budget by budget.

    NaN throughout where the posterior is so wide that a band of `WITHIN` has no ends.
    """
    names = [f"{band}_{suffix}" for band in BANDS for suffix in QUANTILES]
    names += ["safe_low", "safe_high"]
    try:
        return least_regret(posterior, flops, within=WITHIN, force=force)[names]
    except InputError:  # finer than the grid of sizes: the caller cannot choose another level
        rows = len(posterior.groups) * len(flops)
        return pd.DataFrame(np.nan, index=range(rows), columns=names)


def budget_nodes(posterior: Posterior) -> Floats:
    """Budgets from the smallest run to `BEYOND` times the largest one, rising.

    Evenly spaced on the log scale from the largest trained budget on, both ways, and rounded down
    to three significant digits, so that they can be typed.
    """
    smallest, largest = posterior.smallest_flops().min(), posterior.largest_flops().max()
    a_decade = int(np.clip(POINTS // len(posterior.groups), LEAST_PER_DECADE, MOST_PER_DECADE))
    below = int(np.floor(a_decade * np.log10(largest / smallest)))
    steps = np.arange(-below, round(a_decade * np.log10(BEYOND)) + 1)
    nodes = [_floor(largest * 10.0 ** (k / a_decade)) for k in steps]
    return np.unique([_floor(smallest), *nodes])


def _floor(value: float) -> float:
    """A number rounded down to three significant digits."""
    exponent = int(np.floor(np.log10(value * (1 + 1e-12)))) - 2
    return float(f"{np.floor(value * (1 + 1e-12) / 10.0**exponent):.0f}e{exponent}")


def probability_best(posterior: Posterior, flops: Floats) -> pd.DataFrame:
    """Probability that each architecture has the least loss of all that share its place.

    Parameters
    ----------
    posterior : Posterior
        Grouped by ``architecture`` first; a place is a cell of the other group columns.
    flops : ndarray
        Training budgets, spent compute-optimally.

    Returns
    -------
    DataFrame
        As `Planner.winners`. For two architectures it is what `compare` answers.
    """
    first, *others = (str(name) for name in posterior.groups.columns)
    empty = pd.DataFrame(columns=[first, *others, "flops", "probability_best"])
    if first != "architecture":
        return empty
    keyed = posterior.groups.assign(_index=np.arange(len(posterior.groups)))
    places: list[Any] = [p for _, p in keyed.groupby(others, sort=False)] if others else [keyed]
    frames = [_race(posterior, place, flops) for place in places if len(place) > 1]
    return pd.concat(frames, ignore_index=True) if frames else empty


def _race(posterior: Posterior, place: pd.DataFrame, flops: Floats) -> pd.DataFrame:
    """Who has the least loss at one place, budget by budget."""
    members = place.pop("_index").to_numpy()
    index = np.repeat(members, len(flops))
    losses = best_loss(posterior, index, np.tile(flops, len(members)))
    losses = losses.reshape(len(losses), len(members), len(flops))
    best = losses.argmin(axis=1)  # [draw, budget]
    chances = [(best == k).mean(axis=0) for k in range(len(members))]
    frames = [
        place.iloc[[k]].merge(pd.DataFrame({"flops": flops, "probability_best": p}), how="cross")
        for k, p in enumerate(chances)
    ]
    return pd.concat(frames, ignore_index=True)


def document(posterior: Posterior, planner: Planner) -> dict[str, Any]:
    """The planner as plain data for the page's script: columns instead of rows."""
    columns = [str(name) for name in posterior.groups.columns]
    nodes = len(planner.flops)
    named = [f"{q}_{s}" for q in (*QUANTITIES, *BANDS) for s in QUANTILES]
    groups = []
    for g, labels in enumerate(group_labels(posterior)):
        rows = planner.allocations.iloc[g * nodes : (g + 1) * nodes]
        values = {name: rows[name].to_numpy() for name in (*named, "safe_low", "safe_high")}
        groups.append(
            {
                "labels": labels,
                "unseen": bool(rows["unseen"].iloc[0]),
                "largest": float(rows["flops"].iloc[0] / rows["extrapolation_factor"].iloc[0]),
                "values": values,
                "best": _best_of(planner.winners, posterior.groups.iloc[g].to_dict()),
            }
        )
    return {
        "columns": columns,
        "flops": planner.flops,
        "largest": planner.largest,
        "loss_unit": posterior.record.loss_unit,
        "within": WITHIN,
        "groups": groups,
        "reaches": reaches(),
    }


def _best_of(winners: pd.DataFrame, labels: Mapping[Any, Any]) -> Floats | None:
    """A group's chance to be the best of its place, budget by budget."""
    keep = np.ones(len(winners), dtype=bool)
    for name, value in labels.items():
        keep &= (winners[name] == value).to_numpy() if name in winners else False
    return winners["probability_best"].to_numpy(dtype=np.float64)[keep] if keep.any() else None


def group_labels(posterior: Posterior) -> list[list[str]]:
    """What a person reads of each group's columns; a table of one group is ``all runs``."""
    if not posterior.record.by:
        return [["all runs"] for _ in range(len(posterior.groups))]
    rows: Sequence[Any] = list(posterior.groups.itertuples(index=False))
    return [[_label(value) for value in row] for row in rows]


def _label(value: object) -> str:
    missing = value is None or (isinstance(value, float) and np.isnan(value))
    return "not stated" if missing or str(value).strip() in ("", "None", "nan") else str(value)


def reaches() -> list[dict[str, Any]]:
    """What each range of distances has meant in public studies: ends, and words.

    The words are those of `reach_sentence` after its colon. ``low`` is not in the range, ``high``
    is; the last range is beyond all that is known.
    """
    end = 2 * farthest()
    known = [r for r in known_reaches() if r.low < end]
    spans = [(r.low, min(r.high, end)) for r in known] + [(end, np.inf)]
    return [
        {"low": low, "high": high, "words": reach_sentence(_inside(low, high)).partition(": ")[2]}
        for low, high in spans
    ]


def _inside(low: float, high: float) -> float:
    return float(np.sqrt(low * high)) if np.isfinite(high) else 2 * low
