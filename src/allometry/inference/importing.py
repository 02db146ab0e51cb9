"""What a study asks of a prior that it imports, and how several of them are put together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.errors import InputError
from allometry.inference.drift import Drift
from allometry.inference.fitted_range import RUNS_IN_FULL, Cells, FittedRange
from allometry.inference.groups import Grouping
from allometry.inference.imported import ImportedBlock, ImportedSource
from allometry.inference.loss_priors import LossPriors
from allometry.inference.model import SPREAD_LOG_SD, Structure
from allometry.laws import Law, Scale

Values = npt.NDArray[np.float64]

NODES = 7
"""Quadrature nodes for a log-normal spread: to 1e-6 of the density for spreads of log sd 0.45."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ImportingStudy:
    """The study that a prior is imported into.

    Attributes
    ----------
    law : Law
    structure : Structure
    groups : Grouping
    scale : Scale
        Its reference run.
    priors : LossPriors
        What it would believe without the import.
    table : DataFrame
        Its runs.
    loss_unit : str
    """

    law: Law
    structure: Structure
    groups: Grouping
    scale: Scale
    priors: LossPriors
    table: pd.DataFrame
    loss_unit: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BoundPrior:
    """One imported density in terms of a study.

    Attributes
    ----------
    name : str
        Of the prior it comes from.
    about : tuple of str
        Quantities of the model that it is about: what shares some is mixed, else multiplied.
    source : ImportedSource
    vague : float
        Prior weight of the default prior beside it.
    notes : tuple of str
        What was converted, dropped or matched.
    drift : Drift or None
        Discrepancy beyond the data, where the prior speaks of it.
    fitted_over : tuple of (float, float, float)
        Cells of the runs that its law was fitted to; see `allometry.inference.fitted_range`.
    by_default : bool
        Whether nobody asked for it.
    """

    name: str
    about: tuple[str, ...]
    source: ImportedSource
    vague: float
    notes: tuple[str, ...] = ()
    drift: Drift | None = None
    fitted_over: Cells = ()
    by_default: bool = False


class ImportablePrior(Protocol):
    """Anything that can be imported: see `allometry.priors.PriorFile` and ``PriorUse``."""

    def bind(self, study: ImportingStudy) -> tuple[BoundPrior, ...]:
        """Its densities in terms of the study, or an `InputError` that says why not."""


def bind_all(priors: Sequence[ImportablePrior], study: ImportingStudy) -> tuple[BoundPrior, ...]:
    """All densities of all priors, in order."""
    return tuple(bound for prior in priors for bound in prior.bind(study))


def as_blocks(
    bound: Sequence[BoundPrior],
) -> tuple[tuple[ImportedBlock, ...], tuple[tuple[int, ...], ...]]:
    """Blocks of densities that are about common quantities, and the members of each by index.

    Members of a block share its informative weight equally; its vague weight is their mean.
    """
    members: list[tuple[set[str], list[int]]] = []
    for i, one in enumerate(bound):
        about, indices = set(one.about), [i]
        for other in [m for m in members if m[0] & about]:
            members.remove(other)
            about, indices = about | other[0], other[1] + indices
        members.append((about, sorted(indices)))
    blocks = []
    for _, indices in members:
        vague = float(np.mean([bound[i].vague for i in indices]))
        share = (1.0 - vague) / len(indices)
        weights = np.array([vague, *[share] * len(indices)])
        blocks.append(
            ImportedBlock(
                sources=tuple(bound[i].source for i in indices),
                log_weights=jnp.asarray(np.log(np.maximum(weights, 1e-300))),
            )
        )
    return tuple(blocks), tuple(tuple(indices) for _, indices in members)


def fitted_ranges(
    bound: Sequence[BoundPrior],
    members: Sequence[Sequence[int]],
    weights: Sequence[tuple[Sequence[float], Sequence[float]]],
    *,
    runs: int,
) -> tuple[FittedRange, ...]:
    """Ranges of imported laws: in full, unless the runs are many or speak against an import.

    `weights` are those of the default prior and of each member before and after the runs, block by
    block. A member counts by its share of its block's informative weight, times what the runs left
    of that weight; and less beyond `RUNS_IN_FULL` runs, whose law is theirs.
    """
    found, few = [], min(1.0, RUNS_IN_FULL / runs)
    for indices, (before, after) in zip(members, weights, strict=True):
        informative = sum(after[1:])
        left = few * min(1.0, informative / sum(before[1:]))
        found += [
            FittedRange(weight=left * weight / informative, cells=bound[i].fitted_over)
            for i, weight in zip(indices, after[1:], strict=True)
            if bound[i].fitted_over and weight > 0
        ]
    return tuple(found)


def imported_drift(bound: Sequence[BoundPrior]) -> Drift | None:
    """The drift that imported priors speak of.

    Raises
    ------
    InputError
        If two of them say different things.
    """
    found = {one.drift for one in bound if one.drift is not None}
    if len(found) > 1:
        told = "; ".join(f"{one.name}: {one.drift}" for one in bound if one.drift is not None)
        what = f"imported priors disagree on the drift beyond the data ({told})"
        raise InputError(what, where="prior", hint="Pass drift= yourself.")
    return found.pop() if found else None


def default_covariances(
    study: ImportingStudy, columns: Sequence[int], *, target: str
) -> tuple[Values, Values]:
    """Covariance over groups of each coefficient under the default prior, by node of the spreads.

    Returns
    -------
    covariances : ndarray, shape (k, node, g, g)
    weights : ndarray, shape (node,)
    """
    scale, between, slope = (
        np.array([getattr(c, name) for c in study.priors.coefficients])
        for name in ("scale", "between", "per_doubling")
    )
    if not study.structure.pooled:
        return (scale**2 + between**2)[:, None, None, None], np.ones(1)
    if target == "population":
        return (scale**2)[:, None, None, None], np.ones(1)
    points, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()
    spreads = between[:, None] * np.exp(SPREAD_LOG_SD * points)  # [k, node]
    if target == "level":
        return (scale[:, None] ** 2 + spreads**2)[:, :, None, None], weights
    chosen = np.asarray(columns, dtype=np.int64)
    g = len(chosen)
    common = scale[:, None, None] ** 2 * np.ones((g, g))
    if study.structure.covariate:
        doublings = study.groups.doublings[chosen]
        common = common + slope[:, None, None] ** 2 * np.outer(doublings, doublings)
    own = spreads[:, :, None, None] ** 2 * np.eye(g)  # [k, node, g, g]
    if not study.structure.nested:
        return common[:, None] + own, weights
    parent = study.groups.parent[chosen]
    shared = (parent[:, None] == parent).astype(np.float64)
    above = spreads[:, :, None, None] ** 2 * shared
    both = common[:, None, None] + above[:, :, None] + own[:, None]
    pairs = np.outer(weights, weights).ravel()
    return both.reshape(len(scale), NODES**2, g, g), pairs


def default_noise(study: ImportingStudy, n_columns: int) -> tuple[Values, Values]:
    """Mean (n + 1,) and covariance of the groups' log noise and log_off_valley, by default."""
    noise, off_valley = study.priors.noise, study.priors.off_valley
    mean = np.append(np.full(n_columns, np.log(noise.median)), np.log(off_valley.median))
    covariance = np.zeros((n_columns + 1, n_columns + 1))
    covariance[:-1, :-1] = noise.log_sd**2
    covariance[-1, -1] = off_valley.log_sd**2
    return mean, covariance
