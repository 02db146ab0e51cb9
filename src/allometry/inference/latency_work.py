"""From rows of a latency table to `Work`: shapes, ceilings, and what cannot be used."""

import re
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
import pandas as pd

from allometry.accounting import (
    SIXTEEN,
    VOCAB_SIZE,
    NumberBytes,
    NumberType,
    Shape,
    TransformerShape,
    XLSTMShape,
    choose_shape,
    count_params,
    decode_bytes,
    decode_flops,
    find_number_type,
    prefill_bytes,
    prefill_flops,
)
from allometry.accounting.devices import Device, find_device
from allometry.errors import InputError
from allometry.laws.latency_coefficients import Mixer
from allometry.laws.latency_parts import Work

ARCHITECTURES: dict[str, Mixer] = {"transformer": "attention", "xlstm": "recurrent"}
"""Architectures whose work the accounting counts, with their token mixer."""

WIDTHS = (
    *("d_model", "n_layers", "n_heads", "n_kv_heads", "head_dim_qk", "head_dim_v", "d_ff"),
    *("vocab_size", "chunk_size"),
)
"""Columns of a latency table that describe a model's shape."""

LOGIT_BYTES = 4.0
"""Bytes of a logit as it is returned; a narrower one is written and read again to be cast."""

HEAD_STEP = 32
"""Kernels of a step hold heads whose width is rounded up to a multiple of this: 80 runs as 96."""

LINE_BYTES = 128
"""Memory is read in lines of so many bytes; a key of one head takes up whole lines."""

PARAMS_TOLERANCE = 0.03
"""A shape whose params are further from the row's (relative) is not the model that was timed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UsedRows:
    """Rows that can be modelled, and why the others cannot.

    Attributes
    ----------
    table : DataFrame
        The rows used, numbered from 0.
    excluded : tuple of (count, reason)
        Rows left out, by reason.
    """

    table: pd.DataFrame
    excluded: tuple[tuple[int, str], ...]


def usable_rows(table: pd.DataFrame) -> UsedRows:
    """Rows of a known architecture with a prompt; the others with the reason.

    A time to first token after no prompt is a decode step under another name, and a step after no
    prompt attends to a cache whose padding is unknown.

    Raises
    ------
    InputError
        If no row is left.
    """
    reasons = pd.Series("", index=table.index)
    known = ", ".join(ARCHITECTURES)
    unknown = ~table["architecture"].isin(list(ARCHITECTURES))
    names = ", ".join(sorted(set(table.loc[unknown, "architecture"].astype(str))))
    reasons[unknown] = f"architecture {names} is none of {known}"
    reasons[~unknown & (table["prefill_length"] < 1)] = "no prompt (prefill_length 0)"
    kept = table[reasons == ""].reset_index(drop=True)
    if kept.empty:
        raise InputError(f"no row can be used: {'; '.join(set(reasons))}", where="latency table")
    counts = reasons[reasons != ""].value_counts()
    return UsedRows(
        table=kept, excluded=tuple((int(count), str(why)) for why, count in counts.items())
    )


def _counted(architecture: str) -> tuple[str, ...]:
    attention = ("vocab_size", "n_kv_heads", "d_ff", "head_dim_v")
    recurrent = ("vocab_size", "d_ff", "head_dim_qk", "head_dim_v")
    return attention if architecture == "transformer" else recurrent


def row_shape(row: pd.Series, *, source: str = "latency table") -> Shape:
    """Shape of the model in a row: its widths where they are known, else the family's.

    The family's shape has the row's vocabulary and chunk size, where these are known.

    Raises
    ------
    InputError
        If the widths do not give the row's params.
    """

    def width(name: str, default: int = 0) -> int:
        value = row.get(name)
        return default if value is None or pd.isna(value) else int(value)

    architecture = str(row["architecture"])
    vocab_size = width("vocab_size", VOCAB_SIZE)
    if not (width("d_model") and width("n_layers") and width("n_heads")):
        found = choose_shape(architecture, float(row["params"]), vocab_size=vocab_size).shape
        if isinstance(found, XLSTMShape) and width("chunk_size"):
            found = replace(found, chunk_size=width("chunk_size"))
        return found
    common = {
        "d_model": width("d_model"),
        "n_layers": width("n_layers"),
        "n_heads": width("n_heads"),
        "d_ff": width("d_ff"),
        "vocab_size": vocab_size,
    }
    shape: Shape
    if architecture == "transformer":
        head = width("head_dim_v") or width("head_dim_qk")
        shape = TransformerShape(**common, n_kv_heads=width("n_kv_heads"), head_dim=head)
    else:
        shape = XLSTMShape(
            **common,
            head_dim_v=width("head_dim_v"),
            head_dim_qk=width("head_dim_qk"),
            chunk_size=width("chunk_size", 64),
        )
    params = count_params(shape).total
    if abs(params / float(row["params"]) - 1) > PARAMS_TOLERANCE:
        says = f"rows of {architecture} say {float(row['params']):,.0f}"
        assumed = [name for name in _counted(architecture) if not width(name)]
        hint = "Correct the widths."
        if assumed:
            hint = f"Correct the widths, or give what the row does not say: {', '.join(assumed)}"
            hint += f" (fill=; --set {assumed[0]}=VALUE)."
        raise InputError(f"the widths give {params:,} params, {says}", where=source, hint=hint)
    return shape


def ceilings(table: pd.DataFrame, device: Device | None = None) -> Device | None:
    """Data sheet for a table: the one given, else of the device that its rows name, else None."""
    if device is not None:
        return device
    names = set(table["device"].dropna().astype(str)) if "device" in table else set()
    return find_device(names.pop()) if len(names) == 1 else None


def row_type(row: pd.Series) -> NumberType:
    """Type of a row's weights; 16 bits where it says none, or one that is not known."""
    text = row.get("dtype")
    return (None if text is None or pd.isna(text) else find_number_type(str(text))) or SIXTEEN


