"""Timings that other people's tools wrote: vLLM, llama-bench, GenAI-Perf and AIPerf.

Each reader gives rows of the latency table with what the file records, and notes on what the
numbers mean there. What no tool records (widths, number type) is left for the caller to fill in.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from allometry.errors import InputError
from allometry.observations.loading import load_table

_NANOSECOND, _MILLISECOND = 1e-9, 1e-3
_UNITS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}

Rows = list[dict[str, Any]]


def read_foreign(path: Path, raw: bytes) -> tuple[pd.DataFrame, list[str]] | None:
    """Rows of a tool's output and notes on them; None if the file is no output of a known tool.

    Raises
    ------
    InputError
        If the tool is known but the file holds no timing of the kinds that are used, or one that
        is incomplete or no number.
    """
    documents = _documents(path, raw)
    if documents is None:
        return None
    for name, known, reader in _READERS:
        if all(known(document) for document in documents):
            try:
                rows, notes = reader(documents)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                missing = isinstance(error, KeyError)
                what = f"{name} output {'without ' if missing else 'that cannot be read: '}{error}"
                hint = "Give the file as the tool wrote it, or a table with one row a timing."
                raise InputError(what, where=str(path), hint=hint) from error
            if not rows:
                what = "it holds no time to first token and no time of a step"
                what = "; ".join([what, *(note for note in notes if "left out" in note)])
                raise InputError(what, where=str(path))
            return pd.DataFrame(rows), notes
    return None


def _documents(path: Path, raw: bytes) -> list[Mapping[str, Any]] | None:
    # The records of a JSON document, of JSON lines, or of llama-bench's CSV.
    suffix = path.suffix.lower()
    if suffix == ".csv" and b"avg_ns" in raw.split(b"\n", 1)[0]:
        table, _ = load_table(path)
        return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
    if suffix not in (".json", ".jsonl", ".ndjson"):
        return None
    contents = _json_contents(raw)
    records = contents[0] if len(contents) == 1 and isinstance(contents[0], list) else contents
    return records if records and all(isinstance(record, dict) for record in records) else None


def _json_contents(raw: bytes) -> list[Any]:
    # One document, or one a line whatever the file is called: `vllm bench serve --append-result`
    # writes lines into a .json. Nothing where it is neither: the reader of plain tables says why.
    try:
        text = raw.decode("utf-8-sig")
    except ValueError:
        return []
    for documents in ([text], [line for line in text.splitlines() if line.strip()]):
        with suppress(ValueError):
            return [json.loads(document) for document in documents]
    return []


def _is_llama_bench(document: Mapping[str, Any]) -> bool:
    return {"avg_ns", "n_prompt", "n_gen"} <= set(document)


def _is_vllm_serve(document: Mapping[str, Any]) -> bool:
    # --percentile-metrics says which of the two are written.
    return "completed" in document and bool({"mean_ttft_ms", "mean_tpot_ms"} & set(document))


def _is_vllm_latency(document: Mapping[str, Any]) -> bool:
    return {"avg_latency", "latencies"} <= set(document)


def _is_genai_perf(document: Mapping[str, Any]) -> bool:
    metrics = [document.get(name) for name in ("time_to_first_token", "inter_token_latency")]
    return "input_config" in document and any(isinstance(metric, dict) for metric in metrics)


def _read_llama_bench(documents: Sequence[Mapping[str, Any]]) -> tuple[Rows, list[str]]:
    """``llama-bench -o json|jsonl|csv``: a prompt test (pp) or a generation test (tg) a row."""
    rows: Rows = []
    mixed = cached = 0
    for test in documents:
        prompt, generated = int(test["n_prompt"]), int(test["n_gen"])
        depth = int(test.get("n_depth") or 0)
        if prompt and (generated or depth):
            mixed += bool(generated)
            cached += not generated
            continue
        scale = _NANOSECOND / max(generated, 1)
        samples = test.get("samples_ns")
        rows.append(
            {
                "params": float(test["model_n_params"]),
                "model": test.get("model_type"),
                "batch_size": 1,  # one sequence; n_batch is how many of its tokens go at a time
                "prefill_length": depth + prompt,
                "generation_length": generated or 1,
                "quantity": "step_time" if generated else "ttft",
                "seconds": float(test["avg_ns"]) * scale,
                "seconds_std": float(test["stddev_ns"]) * scale,
                "repeats": len(samples) if isinstance(samples, list) else None,
                "device": test.get("gpu_info") or test.get("cpu_info"),
                "dtype": test.get("model_type"),
                "backend": f"llama.cpp {test.get('backends', '')}".strip(),
            }
        )
    notes = ["llama-bench: ttft is the time of the prompt pass, without sampling a token"]
    if mixed:
        notes.append(f"llama-bench: {mixed} mixed prompt + generation test(s) left out")
    if cached:
        # The time of some of the tokens is neither that of a prompt of them nor that of all.
        notes.append(f"llama-bench: {cached} test(s) of a prompt after a filled cache left out")
    if any(row["prefill_length"] == 0 for row in rows):
        notes.append(
            "llama-bench: steps after no prompt are not used in a fit; -d 512,4096 times steps "
            "after that many tokens"
        )
    return rows, notes


def _read_vllm_serve(documents: Sequence[Mapping[str, Any]]) -> tuple[Rows, list[str]]:
    """``vllm bench serve --save-result``: means over requests at some load."""
    rows: Rows = []
    failed = sum(int(result.get("failed") or 0) for result in documents)
    failures = [f"vLLM serve: {failed} failed request(s) are in no mean"] if failed else []
    for result in documents:
        done = int(result["completed"])
        if not done:
            continue
        point = {
            "model": result.get("model_id"),
            "batch_size": result.get("max_concurrency"),
            "prefill_length": round(float(result["total_input_tokens"]) / done),
            "generation_length": round(float(result["total_output_tokens"]) / done),
            "repeats": done,
            "backend": f"vllm ({result.get('backend') or result.get('endpoint_type') or '?'})",
        }
        for quantity, metric in (("ttft", "ttft"), ("step_time", "tpot")):
            mean = float(result.get(f"mean_{metric}_ms") or 0.0)
            if mean == 0.0:  # not asked for; or no step, for one token was generated
                continue
            rows.append(
                {
                    **point,
                    "quantity": quantity,
                    "seconds": mean * _MILLISECOND,
                    "seconds_std": _scaled(result.get(f"std_{metric}_ms"), _MILLISECOND),
                }
            )
    return rows, [
        *failures,
        "vLLM serve: times are means over requests under load and hold queueing; batch_size is "
        "max_concurrency, the most that ran together, and lengths are means",
    ]


def _read_vllm_latency(documents: Sequence[Mapping[str, Any]]) -> tuple[Rows, list[str]]:
    """``vllm bench latency --output-json``: whole batches, end to end, without their lengths."""
    rows: Rows = []
    for result in documents:
        samples = pd.Series(result["latencies"], dtype=float)
        rows.append(
            {
                "quantity": "ttft",
                "generation_length": 1,
                "seconds": float(result["avg_latency"]),
                "seconds_std": float(samples.std()) if len(samples) > 1 else None,
                "repeats": len(samples),
                "backend": "vllm",
            }
        )
    return rows, [
        "vLLM latency: the file does not record lengths; its end-to-end time is a ttft only if it "
        "was measured with --output-len 1, which is assumed"
    ]


def _read_genai_perf(documents: Sequence[Mapping[str, Any]]) -> tuple[Rows, list[str]]:
    """``profile_export_genai_perf.json`` and ``profile_export_aiperf.json``."""
    rows: Rows = []
    cancelled = any(result.get("was_cancelled") for result in documents)
    notes = ["AIPerf: the run was cancelled before its end"] if cancelled else []
    for result in documents:
        config = result["input_config"]
        point = {
            "model": _first(_search(config, ("model", "model_names"))),
            "batch_size": _concurrency(config),
            "prefill_length": _mean_tokens(result, "input_sequence_length", "total_isl"),
            "generation_length": _mean_tokens(result, "output_sequence_length", "total_osl"),
            "repeats": _average(result, "request_count"),
            "device": _first(_search(result.get("telemetry_data"), ("gpu_name",))),
            "backend": _first(_search(config, ("service_kind", "backend")))
            or ("aiperf" if {"loadgen", "phases"} & set(config) else "genai-perf"),
        }
        for quantity, metric in (
            ("ttft", "time_to_first_token"),
            ("step_time", "inter_token_latency"),
        ):
            measured = result.get(metric)
            if not isinstance(measured, dict) or measured.get("avg") is None:
                continue
            unit = _UNITS.get(str(measured.get("unit", "ms")).lower(), _MILLISECOND)
            rows.append(
                {
                    **point,
                    "quantity": quantity,
                    "seconds": float(measured["avg"]) * unit,
                    "seconds_std": _scaled(measured.get("std"), unit),
                }
            )
    return rows, [
        *notes,
        "GenAI-Perf: times are means over requests under load and hold queueing; batch_size is the "
        "concurrency, and lengths are means",
    ]


def _concurrency(config: object) -> int | None:
    # GenAI-Perf: at the top, or the stimulus (not `analyze`, a range even where nothing is swept).
    # AIPerf: the load generator, or the phases, of which those that warm up are not measured.
    if not isinstance(config, dict):
        return None
    phases = [p for p in config.get("phases") or () if p.get("kind", p.get("name")) != "warmup"]
    stimulus = (config.get("perf_analyzer") or {}).get("stimulus")
    places = [config, stimulus or {}, config.get("loadgen") or {}, *phases]
    found = {place["concurrency"] for place in places if place.get("concurrency") is not None}
    return int(found.pop()) if len(found) == 1 else None


def _mean_tokens(result: Mapping[str, Any], metric: str, total: str) -> int | None:
    # AIPerf exports the total too, and not always the mean.
    mean, count = _average(result, metric), _average(result, "request_count")
    summed = _average(result, total)
    return mean if mean is not None or not count or summed is None else round(summed / count)


def _average(result: Mapping[str, Any], metric: str) -> int | None:
    value = result.get(metric)
    average = value.get("avg") if isinstance(value, dict) else None
    return None if average is None else round(float(average))


def _search(config: object, names: Sequence[str]) -> object:
    # First value under one of the names, at any depth: the place moved between versions.
    if isinstance(config, dict):
        for name in names:
            if config.get(name) is not None:
                return config[name]
        for part in config.values():
            if (found := _search(part, names)) is not None:
                return found
    return None


def _first(value: object) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _scaled(value: object, scale: float) -> float | None:
    return None if value is None else float(str(value)) * scale


_READERS = (
    ("llama-bench", _is_llama_bench, _read_llama_bench),
    ("vLLM serve", _is_vllm_serve, _read_vllm_serve),
    ("vLLM latency", _is_vllm_latency, _read_vllm_latency),
    ("GenAI-Perf", _is_genai_perf, _read_genai_perf),
)
