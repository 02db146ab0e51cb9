"""Other people's tables of runs, made into runs tables."""

import ast
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from allometry.errors import InputError
from allometry.observations.loading import load_table, read_bytes
from allometry.observations.record import Runs
from allometry.observations.runs import read_runs

Format = Literal["auto", "generic", "epoch", "open-lm", "wandb"]
"""What `import_runs` knows: any table with known columns, and three others."""

C4_EVALUATION = "c4_val"
"""Test set whose loss is taken from open-lm's records: 174,077,952 tokens of C4."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Foreign:
    # A table in its own words, with what reading it as runs needs.
    table: pd.DataFrame
    sha256: str
    aliases: Mapping[str, str] = field(default_factory=dict)
    exclude: Sequence[str] = ()
    notes: Sequence[str] = ()


def import_runs(
    source: Path,
    *,
    kind: Format = "auto",
    aliases: Mapping[str, str] | None = None,
    exclude: Sequence[str] = (),
    evaluation: str = C4_EVALUATION,
) -> Runs:
    """Read a foreign table as finished runs, checked like any other.

    Parameters
    ----------
    source : Path
        A table; for ``open-lm``, a folder of JSON records.
    kind : {"auto", "generic", "epoch", "open-lm", "wandb"}
        ``generic``: whatever `read_runs` reads. ``epoch``: Epoch AI's points of the Chinchilla
        paper (``Model Size``, ``Training FLOP``, ``loss``; tokens are flops / (6 params)).
        ``open-lm``: the model records of mlfoundations/scaling. ``wandb``: a table of runs
        exported from Weights & Biases, as CSV from the runs page or with `summary` and `config`
        columns from its API. ``auto`` looks at the columns.
    aliases : mapping of str to str, optional
        Column -> the name to read it as.
    exclude : sequence of str
        Conditions on rows to leave out.
    evaluation : str
        open-lm only: part of the name of the test set whose loss is taken.

    Raises
    ------
    InputError
        If the source is not what `kind` says, or no runs table.
    """
    if kind not in get_args(Format):
        what = f"format {kind!r} is not known; it is one of {', '.join(get_args(Format))}"
        raise InputError(what, where=str(source))
    if kind == "open-lm" or (kind == "auto" and source.is_dir()):
        foreign = _open_lm(source, evaluation)
    else:
        table, digest = load_table(source)
        chosen = _recognise(table) if kind == "auto" else kind
        foreign = _TABLES[chosen](table, digest, source)
    runs = read_runs(
        foreign.table,
        aliases={**foreign.aliases, **(aliases or {})},
        exclude=[*foreign.exclude, *exclude],
    )
    warnings = (*foreign.notes, *runs.warnings)
    return replace(runs, source=str(source), sha256=foreign.sha256, warnings=warnings)


def _recognise(table: pd.DataFrame) -> str:
    columns = set(map(str, table.columns))
    if {"Model Size", "Training FLOP", "loss"} <= columns:
        return "epoch"
    if {"Name", "State"} <= columns or {"summary", "config"} <= columns:
        return "wandb"
    return "generic"


def _generic(table: pd.DataFrame, digest: str, source: Path) -> _Foreign:
    return _Foreign(table=table, sha256=digest)


def _epoch(table: pd.DataFrame, digest: str, source: Path) -> _Foreign:
    wanted = ("Model Size", "Training FLOP", "loss")
    if missing := [name for name in wanted if name not in table]:
        what = f"no column {', '.join(missing)}; found {', '.join(map(str, table.columns))}"
        hint = "This format is svg_extracted_data.csv of epoch-research/analyzing-chinchilla."
        raise InputError(what, where=str(source), hint=hint)
    params, flops = table["Model Size"], table["Training FLOP"]
    runs = pd.DataFrame(
        {
            "run_id": [f"chinchilla_{row:03d}" for row in range(len(table))],
            "architecture": "transformer",
            "params": params,
            "tokens": flops / (6.0 * params),
            "flops": flops,
            "loss": table["loss"],
            "in_fit_240": table["loss"].rank(ascending=False, method="first") > 5,
        }
    )
    note = "tokens are flops / (6 params), as in the source's notebook; loss was read by colour"
    return _Foreign(table=runs, sha256=digest, notes=(note,))


def _open_lm(folder: Path, evaluation: str) -> _Foreign:
    paths = sorted(folder.glob("*.json")) if folder.is_dir() else [folder]
    if not paths:
        raise InputError("no .json file in this folder", where=str(folder))
    digest = hashlib.sha256()
    rows = []
    for path in paths:
        raw = read_bytes(path)
        digest.update(raw)
        rows.append(_open_lm_row(path, raw, evaluation))
    note = (
        f"loss is that of the test set with {evaluation!r} in its name; flops are 6 params tokens"
    )
    return _Foreign(table=pd.DataFrame(rows), sha256=digest.hexdigest(), notes=(note,))


def _open_lm_row(path: Path, raw: bytes, evaluation: str) -> dict[str, Any]:
    try:
        record = json.loads(raw)
        settings, results = record["hyperparameters"], record["results"]
        scored = [r for r in results if any(evaluation in place for place in r["val_data"])]
        row = {
            "run_id": record["name"],
            "architecture": "transformer",
            "dataset": record["dataset_name"],
            "params": int(settings["params"]),
            "params_non_embedding": int(settings["params_no_embed"]),
            "tokens": int(settings["tokens"]),
            "flops": 6.0 * float(settings["params"]) * float(settings["tokens"]),
            "batch_size": int(settings["global_bs"]),
            "learning_rate": float(settings["lr"]),
        }
    except (ValueError, KeyError, TypeError) as error:
        hint = "Expected a record of exp_data/models in mlfoundations/scaling."
        raise InputError(
            f"not an open-lm record ({error!r})", where=str(path), hint=hint
        ) from error
    if len(scored) != 1:
        names = sorted({place for r in results for place in r["val_data"]})
        what = f"{len(scored)} test sets have {evaluation!r} in their names: {', '.join(names)}"
        raise InputError(what, where=str(path), hint="Name one with evaluation= (--evaluation).")
    result = scored[0]
    return row | {
        "loss": float(result["loss"]),
        "loss_q2_5": float(result["loss_sequences_lower_95"]),
        "loss_q97_5": float(result["loss_sequences_upper_95"]),
    }


def _wandb(table: pd.DataFrame, digest: str, source: Path) -> _Foreign:
    columns = [str(column) for column in table.columns]
    if any(column.endswith(("__MIN", "__MAX")) for column in columns):
        what = "this is the export of a chart (one column a run), not of the table of runs"
        hint = "Export from the runs page: the download button of the table."
        raise InputError(what, where=str(source), hint=hint)
    if {"summary", "config"} <= set(columns):
        table = _unpacked(table, source)
    aliases = {}
    if "ID" in table:
        aliases["ID"] = "run_id"
    elif "Name" in table:
        aliases["Name"] = "run_id"
    unfinished = 'State is not None and State != "finished"'
    return _Foreign(
        table=table,
        sha256=digest,
        aliases=aliases,
        exclude=[unfinished] if "State" in table else [],
    )


def _unpacked(table: pd.DataFrame, source: Path) -> pd.DataFrame:
    # The API's documented export writes two dicts a row, as Python prints them.
    parts = [table.drop(columns=["summary", "config"])]
    for column in ("config", "summary"):
        cells = [_literal(cell, f"{source}, column {column}, row {row}")
                 for row, cell in enumerate(table[column])]  # fmt: skip
        flat = pd.json_normalize(cells, sep="/")
        parts.append(flat.drop(columns=[name for name in flat if name in parts[-1]]))
    unpacked = pd.concat(parts, axis=1)
    index = [name for name in unpacked if str(name).startswith("Unnamed:")]
    return unpacked.drop(columns=index)


def _literal(cell: object, where: str) -> dict[str, Any]:
    if isinstance(cell, dict):
        return cell
    # Python prints nan and inf in a dict, which are names, not literals.
    text = re.sub(r"(?<![\w'\"])-?(?:nan|inf)(?![\w'\"])", "None", str(cell))
    try:
        value = ast.literal_eval(text)  # literals only: nothing is called or looked up
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise InputError("not a dict of plain values", where=where) from error
    if not isinstance(value, dict):
        raise InputError(f"a {type(value).__name__}, not a dict", where=where)
    return value


_TABLES: dict[str, Callable[[pd.DataFrame, str, Path], _Foreign]] = {
    "generic": _generic,
    "epoch": _epoch,
    "wandb": _wandb,
}