def _logit_bytes(numbers: NumberBytes) -> float:
    """Bytes moved for a logit that nobody asked for."""
    cast = 2.0 * numbers.activation if numbers.activation < LOGIT_BYTES else 0.0
    return cast + LOGIT_BYTES


def point_work(shape: Shape, row: pd.Series, *, units: int) -> dict[str, float]:
    """Work of one row, without ceilings; `units` are multiprocessors or threads.

    Bytes are those of the row's dtype (`row_type`).
    """
    numbers = row_type(row).numbers
    B, T = int(row["batch_size"]), int(row["prefill_length"])
    n, heads = shape.n_layers, shape.n_heads
    rounds = float(-(-B * heads // units))
    attention = isinstance(shape, TransformerShape)
    work = dict.fromkeys(
        (
            *("row_channels", "prompt_logit_flops", "prompt_logit_bytes", "pair_flops", "channels"),
            *("key_rounds", "key_line_rounds", "chunk_rounds", "sequence_channels"),
        ),
        0.0,
    )
    if row["quantity"] == "step_time":
        generated = int(row.get("generation_length") or 1)
        context = T + (generated + 1) // 2  # of the middle step
        flops = decode_flops(shape, context, batch_size=B)
        moved = decode_bytes(shape, context, batch_size=B, numbers=numbers)
        head = shape.head_dim if isinstance(shape, TransformerShape) else shape.head_dim_v
        work["sequence_channels"] = float(n * B * heads * HEAD_STEP * -(-head // HEAD_STEP))
        work["row_channels"] = float(n * shape.d_model) if B == 1 else 0.0
        if attention:
            # The cache is allocated, and walked along, for the longest sequence to come.
            work["key_rounds"] = n * rounds * (T + generated)
            lines = -(-numbers.activation * head // LINE_BYTES)
            work["key_line_rounds"] = work["key_rounds"] * lines
        rows = B
    else:
        flops = prefill_flops(shape, T, batch_size=B)
        moved = prefill_bytes(shape, T, batch_size=B, numbers=numbers)
        rows = B * T
        work["prompt_logit_flops"] = 2.0 * B * (T - 1) * shape.d_model * shape.vocab_size
        work["prompt_logit_bytes"] = _logit_bytes(numbers) * B * (T - 1) * shape.vocab_size
        if isinstance(shape, TransformerShape):
            work["pair_flops"] = flops.sequence_mixing  # fused: its rate has the keys and values
            work["channels"] = float(n * heads * shape.head_dim * rows)
        else:
            work["chunk_rounds"] = n * rounds * -(-T // shape.chunk_size)
    logits = 2.0 * B * shape.d_model * shape.vocab_size
    return work | {
        "decode": float(row["quantity"] == "step_time"),
        "many_rows": float(rows > 1),
        "layers": float(n),
        "linear_flops": flops.linear - logits,
        "head_flops": logits,
        "weight_bytes": moved.weights,
        "activation_bytes": moved.activations,
        "cache_bytes": 0.0 if work["pair_flops"] else moved.cache,
    }


def total_flops(work: dict[str, float]) -> float:
    """FLOPs of the products with weights, the vocabulary's included, and of a prompt's pairs."""
    return work["linear_flops"] + work["head_flops"] + work["pair_flops"]


def table_work(table: pd.DataFrame, device: Device, shapes: list[Shape] | None = None) -> Work:
    """Work of every row on a device."""
    shapes = shapes_of(table) if shapes is None else shapes
    rows = [
        point_work(shape, row, units=device.units)
        for shape, (_, row) in zip(shapes, table.iterrows(), strict=True)
    ]
    columns = pd.DataFrame(rows).assign(peak_flops=device.flops, peak_bandwidth=device.bandwidth)
    return Work(**{str(name): jnp.asarray(columns[name].to_numpy()) for name in columns})


def shapes_of(table: pd.DataFrame, *, source: str = "latency table") -> list[Shape]:
    """Shape of every row, each distinct model found once; errors call the table `source`."""
    names = [name for name in ("architecture", "params", *WIDTHS) if name in table]
    known: dict[tuple[object, ...], Shape] = {}
    found = []
    for _, row in table.iterrows():
        key = tuple(None if pd.isna(row[name]) else row[name] for name in names)
        if key not in known:
            known[key] = row_shape(row, source=source)
        found.append(known[key])
    return found


def apparent_device(table: pd.DataFrame, *, units: int = 1) -> Device:
    """Stand-in for a data sheet: the largest rates that the table itself shows.

    No ceilings: effective rates may pass them.
    """
    shapes = shapes_of(table)
    flops, bandwidth = [], []
    for shape, (_, row) in zip(shapes, table.iterrows(), strict=True):
        work = point_work(shape, row, units=units)
        seconds = float(row["seconds"])
        flops.append(total_flops(work) / seconds)
        bandwidth.append((work["weight_bytes"] + work["cache_bytes"]) / seconds)
    return Device(
        name="apparent",
        flops=float(np.max(flops)),
        bandwidth=float(np.max(bandwidth)),
        memory_bytes=float("inf"),
        units=units,
    )


def device_units(table: pd.DataFrame) -> int:
    """Blocks of work that run at a time where no data sheet is known: a CPU's threads, else 1."""
    names = set(table["device"].dropna().astype(str)) if "device" in table else set()
    found = re.search(r"(\d+) threads?", names.pop()) if len(names) == 1 else None
    return int(found.group(1)) if found else 1
