"""`read_runs`: any table of finished runs becomes a checked `Runs`, or one clear error."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from allometry.errors import InputError
from allometry.observations.catalogue import TABLES
from allometry.observations.cells import parse_numbers
from allometry.observations.columns import (
    NOT_LOSS,
    TRAINING_LOSS,
    apply_map,
    map_columns,
    simplified,
)
from allometry.observations.expressions import select_rows
from allometry.observations.fetching import table_path
from allometry.observations.loading import load_table
from allometry.observations.lookalikes import lookalikes
from allometry.observations.outliers import robust_exclusions
from allometry.observations.record import Exclusion, Runs
from allometry.observations.registry import Preparation
from allometry.observations.schema import (
    GROUP_COLUMNS,
    NUMERIC,
    REQUIRED,
    name_rows,
    require_columns,
    validate_runs,
)
from allometry.observations.settings import beaten_exclusions
from allometry.observations.suspicions import suspicions

OUTLIERS, BEATEN, DUPLICATES = "outliers", "beaten", "duplicates"
"""The words for three rules among the conditions of `read_runs`."""

DUPLICATE = "duplicate: equal to an earlier row in params, tokens, loss, group and seed"


def read_runs(
    source: str | Path | pd.DataFrame,
    *,
    aliases: Mapping[str, str] | None = None,
    exclude: str | Sequence[str] | None = None,
    by: Sequence[str] | None = None,
    folder: Path | None = None,
) -> Runs:
    """Finished runs from a file, a frame or a registered table, checked and with a record.

    Parameters
    ----------
    source : path, DataFrame or str
        CSV, TSV, Parquet, JSON or JSON lines (also ``.gz``); a frame, which is not changed; or the
        name of a registered table (`allometry.observations.TABLES`), which is then prepared as its
        entry says.
    aliases : mapping of str to str, optional
        Column of the table -> the name to read it as. Wins over the names known by themselves.
    exclude : str or sequence of str, optional
        Rows to leave out, as conditions (see `select_rows`), before any rule is checked;
        ``"outliers"`` stands for `robust_exclusions`, ``"beaten"`` for `beaten_exclusions`,
        ``"duplicates"`` for all but the first of rows that are equal in params, tokens, loss, group
        and seed. Rows marked `diverged` are always left out.
    by : sequence of str, optional
        Columns whose cells are groups; default architecture and context_length where present.
    folder : Path, optional
        Where registered tables lie; default as in `table_path`.

    Returns
    -------
    Runs

    Raises
    ------
    InputError
        If the source cannot be read as a table of runs: one error names every broken rule, its
        rows (0 is the first row of data) and what to do.
    """
    table, name, digest, preparation = _load(source, folder)
    warnings = list(preparation.notes)
    aliases = {**preparation.aliases, **(aliases or {})}
    mapping = map_columns(table, aliases=aliases, source=name)
    read_as = {column: mapping.canonical.get(column, column) for column in map(str, table.columns)}
    table = apply_map(table, mapping)
    warnings += mapping.warnings
    _explain_missing(table, read_as, source=name)
    table, unreadable, notes = _read_cells(table, mapping.scale)
    warnings += notes
    table = preparation.derive(table)

    conditions = [exclude] if isinstance(exclude, str) else list(exclude or ())
    asked = [(text, text) for text in conditions if text not in (OUTLIERS, BEATEN, DUPLICATES)]
    own_names = {
        column: name for column, name in mapping.canonical.items() if name not in mapping.scale
    }
    table, excluded = _leave_out(table, [*preparation.exclude, *asked], own_names)
    if table.empty:
        hint = "Loosen the conditions."
        raise InputError(f"all {len(excluded)} rows are excluded", where=name, hint=hint)
    table, notes = _absent_columns(table)
    warnings += notes
    chosen = [mapping.canonical.get(column, column) for column in by or preparation.by]
    reason = preparation.repeated or (DUPLICATE if DUPLICATES in conditions else "")
    table = _valid(table, chosen, source=name, unreadable=unreadable, alone=not reason)
    groups = _group_columns(table, chosen, source=name, asked=by is not None)
    repeated = _repetitions(table, groups)
    if reason:
        excluded += [
            Exclusion(row=row, run_id=_run_id(table, row), reason=reason)
            for rows in repeated.values()
            for row in rows[1:]
        ]
        table = table.drop(index=[row for rows in repeated.values() for row in rows[1:]])
    elif repeated:
        raise InputError(_repetition_words(repeated), where=name, hint=KEEP_ONE)
    for word, rule in ((BEATEN, beaten_exclusions), (OUTLIERS, robust_exclusions)):
        if word in conditions:
            found = rule(table, by=groups)
            excluded += found
            table = table.drop(index=[exclusion.row for exclusion in found])
    suspected = suspicions(table, by=groups, loss_unit=preparation.loss_unit)
    warnings += [text for text in suspected if text not in warnings]
    return Runs(
        table=table.reset_index(drop=True),
        source=name,
        sha256=digest,
        mapped=dict(mapping.canonical),
        excluded=tuple(sorted(excluded, key=lambda exclusion: exclusion.row)),
        warnings=tuple(warnings),
        by=groups,
        loss_unit=preparation.loss_unit,
    )


def _load(
    source: str | Path | pd.DataFrame, folder: Path | None
) -> tuple[pd.DataFrame, str, str, Preparation]:
    if isinstance(source, pd.DataFrame):
        table = source.reset_index(drop=True)
        if table.empty:
            raise InputError("the table has no rows", where="table")
        if not table.columns.is_unique:
            repeated = sorted(set(map(str, table.columns[table.columns.duplicated()])))
            what = f"column {', '.join(map(repr, repeated))} appears more than once"
            raise InputError(what, where="table", hint="Give every column its own name.")
        text = table.to_csv(index=False, lineterminator="\n")  # shortest text that reads back equal
        return table, "table", hashlib.sha256(text.encode()).hexdigest(), Preparation()
    if str(source) in TABLES:
        entry = TABLES[str(source)]
        if entry.kind != "runs":
            what = f"holds {entry.kind}, not finished runs"
            raise InputError(what, where=entry.name, hint=entry.hint)
        table, digest = load_table(table_path(entry.name, folder=folder))
        return table, entry.name, digest, entry.prepare
    path = Path(source)
    if not path.exists() and not path.suffix and len(path.parts) == 1:
        hint = f"Registered tables: {', '.join(TABLES)}."
        raise InputError("no such file and no registered table", where=str(source), hint=hint)
    table, digest = load_table(path)
    return table, str(path), digest, Preparation()


def _explain_missing(table: pd.DataFrame, read_as: Mapping[str, str], *, source: str) -> None:
    # A missing N, D or loss; where a look-alike is there, say why it was not taken.
    alike = {
        column: ("loss", NOT_LOSS[simplified(column)])
        for column in read_as
        if "loss" not in table and simplified(column) in NOT_LOSS
    }
    if "params" not in table:
        lacks = ("params", "a count that lacks the embeddings")
        alike |= {name: lacks for name, to in read_as.items() if to == "params_non_embedding"}
    if not alike:
        require_columns(table, REQUIRED, source=source, found=list(read_as))
        return
    missing = ", ".join(name for name in REQUIRED if name not in table)
    reasons = "; ".join(f"{column!r} is {reason}" for column, (_, reason) in alike.items())
    column, (target, _) = next(iter(alike.items()))
    hint = f"If it is what you mean, map it with aliases= (--alias {column}={target})."
    if target == "loss" and TRAINING_LOSS not in alike[column]:
        hint = "Add a column loss in nats per token (or name another: --alias COLUMN=loss)."
    raise InputError(f"no column {missing}; {reasons}", where=source, hint=hint)


def _read_cells(
    table: pd.DataFrame, scale: Mapping[str, float]
) -> tuple[pd.DataFrame, dict[str, list[tuple[int, object]]], list[str]]:
    # Numbers, architecture names and divergence marks; what could not be read, and what was.
    columns: dict[str, pd.Series] = {}
    unreadable: dict[str, list[tuple[int, object]]] = {}
    notes: list[str] = []
    for name in NUMERIC:
        if name not in table:
            continue
        numbers, units = parse_numbers(table[name], kind=name)
        lost = table.index[numbers.isna() & table[name].notna()]
        if len(lost):
            unreadable[name] = [(int(row), table.at[row, name]) for row in lost]
        if units:
            text, value = next(iter(units.items()))
            notes.append(f"{name}: text read as numbers, such as {text!r} as {value:g}")
        columns[name] = numbers * scale.get(name, 1.0)
    if "architecture" in table:
        columns["architecture"], found = _architectures(table["architecture"])
        notes += found
    if "diverged" in table:
        columns["diverged"] = _marks(table["diverged"])
    return table.assign(**columns), unreadable, notes


def _architectures(column: pd.Series) -> tuple[pd.Series, list[str]]:
    # "Transformer" and "transformer " are one group; the accounting knows the lower-case names.
    texts = column.astype("object").where(column.notna(), None)
    names = texts.map(lambda text: None if text is None else str(text).strip())
    known = {name: name.lower() for name in names.dropna().unique()}
    known = {name: low for name, low in known.items() if low in ("transformer", "xlstm")}
    notes = [
        f"architecture {name!r} read as {low!r} ({int((names == name).sum())} rows)"
        for name, low in known.items()
        if name != low
    ]
    names = names.map(lambda name: known.get(name, name)).astype("object")
    spellings = pd.Series(names.dropna().unique(), dtype="object")
    for _, same in spellings.groupby(spellings.str.lower()):
        if len(same) > 1:
            listed = ", ".join(map(repr, same))
            notes.append(f"architectures {listed} differ in capitals only and are separate groups")
    return names, notes


def _marks(column: pd.Series) -> pd.Series:
    true = {"true", "1", "1.0", "yes", "y", "t", "diverged"}
    return column.map(lambda cell: str(cell).strip().lower() in true).astype(bool)


def _leave_out(
    table: pd.DataFrame, conditions: Sequence[tuple[str, str]], own_names: Mapping[str, str]
) -> tuple[pd.DataFrame, list[Exclusion]]:
    reasons: dict[int, str] = {}
    if "diverged" in table:
        reasons.update({int(row): "diverged" for row in table.index[table["diverged"]]})
    # A user may also write the names of their own table, where these mean the same numbers.
    view = table.assign(
        **{column: table[name] for column, name in own_names.items() if column not in table}
    )
    for condition, reason in conditions:
        for row in table.index[select_rows(view, condition)]:
            reasons.setdefault(int(row), reason)
    excluded = [
        Exclusion(row=row, run_id=_run_id(table, row), reason=reason)
        for row, reason in reasons.items()
    ]
    return table.drop(index=list(reasons)), excluded


def _run_id(table: pd.DataFrame, row: int) -> str | None:
    name = table["run_id"].to_dict().get(row) if "run_id" in table else None
    return None if name is None or name != name else str(name)


def _absent_columns(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    # Optional columns without a single value count as absent, and absence is said.
    optional = [name for name in ("flops", *GROUP_COLUMNS) if name in table]
    empty = [name for name in optional if table[name].isna().all()]
    table = table.drop(columns=empty)
    consequence = {
        "architecture": "all runs are of one architecture",
        "context_length": "all runs are of one context length",
        "flops": "training FLOPs come from the cost model of the fit",
    }
    alike = lookalikes(table)
    notes = [
        f"no {'value in ' if name in empty else ''}column {name}: {text}"
        + (f"; if {alike[name]!r} is it: --alias {alike[name]}={name}" if name in alike else "")
        for name, text in consequence.items()
        if name not in table
    ]
    return table, notes


def _group_columns(
    table: pd.DataFrame, by: Sequence[str] | None, *, source: str, asked: bool
) -> tuple[str, ...]:
    if not by:
        return tuple(name for name in GROUP_COLUMNS if name in table)
    if asked:
        require_columns(table, by, source=source)
    groups = tuple(name for name in by if name in table)
    for name in groups:
        if table[name].isna().any():
            rows = name_rows(table.index[table[name].isna()])
            hint = "Fill the column, or leave the rows out with exclude= (--exclude)."
            raise InputError(f"group column {name} is missing ({rows})", where=source, hint=hint)
    return groups


def _repetitions(table: pd.DataFrame, groups: Sequence[str]) -> dict[int, list[int]]:
    # First row -> all rows that are equal in everything that could tell two runs apart.
    keys = [name for name in (*REQUIRED, *groups, "seed") if name in table]
    repeated = table[table.duplicated(keys, keep=False)]
    sets = repeated.groupby(keys, dropna=False, sort=False).indices.values()
    listed = [[int(repeated.index[place]) for place in places] for places in sets]
    return {rows[0]: rows for rows in sorted(listed)}


KEEP_ONE = (
    "Keep one of each: exclude='duplicates' (--exclude duplicates); a seed column tells true "
    "repetitions apart."
)


def _repetition_words(repeated: Mapping[int, Sequence[int]]) -> str:
    sets = list(repeated.values())
    named = "; ".join(name_rows(rows) for rows in sets[:5])
    more = f"; and {len(sets) - 5} more" if len(sets) > 5 else ""
    what = f"{len(sets)} run(s) appear more than once, equal in params, tokens, loss, group and "
    return f"{what}seed: {named}{more}"


def _valid(
    table: pd.DataFrame,
    chosen: Sequence[str],
    *,
    source: str,
    unreadable: dict[str, list[tuple[int, object]]],
    alone: bool,
) -> pd.DataFrame:
    """`validate_runs`; where a rule is broken, repeated runs are told in the same error."""
    try:
        return validate_runs(table, source=source, unreadable=unreadable)
    except InputError as error:
        if not alone or not set(REQUIRED) <= set(table.columns):
            raise
        groups = [name for name in chosen or GROUP_COLUMNS if name in table]
        repeated = _repetitions(table.dropna(subset=list(REQUIRED)), groups)
        if not repeated:
            raise
        what, hint = f"{error.what}; {_repetition_words(repeated)}", f"{error.hint} {KEEP_ONE}"
        raise InputError(what, where=source, hint=hint) from error
