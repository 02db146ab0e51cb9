"""Which groups a question is about: those that were run, or one that never was."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypedDict, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.accounting import CostModel
from allometry.errors import InputError
from allometry.inference import Posterior
from allometry.inference.costs import cost_source

OPEN = ("context_length",)
"""Columns whose every value is a possible one; a value of the others may be misspelt."""


class UnseenGroupWarning(UserWarning):
    """An answer is for a group that was never run."""


class Which(TypedDict, total=False):
    """Which groups are asked; all optional.

    Attributes
    ----------
    architecture : str
        Only this one.
    context_length : int
        Only this one. If no group has it, it is predicted from the population.
    group : mapping
        Any group columns with their values, such as ``{"context_length": 4096}``.
    unseen : bool
        Allow an architecture (or another name) that no group has.
    force : bool
        Answer although the fit did not converge.
    """

    architecture: str | None
    context_length: int | None
    group: Mapping[str, Any] | None
    unseen: bool
    force: bool


def ask(
    posterior: Posterior, *, cost: CostModel | None = None, **which: Unpack[Which]
) -> tuple[Posterior, list[int]]:
    """The posterior with the groups that are asked, and their indices.

    Parameters
    ----------
    posterior : Posterior
    cost : CostModel, optional
        Instead of the posterior's own, for the groups that it was fitted to.
    which : Which

    Raises
    ------
    NotConvergedError
        If the fit did not converge and `force` is not set.
    InputError
        If the runs were not grouped by what is asked, or a name is unknown and `unseen` not set.

    Warns
    -----
    UnseenGroupWarning
        If a group that is asked was never run: where its prediction comes from.
    """
    posterior.require_converged(force=which.get("force", False))
    if cost is not None:
        posterior = replace(posterior, record=replace(posterior.record, cost=cost))
    wanted = wanted_labels(posterior, which)
    keep = np.ones(len(posterior.groups), dtype=bool)
    for name, value in wanted.items():
        keep &= _is(posterior.groups[name], value)
    if keep.any():
        return posterior, np.flatnonzero(keep).tolist()
    allow_names(posterior, wanted, unseen=which.get("unseen", False))
    others = [name for name in posterior.groups.columns if name not in wanted]
    labels = posterior.groups[others].drop_duplicates() if others else pd.DataFrame(index=[0])
    extended = with_unseen(posterior, labels.assign(**wanted))
    return extended, list(range(len(posterior.groups), len(extended.groups)))


def wanted_labels(posterior: Posterior, which: Which) -> dict[str, Any]:
    """Group columns that are asked for, with their values."""
    given = {name: which.get(name) for name in ("architecture", "context_length")}
    wanted = {name: value for name, value in given.items() if value is not None}
    for name, value in (which.get("group") or {}).items():
        if name in wanted and str(wanted[name]) != str(value):
            what = f"{name} is asked to be {wanted[name]} and {value}"
            raise InputError(what, where="group", hint="Name it once.")
        wanted[name] = value
    known = posterior.record.by
    if lost := [name for name in wanted if name not in known]:
        raise posterior.not_grouped_by(lost)
    return wanted


def allow_names(posterior: Posterior, wanted: Mapping[str, Any], *, unseen: bool) -> None:
    """Refuse names that no group has, unless they are meant: they may be misspelt."""
    groups = posterior.groups
    lost = {
        name: value
        for name, value in wanted.items()
        if name not in OPEN and not _is(groups[name], value).any()
    }
    if lost and not unseen:
        asked = ", ".join(f"{name} {value}" for name, value in lost.items())
        known = "; ".join(f"{name} {', '.join(groups[name].astype(str).unique())}" for name in lost)
        hint = (
            f"There are {known}. One that was never run is predicted with --unseen (unseen=True)."
        )
        raise InputError(f"no group with {asked}", where=posterior.where, hint=hint)


def with_unseen(posterior: Posterior, labels: pd.DataFrame) -> Posterior:
    """The posterior with further groups, with a warning for each."""
    extended = posterior.with_groups(labels)
    for text in unseen_notes(extended)[int(posterior.unseen.sum()) :]:
        warnings.warn(text, UnseenGroupWarning, stacklevel=3)
    return extended


def unseen_notes(posterior: Posterior) -> list[str]:
    """One sentence a group that was never run: where its prediction comes from."""
    groups, unseen = posterior.groups, posterior.unseen
    run = groups[~unseen]
    first = groups.columns[0]
    notes = []
    for i in np.flatnonzero(unseen):
        row = groups.iloc[i]
        alike = run[_is(run[first], row[first])] if first not in OPEN else run
        parts = [f"predicted from the population of {len(run)} groups"]
        if alike.empty:
            parts.append(f"with the spread between {run[first].nunique()} known {first}s")
            if run[first].nunique() < 3:
                parts.append("which so few hardly tell")
        if "context_length" in groups:
            parts.append(_context_words(alike if len(alike) else run, row["context_length"]))
        source = {"accounting": "from the accounting", "table": "as those of the other groups",
                  "6nd": "6 N D"}[cost_source(posterior.record.cost, row)]  # fmt: skip
        parts.append(f"training FLOPs {source}")
        name = "/".join(map(str, row))
        notes.append(f"{name} was never run: {', '.join(parts)}")
    return notes


def _context_words(run: pd.DataFrame, context: float) -> str:
    known = run["context_length"].astype(float)
    low, high = int(known.min()), int(known.max())
    if low == high:
        return f"known at context {low} only, so the change with context is a guess"
    if low <= context <= high:
        return f"between contexts {low} and {high}"
    edge = low if context < low else high
    doublings = abs(np.log2(context / edge))
    noun = "doubling" if doublings == 1 else "doublings"
    return f"{doublings:.2g} {noun} beyond contexts {low} to {high}"


def group_columns(posterior: Posterior, index: npt.NDArray[np.int64]) -> pd.DataFrame:
    """Label columns of groups, and ``unseen``: whether they were never run; one row an index."""
    labels = posterior.groups.iloc[index].reset_index(drop=True)
    return labels.assign(unseen=posterior.unseen[index])


def _is(column: "pd.Series[Any]", value: object) -> npt.NDArray[np.bool_]:
    return np.asarray((column.astype(str) == str(value)).to_numpy(), dtype=bool)
