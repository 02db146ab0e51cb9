"""Points of params and tokens that somebody asks about, from a table as people write them."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from allometry.errors import InputError
from allometry.observations.cells import parse_numbers
from allometry.observations.columns import apply_map, map_columns
from allometry.observations.loading import load_table
from allometry.observations.schema import LIMITS, NUMERIC, RUNS, broken_rules, require_columns

_NEEDED = ("params", "tokens")


def read_points(path: Path, *, aliases: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Points to predict at, with the names and units that `read_runs` understands.

    Parameters
    ----------
    path : Path
        CSV, Parquet or JSON lines; one row a run that has not been made.
    aliases : mapping of str to str, optional
        Column of the table -> the name to read it as.

    Returns
    -------
    DataFrame
        params and tokens as float64; further columns under their canonical names.

    Raises
    ------
    InputError
        If the file cannot be read, lacks params or tokens, or holds what no run can have.
    """
    table = load_table(path)[0]
    mapping = map_columns(table, aliases=aliases, source=str(path), must_be_clear=_NEEDED)
    table = apply_map(table, mapping)
    require_columns(table, _NEEDED, source=str(path))
    unreadable: dict[str, list[tuple[int, object]]] = {}
    numbers: dict[str, pd.Series] = {}
    for name in NUMERIC:
        if name in table:
            numbers[name] = parse_numbers(table[name], kind=name)[0] * mapping.scale.get(name, 1.0)
            lost = table.index[numbers[name].isna() & table[name].notna()]
            if len(lost) and name in _NEEDED:
                unreadable[name] = [(int(row), table.at[row, name]) for row in lost]
    table = table.assign(**numbers)
    check_points(table, source=str(path), unreadable=unreadable)
    return table


def check_points(
    table: pd.DataFrame,
    *,
    source: str = "points",
    unreadable: Mapping[str, list[tuple[int, object]]] | None = None,
) -> None:
    """Raise one `InputError` with every cell of params and tokens that no run can have."""
    rules = ({name: rules[name] for name in _NEEDED} for rules in (RUNS, LIMITS))
    first, second = rules
    if broken := broken_rules(first, table, unreadable or {}) or broken_rules(second, table, {}):
        raise InputError(broken, where=source, hint="Correct the rows.")
