"""What a caller asks: budgets and groups, checked and crossed."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.typing import ArrayLike

from allometry.errors import InputError
from allometry.inference import Posterior


def check_budgets(flops: ArrayLike, *, where: str = "flops") -> npt.NDArray[np.float64]:
    """Budgets as a flat float array.

    Raises
    ------
    InputError
        If there are none, or some are not positive and finite.
    """
    values = np.atleast_1d(np.asarray(flops, dtype=np.float64)).ravel()
    if len(values) == 0:
        raise InputError("no budget given", where=where, hint="Give one or more, such as 1e22.")
    bad = values[~(np.isfinite(values) & (values > 0))]
    if len(bad):
        what = f"budgets must be positive and finite, got {', '.join(f'{v:g}' for v in bad[:5])}"
        raise InputError(what, where=where)
    return values


def cross(
    posterior: Posterior, groups: list[int], flops: npt.NDArray[np.float64]
) -> tuple[pd.DataFrame, npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Every group with every budget: label columns, group indices and budgets, one row each."""
    index = np.repeat(np.asarray(groups, dtype=np.int64), len(flops))
    labels = posterior.groups.iloc[index].reset_index(drop=True)
    return labels, index, np.tile(flops, len(groups))
