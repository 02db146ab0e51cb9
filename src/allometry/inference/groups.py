"""Which run belongs to which group, and how groups are related."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.errors import InputError

DEFAULT_COLUMNS = ("architecture", "context_length")


@dataclass(frozen=True, kw_only=True, slots=True)
class Grouping:
    """Groups of a runs table, nested in the levels of the first group column.

    Attributes
    ----------
    columns : tuple of str
        Group columns; empty if the table is one group.
    labels : DataFrame
        One row a group, one column a group column.
    index : ndarray of int, shape (run,)
        Group of each run.
    parents : tuple of str
        Levels of the first column (architectures); groups of one level share an effect.
    parent : ndarray of int, shape (group,)
        Level of each group.
    doublings : ndarray, shape (group,)
        log2 of the context length over its geometric mean; zeros without contexts.
    context_reference : float
        That geometric mean in tokens; 1 without contexts.
    """

    columns: tuple[str, ...]
    labels: pd.DataFrame
    index: npt.NDArray[np.int64]
    parents: tuple[str, ...]
    parent: npt.NDArray[np.int64]
    doublings: npt.NDArray[np.float64]
    context_reference: float

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """One name a group, such as ``xlstm/8192``."""
        if not self.columns:
            return ("all",)
        return tuple(group_name(row) for row in self.labels.itertuples(index=False))

    @property
    def runs_per_group(self) -> npt.NDArray[np.int64]:
        """Number of runs of each group."""
        return np.bincount(self.index, minlength=self.n_groups)

    @property
    def nested(self) -> bool:
        """Whether groups share an effect of their first column beside the population's."""
        return 1 < len(self.parents) < self.n_groups

    @property
    def covariate(self) -> bool:
        """Whether there are two contexts or more, so that doublings matter."""
        return bool(np.ptp(self.doublings) > 0)


def group_name(labels: Iterable[object]) -> str:
    """Name of a group from the values of its columns.

    Examples
    --------
    >>> group_name(("xlstm", 8192))
    'xlstm/8192'
    """
    return "/".join(map(str, labels))


def group_runs(table: pd.DataFrame, by: Sequence[str] | None = None) -> Grouping:
    """Assign each run to a group.

    Parameters
    ----------
    table : DataFrame
        Validated runs.
    by : sequence of str, optional
        Group columns. By default ``architecture`` and ``context_length``, those that are there.

    Raises
    ------
    InputError
        If a named column is missing or has empty cells.
    """
    columns = tuple(by) if by is not None else tuple(c for c in DEFAULT_COLUMNS if c in table)
    if missing := [name for name in columns if name not in table]:
        what = f"no column {', '.join(missing)} to group by; found {', '.join(table.columns)}"
        raise InputError(what, where="by", hint="Name columns of the table with by= (--by).")
    if empty := [name for name in columns if table[name].isna().any()]:
        what = f"group column {', '.join(empty)} has empty cells"
        raise InputError(what, where="by", hint="Fill them in, or group by other columns.")
    if not columns:
        zeros = np.zeros(len(table), dtype=np.int64)
        labels = pd.DataFrame({"group": ["all"]})
        return _grouping((), labels, zeros)
    grouped = table.groupby(list(columns), sort=True)
    index = grouped.ngroup().to_numpy()
    first = table.assign(_group=index).drop_duplicates("_group").sort_values("_group")
    return _grouping(columns, first[list(columns)].reset_index(drop=True), index)


def _grouping(columns: tuple[str, ...], labels: pd.DataFrame, index: npt.NDArray[Any]) -> Grouping:
    parent, parents = pd.factorize(labels.iloc[:, 0].astype(str))
    doublings, reference = context_doublings(labels)
    return Grouping(
        columns=columns,
        labels=labels,
        index=index.astype(np.int64),
        parents=tuple(parents),
        parent=parent.astype(np.int64),
        doublings=doublings,
        context_reference=reference,
    )


def context_doublings(labels: pd.DataFrame) -> tuple[npt.NDArray[np.float64], float]:
    """log2(context / geometric mean) of each group, and that mean; zeros and 1 without contexts."""
    if "context_length" not in labels:
        return np.zeros(len(labels)), 1.0
    log2 = np.log2(labels["context_length"].to_numpy(dtype=np.float64))
    return log2 - log2.mean(), float(2.0 ** log2.mean())
