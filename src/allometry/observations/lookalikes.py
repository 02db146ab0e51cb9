"""Unread columns whose values look like a column that a table lacks, to be asked about."""

import numpy as np
import pandas as pd

from allometry.observations.columns import ALIASES

_LEAST_SHARE = 0.9  # of rows whose FLOPs are within a factor of 3 of 6 N D
_CONTEXTS = (64, 2**24)  # tokens


def lookalikes(table: pd.DataFrame) -> dict[str, str]:
    """Canonical name that is absent -> the one unread column that may hold it.

    Parameters
    ----------
    table : DataFrame
        With canonical names and numbers.

    Returns
    -------
    dict of str to str
        Keys among architecture, context_length and flops. A name is left out where no column, or
        more than one, looks like it.

    Examples
    --------
    >>> lookalikes(
    ...     pd.DataFrame({"params": [1e8, 2e8], "tokens": [2e9, 4e9], "work": [1e18, 5e18]})
    ... )
    {'flops': 'work'}
    """
    unread = [name for name in map(str, table.columns) if name not in ALIASES]
    tests = {"architecture": _is_kind, "context_length": _is_context, "flops": _is_work}
    found = {}
    for target, test in tests.items():
        if target in table:
            continue
        alike = [name for name in unread if test(table, name)]
        if len(alike) == 1:
            found[target] = alike[0]
    return found


def _is_kind(table: pd.DataFrame, name: str) -> bool:
    # A few texts, each on several rows.
    if pd.api.types.is_numeric_dtype(table[name]):
        return False
    texts = table[name].dropna()
    if texts.empty or not texts.map(lambda cell: isinstance(cell, str)).all():
        return False
    kinds = texts.nunique()
    return 2 <= kinds <= min(20, len(texts) // 3)


def _is_context(table: pd.DataFrame, name: str) -> bool:
    # A few whole numbers, most of them powers of two.
    numbers = _numbers(table, name)
    if numbers is None or numbers.nunique() > max(1, len(numbers) // 3):
        return False
    lengths = numbers.unique()
    low, high = _CONTEXTS
    within = (lengths >= low) & (lengths <= high)
    return bool(within.all() and (np.log2(lengths) % 1 == 0).mean() > 0.5)


def _is_work(table: pd.DataFrame, name: str) -> bool:
    numbers = _numbers(table, name)
    if numbers is None or (numbers <= 0).any():
        return False
    ratio = numbers / (6.0 * table["params"] * table["tokens"])
    return bool(((ratio > 1 / 3) & (ratio < 3)).mean() >= _LEAST_SHARE)


def _numbers(table: pd.DataFrame, name: str) -> pd.Series | None:
    values = table[name]
    if pd.api.types.is_bool_dtype(values) or not pd.api.types.is_numeric_dtype(values):
        return None
    numbers = values.astype("float64")
    return None if numbers.isna().any() else numbers
