"""`read_latency`: any table of inference timings becomes a checked `LatencyTable`."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from allometry.errors import InputError
from allometry.observations.catalogue import TABLES
from allometry.observations.cells import parse_numbers
from allometry.observations.columns import (
    ALIASES,
    apply_map,
    map_columns,
    vocabulary,
)
from allometry.observations.fetching import table_path
from allometry.observations.latency_foreign import read_foreign
from allometry.observations.loading import load_table, read_bytes
from allometry.observations.record import Exclusion
from allometry.observations.schema import (
    Rule,
    Rules,
    broken_rules,
    name_rows,
    require_columns,
)

QUANTITIES = ("ttft", "step_time")
"""Time to first token of the whole batch; mean time of one decode step of the whole batch."""

REQUIRED = ("architecture", "params", "batch_size", "prefill_length", "quantity", "seconds")

_WIDTHS = (
    *("d_model", "n_layers", "n_heads", "n_kv_heads", "head_dim_qk", "head_dim_v", "d_ff"),
    *("vocab_size", "chunk_size"),
)
_NUMERIC = (
    *("params", "batch_size", "prefill_length", "generation_length"),
    *("seconds", "seconds_std", "repeats", *_WIDTHS),
)
_SHARED = ("architecture", "params", "d_model", "n_layers", "n_heads", "d_ff", "batch_size")
_NAMES = vocabulary(
    {name: ALIASES[name] for name in _SHARED}
    | {
        "seconds": ["time_s", "latency_s", "latency_seconds", "duration_s", "time_seconds"],
        "seconds_std": ["time_std_s", "std_s", "time_s_std", "latency_std_s"],
        "repeats": ["n_repeats", "repetitions", "n_samples"],
        "prefill_length": ["prompt_length", "prompt_len", "input_len", "input_length", "n_prompt"],
        "generation_length": ["output_len", "output_length", "n_gen", "generated_tokens"],
        "quantity": ["metric", "measure"],
        "device": ["gpu", "gpu_name", "device_name", "accelerator"],
        "dtype": ["precision", "data_type"],
        "backend": ["engine", "framework"],
        "n_kv_heads": ["num_kv_heads", "num_key_value_heads"],
        "head_dim_qk": ["qk_head_dim"],
        "head_dim_v": ["v_head_dim"],
        "vocab_size": ["n_vocab"],
        "chunk_size": [],
        "status": [],
    }
)


def _numbers(rule: str, lowest: float, *, required: bool = False, whole: bool = False) -> Rule:
    def _holds(values: pd.Series) -> pd.Series:
        inside: pd.Series = np.isfinite(values) & (values >= lowest)
        return inside & (values % 1 == 0) if whole else inside

    return Rule(holds=_holds, words=rule, required=required, gaps=not required)


LATENCY: Rules = {
    "architecture": Rule(
        holds=lambda values: values.notna(), words="architecture is missing", text=True
    ),
    "params": _numbers("params must be 1 or more", 1, required=True),
    "batch_size": _numbers(
        "batch_size must be a whole number, 1 or more", 1, required=True, whole=True
    ),
    "prefill_length": _numbers(
        "prefill_length must be a whole number of tokens, 0 or more", 0, required=True, whole=True
    ),
    "seconds": Rule(
        holds=lambda values: np.isfinite(values) & (values > 0),
        words="seconds must be positive and finite",
    ),
    "seconds_std": _numbers("seconds_std must be zero or positive, and finite", 0),
    "generation_length": _numbers(
        "generation_length must be a whole number of tokens, 0 or more", 0, whole=True
    ),
    **{
        name: _numbers(f"{name} must be a whole number, 1 or more", 1, whole=True)
        for name in ("repeats", *_WIDTHS)
    },
}
"""Rules of a latency table; columns that are not named here pass untouched."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LatencyTable:
    """Inference timings that passed every rule, and how they came to be.

    Attributes
    ----------
    table : DataFrame
        One row a measured point, numbered from 0. Always: `architecture`, `params`, `batch_size`,
        `prefill_length` (tokens), `quantity` (``ttft`` or ``step_time``, both of the whole batch),
        `seconds`, `status` (``ok``). Where known: the widths of the model, `generation_length`,
        `seconds_std`, `repeats`, `device`, `dtype`, `backend`. Other columns are untouched.
    out_of_memory : DataFrame
        Points with status ``oom``: the device could not hold them; `seconds` says nothing there.
    source, sha256 : str
        As in `Runs`.
    mapped : dict of str to str
        Column of the source -> canonical name, for those that were renamed.
    excluded : tuple of Exclusion
        Rows left out, with the reason.
    warnings : tuple of str
        What stands but may surprise.
    """

    table: pd.DataFrame
    out_of_memory: pd.DataFrame
    source: str
    sha256: str
    mapped: dict[str, str]
    excluded: tuple[Exclusion, ...] = ()
    warnings: tuple[str, ...] = ()


