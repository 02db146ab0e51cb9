"""Run a latency bench: resumable, atomic, out of memory recorded, drift watched."""

import gc
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch

from allometry.accounting import Shape, TransformerShape, count_params
from allometry.errors import InputError
from allometry.files import check_writable
from allometry.harness.files import read_json, write_json
from allometry.harness.latency.clock import Clock, clock_for, measure, own_overhead
from allometry.harness.latency.drift import drift, with_intervals
from allometry.harness.latency.plan import BenchPlan, BenchPoint, plan_points
from allometry.harness.latency.work import prepare
from allometry.models import Model, build
from allometry.observations.loading import load_table
from allometry.observations.writing import table_ending, write_table

Found = TypeVar("Found")
Progress = Callable[[int, int, str], None]
"""Called with points done, their total, and the name of the next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchResult:
    """What a bench found.

    Attributes
    ----------
    table : DataFrame
        The latency table, one row a point in the order of timing.
    overhead_seconds : float
        What the clock reports for work that does nothing.
    drift : dict of str to float
        See `drift`.
    """

    table: pd.DataFrame
    overhead_seconds: float
    drift: dict[str, float]


def run_bench(plan: BenchPlan, output: Path, *, progress: Progress | None = None) -> BenchResult:
    """Time every point of a plan that `output` does not hold yet; write after each.

    Parameters
    ----------
    plan : BenchPlan
    output : Path
        Latency table (.csv, .parquet or .jsonl). Beside it, ``<output>.plan.json`` holds the plan.
    progress : callable, optional
        See `Progress`.

    Raises
    ------
    InputError
        If the device is not there, or `output` is of another plan.
    """
    if plan.device == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device", where="bench", hint="Use --device cpu.")
    cores = os.cpu_count() or 1
    if plan.device == "cpu" and plan.threads > cores:
        what = f"{plan.threads} threads on {cores} cores"
        raise InputError(what, where="bench", hint="Each thread has a core of its own.")
    table_ending(output)
    check_writable(output)
    done = _resumed(plan, output)
    finished = {str(row["point"]) for row in done}
    points = plan_points(plan)
    device = torch.device(plan.device)
    with _pinned(plan.threads if plan.device == "cpu" else 0), torch.inference_mode():
        clock = clock_for(device)
        overhead = own_overhead(clock)
        machine = _machine(plan)
        held: tuple[Shape, Model | None] | None = None
        for index, point in enumerate(points):
            if point.name in finished:
                continue
            if progress is not None:
                progress(index, len(points), point.name)
            if held is None or held[0] != point.shape:
                held = None
                _free(device)
                held = (point.shape, _within_memory(partial(_build, plan, point.shape), device))
            row = _row(held[1], point, plan, clock)
            row |= {"overhead_seconds": overhead, "order": index, "measured_at": time.time()}
            done.append(_described(point, plan) | row | machine)
            write_table(with_intervals(pd.DataFrame(done)), output)
    table = with_intervals(pd.DataFrame(done))
    return BenchResult(table=table, overhead_seconds=overhead, drift=drift(table))


def _build(plan: BenchPlan, shape: Shape) -> Model:
    dtype = torch.bfloat16 if plan.dtype == "bfloat16" else torch.float32
    return build(shape, seed=plan.seed, device=plan.device, dtype=dtype).eval()


def _row(model: Model | None, point: BenchPoint, plan: BenchPlan, clock: Clock) -> dict[str, Any]:
    """Timings of a point, or the record that memory ran out; no model: it had no room itself."""
    attempt = None if model is None else partial(_timed, model, point, plan, clock)
    row = None if attempt is None else _within_memory(attempt, torch.device(plan.device))
    nothing = {name: np.nan for name in ("seconds", "seconds_std", "repeats")}
    return row or nothing | {"status": "oom", "backend": "eager"}


def _within_memory(attempt: Callable[[], Found], device: torch.device) -> Found | None:
    """What an attempt gives; None if memory ran out."""
    with suppress(torch.OutOfMemoryError, MemoryError):
        try:
            return attempt()
        except RuntimeError as error:
            if "allocate memory" not in str(error):  # the CPU allocator has no exception of its own
                raise
    _free(device)  # here, not above: an error's traceback holds the tensors of its frames
    return None


def _timed(model: Model, point: BenchPoint, plan: BenchPlan, clock: Clock) -> dict[str, Any]:
    work, steps, backend = prepare(model, point, plan)
    found = measure(work, clock, target=plan.target, max_seconds=plan.max_seconds)
    low, high = np.quantile(found.samples, [0.05, 0.95])
    return {
        "status": "ok",
        "seconds": found.median / steps,
        "seconds_std": found.std / steps,
        "seconds_q5": float(low) / steps,
        "seconds_q95": float(high) / steps,
        "repeats": len(found.samples),
        "settled": found.settled,
        "backend": backend,
    }


def _described(point: BenchPoint, plan: BenchPlan) -> dict[str, Any]:
    shape = point.shape
    widths: dict[str, Any] = {
        name: getattr(shape, name)
        for name in ("d_model", "n_layers", "n_heads", "d_ff", "vocab_size")
    }
    if isinstance(shape, TransformerShape):
        widths |= {"n_kv_heads": shape.n_kv_heads, "head_dim_qk": shape.head_dim}
        widths |= {"head_dim_v": shape.head_dim, "chunk_size": None}
    else:
        widths |= {"n_kv_heads": None, "head_dim_qk": shape.head_dim_qk}
        widths |= {"head_dim_v": shape.head_dim_v, "chunk_size": shape.chunk_size}
    generated = plan.generation_length if point.quantity == "step_time" else 1
    return {
        "point": point.name,
        "architecture": shape.architecture,
        "params": count_params(shape).total,
        **widths,
        "batch_size": point.batch_size,
        "prefill_length": point.prefill_length,
        "generation_length": generated,
        "quantity": point.quantity,
        "control": point.control,
        "dtype": plan.dtype,
    }


def _machine(plan: BenchPlan) -> dict[str, Any]:
    if plan.device == "cuda":
        name = torch.cuda.get_device_name()
        driver = f"cuda {torch.version.cuda}"
    else:
        name, driver = f"cpu, {plan.threads} threads", platform.platform()
    return {
        "device": name,
        "driver": driver,
        "versions": f"torch {torch.__version__}, python {platform.python_version()}",
    }


def _resumed(plan: BenchPlan, output: Path) -> list[dict[str, Any]]:
    beside = output.with_name(f"{output.name}.plan.json")
    described = json.loads(json.dumps(_plan_document(plan)))
    if beside.exists() and output.exists():
        if read_json(beside) != described:
            hint = "Give another --output, or remove the table to start again."
            raise InputError("the table is of another plan", where=str(output), hint=hint)
        table, _ = load_table(output)
        return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
    if output.exists():
        hint = "Give another --output."
        raise InputError("a table without its plan is there already", where=str(output), hint=hint)
    write_json(beside, described)
    return []


def _plan_document(plan: BenchPlan) -> dict[str, Any]:
    document = asdict(plan)
    document["shapes"] = [
        {"architecture": shape.architecture} | asdict(shape) for shape in plan.shapes
    ]
    return document


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextmanager
def _pinned(threads: int) -> Iterator[None]:
    """Limit torch to some threads and this process to as many cores; zero leaves both alone."""
    before = torch.get_num_threads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if threads:
        torch.set_num_threads(threads)
        if cores is not None:
            os.sched_setaffinity(0, set(sorted(cores)[:threads]))
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if cores is not None:
            os.sched_setaffinity(0, cores)
