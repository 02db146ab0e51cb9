"""One row of a plan: a shape and how long it trains, as plain columns and back."""

import math
import re
from collections.abc import Mapping
from typing import Any

from allometry.accounting import (
    Shape,
    TransformerShape,
    XLSTMShape,
    count_params,
    training_flops_per_sequence,
)
from allometry.errors import InputError

PLAN_COLUMNS = (
    *("run_id", "experiment", "architecture", "context_length"),
    *("d_model", "n_layers", "n_heads", "head_dim_qk", "head_dim_v", "d_ff", "vocab_size"),
    *("params", "tokens", "flops", "budget", "steps", "batch_size", "learning_rate", "seed"),
)
"""Columns of every plan; `budget` is empty for runs that were not planned by one."""

_RUN_ID = re.compile(r"[\w+=-][\w.+=-]*")
"""A run id names files: no separators, and no dot in front."""
_ROUNDING = 1e-9
_SHAPE = ("d_model", "n_layers", "n_heads", "head_dim_qk", "head_dim_v", "d_ff", "vocab_size")


def plan_row(
    shape: Shape,
    *,
    context_length: int,
    batch_size: int,
    steps: int,
    learning_rate: float,
    seed: int,
    experiment: str,
    budget: float | None,
) -> dict[str, Any]:
    """Columns of one run; `flops` are those of its steps, not of its budget."""
    widths = (
        (shape.head_dim, shape.head_dim)
        if isinstance(shape, TransformerShape)
        else (shape.head_dim_qk, shape.head_dim_v)
    )
    sequences = steps * batch_size
    return {
        "run_id": (
            f"{experiment}-{shape.architecture}-t{context_length}-d{shape.d_model}"
            f"-n{shape.n_layers}-b{batch_size}-k{steps}-s{seed}"
        ),
        "experiment": experiment,
        "architecture": shape.architecture,
        "context_length": context_length,
        "d_model": shape.d_model,
        "n_layers": shape.n_layers,
        "n_heads": shape.n_heads,
        "head_dim_qk": widths[0],
        "head_dim_v": widths[1],
        "d_ff": shape.d_ff,
        "vocab_size": shape.vocab_size,
        "params": count_params(shape).total,
        "tokens": sequences * context_length,
        "flops": training_flops_per_sequence(shape, context_length).total * sequences,
        "budget": budget,
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
    }


def shape_from_row(row: Mapping[str, Any]) -> Shape:
    """Shape of a row.

    Raises
    ------
    InputError
        If it cannot be built: an unknown architecture, widths that do not divide, or a value that
        is not a whole number.
    """
    values = {name: _whole(row, name) for name in _SHAPE}
    common = {name: values[name] for name in ("d_model", "n_layers", "n_heads", "d_ff")}
    common["vocab_size"] = values["vocab_size"]
    if row["architecture"] == "transformer":
        if values["head_dim_qk"] != values["head_dim_v"]:
            what = f"head_dim_qk {values['head_dim_qk']} and head_dim_v {values['head_dim_v']} "
            raise InputError(what + "of a transformer must be equal")
        return TransformerShape(**common, head_dim=values["head_dim_v"])
    if row["architecture"] == "xlstm":
        heads = {name: values[name] for name in ("head_dim_qk", "head_dim_v")}
        return XLSTMShape(**common, **heads)
    raise InputError(f"architecture must be transformer or xlstm, got {row['architecture']!r}")


def row_problems(row: Mapping[str, Any]) -> list[str]:
    """What is wrong with a row: nothing, or one line for each fault."""
    problems = []
    if not isinstance(row["run_id"], str) or not _RUN_ID.fullmatch(row["run_id"]):
        problems.append(f"run_id {row['run_id']!r} must be letters, digits and -_.+=, as a folder")
    for name in ("context_length", "steps", "batch_size", "seed"):
        try:
            least = 0 if name == "seed" else 1
            if _whole(row, name) < least:
                problems.append(f"{name} must be at least {least}, got {row[name]}")
        except InputError as error:
            problems.append(str(error))
    rate = _number(row["learning_rate"])
    if rate is None or not 0 < rate < 1:
        problems.append(f"learning_rate must be between 0 and 1, got {row['learning_rate']}")
    if _number(row["budget"]) is None:
        problems.append(f"budget must be a number or empty, got {row['budget']!r}")
    try:
        shape = shape_from_row(row)
    except InputError as error:
        return [*problems, str(error)]
    if not problems:
        rebuilt = plan_row(
            shape,
            **{name: _whole(row, name) for name in ("context_length", "batch_size", "steps")},
            learning_rate=float(row["learning_rate"]),
            seed=_whole(row, "seed"),
            experiment="",
            budget=None,
        )
        for name in ("params", "tokens", "flops"):
            given = _number(row[name])
            # A sum in another order may move the last digits of FLOPs.
            if given is None or not math.isclose(given, rebuilt[name], rel_tol=_ROUNDING):
                problems.append(
                    f"{name} is {row[name]}, its shape and steps give {rebuilt[name]:.17g}"
                )
    return problems


def _number(value: Any) -> float | None:
    try:
        return math.nan if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _whole(row: Mapping[str, Any], name: str) -> int:
    value = row[name]
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or number != value:
        raise InputError(f"{name} must be a whole number, got {value!r}")
    return number