def read_latency(
    source: str | Path | pd.DataFrame,
    *,
    aliases: Mapping[str, str] | None = None,
    fill: Mapping[str, str | float] | None = None,
    folder: Path | None = None,
) -> LatencyTable:
    """Inference timings from a file, a frame, a registered table or another tool's output.

    Parameters
    ----------
    source : path, DataFrame or str
        A latency table (CSV, Parquet, JSON lines), the name of a registered one, or a file that
        vLLM's benchmarks, llama-bench, GenAI-Perf or AIPerf wrote, which are recognised by what
        is in them.
    aliases : mapping of str to str, optional
        Column -> the name to read it as.
    fill : mapping of str to str or number, optional
        Column -> value for all rows, for what the tool did not record: architecture, params,
        d_model, batch_size, device ... It fills gaps, and replaces nothing that is known.
    folder : Path, optional
        Where registered tables lie; default as in `table_path`.

    Raises
    ------
    InputError
        One error with every broken rule and its rows.
    """
    table, name, digest, warnings = _load(source, folder)
    mapping = map_columns(
        table, aliases=aliases, source=name, names=_NAMES, must_be_clear=(*REQUIRED, "seconds_std")
    )
    table = apply_map(table, mapping)
    warnings += mapping.warnings
    table = _filled(table, fill or {})
    try:
        require_columns(table, REQUIRED, source=name)
    except InputError as error:
        error.hint = f"{error.hint} What the tool did not record goes into fill= (--set)."
        raise
    unreadable: dict[str, list[tuple[int, object]]] = {}
    columns: dict[str, pd.Series] = {}
    for column in _NUMERIC:
        if column in table:
            numbers, _ = parse_numbers(table[column], kind=column)
            lost = table.index[numbers.isna() & table[column].notna()]
            if len(lost):
                unreadable[column] = [(int(row), table[column].to_dict()[row]) for row in lost]
            columns[column] = numbers * mapping.scale.get(column, 1.0)
    table = table.assign(**columns)
    table["architecture"] = table["architecture"].astype("object")
    table["status"] = _status(table)
    table, excluded = _known_rows(table)
    ok = table["status"] == "ok"
    if not ok.any():
        hint = f"quantity is one of {', '.join(QUANTITIES)}; status one of ok, oom."
        raise InputError("no row holds a usable timing", where=name, hint=hint)
    cells = unreadable.pop("seconds", [])
    if cells := [(row, cell) for row, cell in cells if ok.get(row, False)]:
        unreadable["seconds"] = cells
    # What ran out of memory has no time, so that nothing can be wrong with it.
    timed = table.assign(seconds=table["seconds"].where(ok, 1.0))
    if broken := broken_rules(LATENCY, timed, unreadable):
        hint = "Correct the rows; mark what ran out of memory with status oom, and give what the "
        hint += "tool did not record with fill= (--set), such as batch_size=1."
        raise InputError(broken, where=name, hint=hint)
    out_of_memory, table = table[~ok].reset_index(drop=True), table[ok].reset_index(drop=True)
    return LatencyTable(
        table=table,
        out_of_memory=out_of_memory,
        source=name,
        sha256=digest,
        mapped=dict(mapping.canonical),
        excluded=tuple(excluded),
        warnings=(*warnings, *_suspicions(table)),
    )


def _load(
    source: str | Path | pd.DataFrame, folder: Path | None
) -> tuple[pd.DataFrame, str, str, list[str]]:
    if isinstance(source, pd.DataFrame):
        table = source.reset_index(drop=True)
        if table.empty:
            raise InputError("the table has no rows", where="table")
        text = table.to_csv(index=False, lineterminator="\n")
        return table, "table", hashlib.sha256(text.encode()).hexdigest(), []
    if str(source) in TABLES:
        entry = TABLES[str(source)]
        if entry.kind != "latency":
            raise InputError(f"holds {entry.kind}, not latencies", where=f"table {entry.name}")
        table, digest = load_table(table_path(entry.name, folder=folder))
        return entry.prepare.derive(table), entry.name, digest, list(entry.prepare.notes)
    path = Path(source)
    raw = read_bytes(path)
    if (foreign := read_foreign(path, raw)) is not None:
        table, notes = foreign
        return table, str(path), hashlib.sha256(raw).hexdigest(), notes
    table, digest = load_table(path)
    return table, str(path), digest, []


def _filled(table: pd.DataFrame, fill: Mapping[str, str | float]) -> pd.DataFrame:
    filled = table.copy()
    for name, value in fill.items():
        column = pd.Series(value, index=table.index, dtype="object")
        filled[name] = column if name not in table else table[name].astype("object").fillna(column)
    return filled


def _status(table: pd.DataFrame) -> pd.Series:
    if "status" not in table:
        return pd.Series("ok", index=table.index, dtype="object")
    texts = table["status"].astype("object").where(table["status"].notna(), "ok")
    return texts.map(lambda text: str(text).strip().lower()).astype("object")


def _known_rows(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Exclusion]]:
    reasons: dict[int, str] = {}
    for row, quantity, status in zip(
        table.index, table["quantity"].astype(str), table["status"], strict=True
    ):
        if quantity not in QUANTITIES:
            reasons[int(row)] = f"quantity {quantity!r} is none of {', '.join(QUANTITIES)}"
        elif status not in ("ok", "oom"):
            reasons[int(row)] = f"status {status!r} is none of ok, oom"
    excluded = [Exclusion(row=row, run_id=None, reason=reason) for row, reason in reasons.items()]
    return table.drop(index=list(reasons)), excluded


def _suspicions(table: pd.DataFrame) -> list[str]:
    found = []
    steps = table.loc[table["quantity"] == "step_time", "seconds"]
    if len(steps) and float(steps.median()) > 5.0:
        found.append(
            f"step_time has median {steps.median():.3g} s: milliseconds? Seconds of one step of "
            f"the whole batch are expected"
        )
    if copies := int(table.duplicated().sum()):
        found.append(f"{copies} row(s) repeat another to the last digit: kept, and counted twice")
    widths = [name for name in ("d_model", "n_layers", "n_heads") if name in table]
    if len(widths) < 3:
        found.append("no d_model, n_layers and n_heads: bytes and FLOPs follow from params alone")
    elif table[widths].isna().any(axis=None):
        rows = table.index[table[widths].isna().any(axis=1)]
        found.append(f"d_model, n_layers or n_heads is missing in {name_rows(rows)}")
    found += [
        f"no column {name}: all points are taken to be from one {name}"
        for name in ("device", "dtype")
        if name not in table or table[name].isna().all()
    ]
    return found
