"""How far beyond the runs a prediction is, and what happened that far in public studies.

The bundled table is made by ``benchmarks/scorecard.py --write-reach`` from every cut of every
public table: it is evidence of other studies, not of the one at hand.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull, QhullError

from allometry.observations.units import power_text

if TYPE_CHECKING:
    from allometry.inference.posterior import Posterior

Array = npt.NDArray[np.float64]

FILE = "reach.json"

FAR_ASIDE = 0.3
"""Decades from a group's runs, a factor of two, from which on a point lies aside of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reach:
    """What the scorecard saw at one range of distances.

    Attributes
    ----------
    low, high : float
        Training compute over that of the largest run fitted in the group: above `low`, up to
        `high`.
    runs, studies : int
        Hidden runs and public tables.
    median_error, high_error : float
        Median and 90th percentile of the absolute error of predicted loss, in percent.
    coverage_50, coverage_90 : float
        Share of the runs within their intervals.
    """

    low: float
    high: float
    runs: int
    studies: int
    median_error: float
    high_error: float
    coverage_50: float
    coverage_90: float


@lru_cache(maxsize=1)
def known_reaches() -> tuple[Reach, ...]:
    """The bundled table, nearest first."""
    text = (resources.files("allometry.inference") / FILE).read_text(encoding="utf-8")
    rows = json.loads(text)["rows"]
    return tuple(Reach(**row | {"high": row["high"] or np.inf}) for row in rows)


def reach_sentence(factor: float, *, aside: float = 0.0, unseen: bool = False) -> str:
    """What it means to predict at `factor` times the compute of the group's largest run.

    Parameters
    ----------
    factor : float
        Training compute over that of the group's largest run.
    aside : float
        Decades from the group's runs in (log10 N, log10 D); see `distance_outside`.
    unseen : bool
        Whether the group was never run: the run is then that of a group like it.

    Examples
    --------
    >>> reach_sentence(0.5)
    "Within the compute of the group's runs."
    >>> reach_sentence(0.5, aside=2.0).split(":")[0]
    "Within the compute of the group's runs, but 2.0 decades from their params and tokens"
    """
    whose = "the {} of a group like it" if unseen else "the group's {}"
    if factor <= 1.0:
        within = f"Within the compute of {whose.format('runs')}"
        if aside <= FAR_ASIDE:
            return f"{within}."
        return (
            f"{within}, but {aside:.1f} decades from their params and tokens: the scorecard hid "
            "runs by their compute, so nothing vouches for it."
        )
    begun = f"{times_words(factor)} times the compute of {whose.format('largest run')}"
    found = next((r for r in known_reaches() if r.low < factor <= r.high), None)
    if found is None or factor > 2 * farthest():
        return f"{begun}: farther than any run that the scorecard hid, so nothing vouches for it."
    return (
        f"{begun}: {_range(found)} as far, predictions of {found.runs} hidden runs of "
        f"{found.studies} public studies were off by {found.median_error:.1f} % in the median and "
        f"{found.high_error:.1f} % at the 90th percentile; {100 * found.coverage_90:.0f} % lay "
        f"within their 90 % intervals."
    )


def far_outside(factor: float, aside: float) -> bool:
    """Whether a point is far enough from its group's runs to be told so."""
    return factor > 1.0 or aside > FAR_ASIDE


def times_words(factor: float) -> str:
    """A factor to two digits: 5, 1,900, 1.9e41."""
    if factor >= 1e9:
        return power_text(factor, ".1e")
    return f"{factor:.2g}" if factor < 100 else f"{float(f'{factor:.2g}'):,.0f}"


def _range(found: Reach) -> str:
    if np.isfinite(found.high):
        return f"{found.low:g} to {found.high:g} times"
    return f"more than {found.low:g} times"


@lru_cache(maxsize=1)
def farthest() -> float:
    """Compute over that of the largest run fitted, of the farthest run that the scorecard hid."""
    text = (resources.files("allometry.inference") / FILE).read_text(encoding="utf-8")
    return float(json.loads(text)["farthest"])


def distance_outside(
    posterior: "Posterior", group: npt.NDArray[np.int64], params: Array, tokens: Array
) -> Array:
    """Decades from each point to the convex hull of its group's runs in (log10 N, log10 D).

    Zero inside. For a group that was never run: the hull of all runs.

    Parameters
    ----------
    posterior : Posterior
    group : ndarray of int, shape (point,)
    params, tokens : ndarray, shape (point,)
    """
    data = posterior.idata["constant_data"]
    own = data["group_index"].to_numpy()
    runs = np.log10(np.stack([data[n].to_numpy().astype(float) for n in ("params", "tokens")], 1))
    points = np.log10(np.stack([np.asarray(params), np.asarray(tokens)], axis=1))
    found = np.zeros(len(points))
    for g in np.unique(group):
        mine = np.asarray(group) == g
        found[mine] = _from_hull(points[mine], runs[own == g] if (own == g).any() else runs)
    return found


def _from_hull(points: Array, runs: Array) -> Array:
    """Distance of points to the convex hull of runs, shape (point,)."""
    try:
        hull = ConvexHull(runs)
        corners = runs[hull.vertices]
        slack = points @ hull.equations[:, :2].T + hull.equations[:, 2]
        inside = (slack <= 1e-9).all(axis=1)
    except (QhullError, ValueError):  # fewer than three runs, or all on one line
        order = np.lexsort(runs.T[::-1])
        corners = runs[order[[0, -1]]]
        inside = np.zeros(len(points), dtype=bool)
    distance = np.full(len(points), np.inf)
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        edge = b - a
        along = np.clip((points - a) @ edge / max(float(edge @ edge), 1e-300), 0.0, 1.0)
        gap = points - (a + along[:, None] * edge)
        distance = np.minimum(distance, np.hypot(gap[:, 0], gap[:, 1]))
    return np.where(inside, 0.0, distance)
