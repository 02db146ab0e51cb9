"""The declared schema of a runs table, and its broken rules as one error."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from allometry.errors import InputError

REQUIRED = ("params", "tokens", "loss")
"""Columns without which a table is not one of runs."""

NUMERIC = (
    *REQUIRED,
    *("flops", "context_length", "params_non_embedding", "loss_stderr", "unique_tokens", "epochs"),
    *("batch_size", "learning_rate", "d_model", "n_layers", "n_heads", "d_ff", "seed"),
)
"""Canonical columns read as numbers; `params_non_embedding` and later ones may have gaps."""

GROUP_COLUMNS = ("architecture", "context_length")
"""Columns whose cells are groups unless a user names others."""

_SHOWN = 5  # offenders named in a message; the rest are counted
_LISTED = 30  # columns named in a message


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """What the cells of a column must be.

    Attributes
    ----------
    holds : callable
        From cells that are there to whether each keeps the rule.
    words : str
        The rule, as an error says it.
    required, gaps : bool
        Whether the column must be there, and whether cells may be missing.
    text : bool
        Cells are text, not float64 numbers.
    """

    holds: Callable[[pd.Series], pd.Series]
    words: str
    required: bool = True
    gaps: bool = False
    text: bool = False


Rules = Mapping[str, Rule]


def _positive(name: str, *, required: bool = True, gaps: bool = False) -> Rule:
    return Rule(
        holds=lambda values: np.isfinite(values) & (values > 0),
        words=f"{name} must be positive and finite",
        required=required,
        gaps=gaps,
    )


RUNS: Rules = {
    **{name: _positive(name) for name in REQUIRED},
    "flops": _positive("flops", required=False),
    "context_length": Rule(
        holds=lambda values: np.isfinite(values) & (values >= 1) & (values % 1 == 0),
        words="context_length must be a whole number of tokens, 1 or more",
        required=False,
    ),
    "architecture": Rule(
        holds=lambda values: values.str.len() > 0,
        words="architecture is empty",
        required=False,
        text=True,
    ),
    "loss_stderr": Rule(
        holds=lambda values: np.isfinite(values) & (values >= 0),
        words="loss_stderr must be zero or positive, and finite",
        required=False,
        gaps=True,
    ),
    **{
        name: _positive(name, required=False, gaps=True)
        for name in NUMERIC
        if name not in (*REQUIRED, "flops", "context_length", "loss_stderr", "seed")
    },
}
"""Rules of a runs table; columns that are not named here pass untouched."""


def _within(name: str, low: float, high: float, *, required: bool = True) -> Rule:
    return Rule(
        holds=lambda values: (values >= low) & (values <= high),
        words=f"{name} must lie between {low:g} and {high:g}",
        required=required,
    )


LIMITS: Rules = {
    "params": _within("params", 1e-9, 1e30),
    "tokens": _within("tokens", 1e-9, 1e30),
    "flops": _within("flops", 1e-9, 1e60, required=False),
    "loss": _within("loss", 1e-9, 1e9),
}
"""Far beyond any run in any unit: what lies outside overflows in a fit and is a slip."""


def validate_runs(
    table: pd.DataFrame,
    *,
    source: str = "table",
    unreadable: dict[str, list[tuple[int, object]]] | None = None,
) -> pd.DataFrame:
    """Check a runs table; return a new frame, or raise one `InputError` with every broken rule.

    Parameters
    ----------
    table : DataFrame
        Canonical columns, numbers as float64. Its index is what messages call the row.
    source : str
        What to call the table in errors.
    unreadable : dict, optional
        Column -> (row, cell) of cells that held something which is not a number; they are NaN in
        `table`.

    Returns
    -------
    DataFrame
        params, tokens, flops and loss float64; context_length int64; architecture text.
    """
    require_columns(table, REQUIRED, source=source)
    if broken := broken_rules(RUNS, table, unreadable or {}) or broken_rules(LIMITS, table, {}):
        hint = "Correct the rows, or leave them out with exclude= (--exclude)."
        if conditions := _conditions(table):
            listed = " or ".join(conditions)
            hint = f'Correct the rows, or leave them out: exclude="{listed}" (--exclude).'
        if (table["loss"] < 0).any():
            hint += " A negative loss may be a log-likelihood: the loss is its negative."
        raise InputError(broken, where=source, hint=hint)
    checked = table.copy()
    if "context_length" in checked:
        checked = checked.assign(context_length=checked["context_length"].astype("int64"))
    return checked


def _conditions(table: pd.DataFrame) -> list[str]:
    """Conditions that some rows of the required columns meet, not all, and that no run may."""
    found = []
    for name in REQUIRED:
        for condition, rows in (
            (f"{name} is None", table[name].isna()),
            (f"{name} <= 0", table[name] <= 0),
        ):
            if rows.any() and not rows.all():
                found.append(condition)
    return found


def broken_rules(
    rules: Rules,
    table: pd.DataFrame,
    unreadable: Mapping[str, Sequence[tuple[int, object]]],
) -> str:
    """Describe every rule that a table breaks, with its rows; empty if none."""
    if not unreadable and all(_keeps(rule, name, table) for name, rule in rules.items()):
        return ""
    # A fifth of a second, which a table without faults need not wait.
    import pandera.pandas as pa
    from pandera.errors import SchemaErrors

    columns = {
        name: pa.Column(
            object if rule.text else float,
            pa.Check(rule.holds, error=rule.words),
            required=rule.required,
            nullable=rule.gaps,
        )
        for name, rule in rules.items()
    }
    broken = _Broken()
    for column, cells in unreadable.items():
        for row, cell in cells:
            if row in table.index:
                broken.add(f"{column} is not a number", column, row, repr(cell))
    try:
        pa.DataFrameSchema(columns).validate(table, lazy=True)
    except SchemaErrors as error:
        for failure in error.failure_cases.to_dict("records"):
            broken.add(*_describe(failure))
    return broken.describe()


def _keeps(rule: Rule, name: str, table: pd.DataFrame) -> bool:
    """Whether a column certainly keeps its rule."""
    if name not in table:
        return not rule.required
    values = table[name]
    if values.dtype != (object if rule.text else np.float64):
        return False
    there = values.dropna()
    return (rule.gaps or len(there) == len(values)) and bool(rule.holds(there).all())


def require_columns(
    table: pd.DataFrame, names: Iterable[str], *, source: str, found: Sequence[str] | None = None
) -> None:
    """Raise one `InputError` that names the columns a table lacks, and those it has.

    `found` is what the source calls the columns, where that is not what `table` does.
    """
    missing = [name for name in names if name not in table]
    if not missing:
        return
    columns = list(map(str, found or table.columns))
    more = f" and {len(columns) - _LISTED} more" if len(columns) > _LISTED else ""
    what = f"no column {', '.join(missing)}; found {', '.join(columns[:_LISTED])}{more}"
    hint = "Rename the columns, or map them with aliases= (--alias N=params)."
    raise InputError(what, where=source, hint=hint)


def name_rows(rows: Iterable[object]) -> str:
    """Rows for a message: the first five, and how many more.

    Examples
    --------
    >>> name_rows([3]), name_rows(range(8))
    ('row 3', 'row 0, 1, 2, 3, 4 and 3 more')
    """
    listed = [str(row) for row in rows]
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return f"row {', '.join(listed[:_SHOWN])}{more}"


class _Broken:
    """Broken rules with their rows; a cell is reported once, by the first rule it breaks."""

    def __init__(self) -> None:
        self.rules: dict[str, dict[object, str]] = {}
        self._seen: set[tuple[str, object]] = set()

    def add(self, rule: str, column: str, row: object, cell: str) -> None:
        if (column, row) not in self._seen:
            self._seen.add((column, row))
            self.rules.setdefault(rule, {})[row] = cell

    def describe(self) -> str:
        parts = []
        for rule, rows in self.rules.items():
            cells = list(dict.fromkeys(cell for cell in rows.values() if cell))
            got = f", got {', '.join(cells[:3])}{' ...' if len(cells) > 3 else ''}" if cells else ""
            parts.append(f"{rule}{got} ({name_rows(rows)})")
        return "; ".join(parts)


def _describe(failure: Mapping[Hashable, Any]) -> tuple[str, str, object, str]:
    # One line of pandera's failure_cases: rule, column, row, cell as text.
    column, check = str(failure["column"]), str(failure["check"])
    row, cell = failure["index"], failure["failure_case"]
    if check == "not_nullable":
        return f"{column} is missing", column, row, ""
    return check, column, row, f"{cell:g}" if isinstance(cell, float) else repr(cell)
