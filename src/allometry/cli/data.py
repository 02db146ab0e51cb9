"""allometry data: list, fetch, path, import, check."""

from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts

from allometry.cli.output import emit, stderr
from allometry.cli.pairs import parse_pairs

Aliases = Annotated[list[str] | None, cyclopts.Parameter(name="--alias", negative="")]
Excludes = Annotated[list[str] | None, cyclopts.Parameter(name="--exclude", negative="")]
GroupColumns = Annotated[list[str] | None, cyclopts.Parameter(name="--by", negative="")]
Output = Annotated[Path, cyclopts.Parameter(name=["-o", "--output"])]
JsonFlag = Annotated[bool, cyclopts.Parameter(name="--json", negative="")]
Format = Literal["auto", "generic", "epoch", "open-lm", "wandb"]


def list_command(*, json: JsonFlag = False) -> int:
    """Every table the registry knows, with its source.

    Parameters
    ----------
    json
        Print one JSON document, with citation, licence and sha256, instead of a table.
    """
    from allometry.observations import TABLES, find_table

    rows = [
        {
            "name": entry.name,
            "kind": entry.kind,
            "rows": entry.rows,
            "here": find_table(entry.name) is not None,
            "licence": entry.licence,
            "description": entry.description,
        }
        | (
            {
                "file": entry.file,
                "source": entry.source,
                "paper": entry.paper,
                "citation": entry.citation,
                "sha256": entry.sha256,
                "loss_unit": entry.prepare.loss_unit,
                "groups": list(entry.prepare.by),
                "notes": list(entry.prepare.notes),
            }
            if json
            else {}
        )
        for entry in TABLES.values()
    ]
    emit(rows, as_json=json)
    return 0


def fetch_command(name: str, *, mirror: str | None = None, json: JsonFlag = False) -> int:
    """Put a registered table into the cache and verify it; say how to make it if nobody serves it.

    Parameters
    ----------
    name
        A name of `allometry data list`.
    mirror
        Address of a folder that holds the files by name (http or https).
    json
        Print one JSON document instead of the path.
    """
    from allometry.observations import TABLES, fetch_table

    path = fetch_table(name, mirror=mirror, progress=stderr.is_terminal)
    return _print_path(path, {"name": name, "sha256": TABLES[name].sha256}, as_json=json)


def path_command(name: str, *, json: JsonFlag = False) -> int:
    """Print where a table lies on this machine.

    Parameters
    ----------
    name
        A name of `allometry data list`.
    json
        Print one JSON document instead of the path.
    """
    from allometry.observations import table_path

    return _print_path(table_path(name), {"name": name}, as_json=json)


def import_command(
    source: Path,
    *,
    output: Output,
    format: Format = "auto",
    alias: Aliases = None,
    exclude: Excludes = None,
    evaluation: str = "c4_val",
    json: JsonFlag = False,
) -> int:
    """Turn a foreign table into a runs table; nothing is written unless every row passes.

    Parameters
    ----------
    source
        CSV, Parquet or JSON lines; for open-lm, a folder of JSON records.
    output
        Runs table to write: .csv, .csv.gz, .parquet or .jsonl.
    format
        What the source is: any table with known columns (generic), Epoch AI's Chinchilla points
        (epoch), records of mlfoundations/scaling (open-lm), a Weights & Biases export (wandb).
    alias
        COLUMN=NAME: read a column as a canonical one, such as eval/loss=loss. Repeat it.
    exclude
        Condition on rows to leave out, such as "loss > 7". Repeat it.
    evaluation
        open-lm: part of the name of the test set whose loss is taken.
    json
        Print one JSON document instead of a table.
    """
    from allometry.observations.importers import import_runs
    from allometry.observations.writing import write_table

    runs = import_runs(
        source,
        kind=format,
        aliases=parse_pairs(alias, option="--alias"),
        exclude=exclude or (),
        evaluation=evaluation,
    )
    written = write_table(runs.table, output)
    emit({"runs_table": str(written), **_describe(runs)}, as_json=json)
    return 0


def check_command(
    table: str,
    *,
    alias: Aliases = None,
    exclude: Excludes = None,
    by: GroupColumns = None,
    json: JsonFlag = False,
) -> int:
    """Read a runs table as `fit` would, and report what is found.

    Parameters
    ----------
    table
        A file, or a name of `allometry data list`.
    alias
        COLUMN=NAME: read a column as a canonical one, such as eval/loss=loss. Repeat it.
    exclude
        Condition on rows to leave out, such as "loss > 7", or the word outliers, or the
        word beaten (by a run of the same params and tokens), or duplicates. Repeat it.
    by
        Column whose cells are groups. Repeat it; default architecture and context_length.
    json
        Print one JSON document instead of tables.
    """
    from allometry.observations import count_groups, read_runs

    runs = read_runs(
        table,
        aliases=parse_pairs(alias, option="--alias"),
        exclude=exclude,
        by=by,
    )
    found = _describe(runs)
    if json:
        emit(found, as_json=True)
        return 0
    emit({key: found[key] for key in ("source", "sha256", "runs", "loss_unit", "mapped")},
         as_json=False)  # fmt: skip
    emit(count_groups(runs), as_json=False)
    for warning in runs.warnings:
        emit_line(f"warning: {warning}")
    for exclusion in runs.excluded[:20]:
        name = f" ({exclusion.run_id})" if exclusion.run_id else ""
        emit_line(f"excluded: row {exclusion.row}{name}: {exclusion.reason}")
    if len(runs.excluded) > 20:
        emit_line(f"excluded: and {len(runs.excluded) - 20} more; --json lists them all")
    return 0


def emit_line(text: str) -> None:
    """Print one line of an answer that a person reads."""
    print(text)


def _describe(runs: Any) -> dict[str, Any]:
    from allometry.observations import count_groups

    return {
        "source": runs.source,
        "sha256": runs.sha256,
        "runs": len(runs.table),
        "loss_unit": runs.loss_unit,
        "columns": list(runs.table.columns),
        "mapped": runs.mapped,
        "excluded": [{"row": e.row, "run_id": e.run_id, "reason": e.reason} for e in runs.excluded],
        "warnings": list(runs.warnings),
        "groups": count_groups(runs).to_dict("records"),
    }


def _print_path(path: Path, facts: dict[str, Any], *, as_json: bool) -> int:
    if as_json:
        emit({**facts, "path": str(path)}, as_json=True)
    else:
        emit_line(str(path))
    return 0
