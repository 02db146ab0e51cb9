import json

import pandas as pd
import pytest

from allometry.errors import InputError
from allometry.observations import read_latency


def table(**changes: object) -> pd.DataFrame:
    rows = {
        "architecture": ["transformer", "xlstm", "xlstm"],
        "params": [1e9, 1e9, 2e9],
        "d_model": [2048, 2048, 2560],
        "n_layers": [24, 24, 24],
        "n_heads": [16, 8, 10],
        "batch_size": [1, 8, 8],
        "prefill_length": [0, 2048, 2048],
        "generation_length": [1, 1, 100],
        "quantity": ["ttft", "ttft", "step_time"],
        "seconds": [0.01, 0.2, 0.015],
        "device": "H100",
        "dtype": "bfloat16",
    }
    return pd.DataFrame(rows | changes)


def test_a_clean_table_passes_without_a_word():
    latency = read_latency(table())
    assert latency.warnings == ()
    assert latency.excluded == ()
    assert latency.table["status"].tolist() == ["ok"] * 3


def test_rows_that_repeat_another_exactly_are_told():
    twice = read_latency(pd.concat([table(), table().iloc[:1]]))
    assert len(twice.table) == 4
    assert any("1 row(s) repeat another" in w for w in twice.warnings)
    assert not any("repeat" in w for w in read_latency(table(seconds=[0.01, 0.2, 0.01])).warnings)


def test_other_names_and_extra_widths_are_kept():
    latency = read_latency(
        table(head_dim_qk=[64, 64, 64], vocab_size=50_304, n_kv_heads=[4, None, None])
        .rename(columns={"seconds": "time_s", "prefill_length": "prompt_length"})
    )  # fmt: skip
    assert latency.mapped == {"time_s": "seconds", "prompt_length": "prefill_length"}
    assert latency.table["seconds"].tolist() == [0.01, 0.2, 0.015]
    assert {"head_dim_qk", "vocab_size", "n_kv_heads"} <= set(latency.table)


def test_points_out_of_memory_are_kept_apart():
    latency = read_latency(table(status=["ok", "OOM", "ok"], seconds=[0.01, None, 0.015]))
    assert len(latency.table) == 2
    assert latency.out_of_memory["batch_size"].tolist() == [8]


def test_points_out_of_memory_need_all_but_the_seconds():
    broken = table(status=["ok", "oom", "oom"], seconds=[0.01, "OOM", None])
    assert len(read_latency(broken).out_of_memory) == 2
    with pytest.raises(InputError) as error:
        read_latency(broken.assign(batch_size=[1, None, 8], prefill_length=[1, 1, -5]))
    assert "batch_size is missing (row 1)" in str(error.value)
    assert "0 or more, got -5 (row 2)" in str(error.value)


def test_other_quantities_are_left_out_and_said():
    latency = read_latency(table(quantity=["ttft", "throughput", "step_time"]))
    assert [(e.row, e.reason) for e in latency.excluded] == [
        (1, "quantity 'throughput' is none of ttft, step_time")
    ]


def test_all_broken_rules_are_in_one_error():
    broken = table(
        seconds=[-1, float("nan"), "fast"], batch_size=[0, 1.5, 8], prefill_length=[-1, 0, 0]
    )
    with pytest.raises(InputError) as error:
        read_latency(broken)
    message = str(error.value)
    assert "seconds is not a number, got 'fast' (row 2)" in message
    assert "seconds is missing (row 1)" in message
    assert "seconds must be positive and finite, got -1 (row 0)" in message
    assert "batch_size must be a whole number, 1 or more, got 0, 1.5 (row 0, 1)" in message
    assert "prefill_length must be a whole number of tokens, 0 or more, got -1 (row 0)" in message


def test_milliseconds_in_place_of_seconds_are_suspected():
    assert any("milliseconds?" in w for w in read_latency(table(seconds=[10, 200, 15])).warnings)


def test_a_device_column_that_is_empty_is_said_like_one_that_is_missing():
    assert "no column device: all points are taken to be from one device" in (
        read_latency(table(device=None)).warnings
    )


def test_a_table_without_usable_rows_is_refused():
    with pytest.raises(InputError, match="no row holds a usable timing"):
        read_latency(table(quantity="throughput"))
    with pytest.raises(InputError, match="no column quantity, seconds"):
        read_latency(table().drop(columns=["quantity", "seconds"]))


def test_the_registered_table_is_read(public):
    public("latency")
    latency = read_latency("latency")
    # Counts of the source: ttft 513 and 396, step time 499 and 391, plus one architecture more.
    counts = latency.table.groupby(["architecture", "quantity"]).size().to_dict()
    assert counts["transformer", "ttft"] == 513
    assert counts["transformer", "step_time"] == 499
    assert counts["xlstm", "ttft"] == 396
    assert counts["xlstm", "step_time"] == 391
    assert len(latency.excluded) == 142
    assert {e.reason.split("'")[1] for e in latency.excluded} == {"ttft_other_file"}


def test_a_runs_table_is_no_latency_table():
    with pytest.raises(InputError, match="holds runs, not latencies"):
        read_latency("xlstm")


def test_llama_bench_json_gives_prompt_and_step_times(samples):
    latency = read_latency(samples / "llama_bench.json", fill={"architecture": "transformer"})
    prompt, step = latency.table.to_dict("records")
    assert (prompt["quantity"], prompt["prefill_length"]) == ("ttft", 512)
    assert prompt["seconds"] == pytest.approx(72_135_640e-9)
    assert prompt["seconds_std"] == pytest.approx(1_453_752e-9)
    assert prompt["repeats"] == 5
    assert prompt["params"] == 7_615_616_512
    assert prompt["device"] == "NVIDIA GeForce RTX 4080"
    # 128 tokens in 1.0767 s after a cache of 4096.
    assert (step["quantity"], step["prefill_length"]) == ("step_time", 4096)
    assert step["seconds"] == pytest.approx(1_076_767_880e-9 / 128)
    assert any("1 mixed prompt + generation test(s) left out" in w for w in latency.warnings)


def test_llama_bench_csv_says_the_same_as_json(samples):
    latency = read_latency(samples / "llama_bench.csv", fill={"architecture": "transformer"})
    assert latency.table["quantity"].tolist() == ["ttft", "step_time"]
    assert latency.table["seconds"].tolist() == pytest.approx([0.07028566, 1.0674316 / 128])


def test_llama_bench_jsonl_is_read_too(samples, tmp_path):
    tests = json.loads((samples / "llama_bench.json").read_text())
    path = tmp_path / "bench.jsonl"
    path.write_text("\n".join(map(json.dumps, tests)))
    fill = {"architecture": "transformer"}
    expected = read_latency(samples / "llama_bench.json", fill=fill).table
    pd.testing.assert_frame_equal(read_latency(path, fill=fill).table, expected)


def test_llama_bench_tests_of_a_prompt_after_a_filled_cache_are_left_out(samples, tmp_path):
    tests = json.loads((samples / "llama_bench.json").read_text())
    tests[0]["n_depth"], tests[1]["n_depth"] = 4096, 0
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(tests))
    latency = read_latency(path, fill={"architecture": "transformer"})
    assert latency.table["quantity"].tolist() == ["step_time"]
    assert any("1 test(s) of a prompt after a filled cache" in w for w in latency.warnings)
    assert any("-d 512,4096" in w for w in latency.warnings)  # the step is after no prompt


def test_vllm_serve_gives_both_quantities_and_says_that_queueing_is_in_them(samples):
    facts = {"architecture": "transformer", "params": 8.03e9, "device": "H100"}
    latency = read_latency(samples / "vllm_serve.json", fill=facts)
    first, step = latency.table.to_dict("records")
    assert (first["quantity"], step["quantity"]) == ("ttft", "step_time")
    assert first["seconds"] == pytest.approx(0.2125)
    assert first["seconds_std"] == pytest.approx(0.0482)
    assert step["seconds"] == pytest.approx(0.01125)
    assert (first["batch_size"], first["prefill_length"]) == (8, 1024)
    assert (step["generation_length"], step["repeats"]) == (128, 200)
    assert any("queueing" in w for w in latency.warnings)


FACTS = {"architecture": "transformer", "params": 8e9}


def test_vllm_serve_lines_that_were_appended_to_a_json_file_are_read(samples, tmp_path):
    result = json.loads((samples / "vllm_serve.json").read_text())
    path = tmp_path / "appended.json"
    path.write_text("\n".join(json.dumps(result | {"max_concurrency": n}) for n in (8, 16)))
    assert read_latency(path, fill=FACTS).table["batch_size"].tolist() == [8, 8, 16, 16]


@pytest.mark.parametrize("metric", ["ttft", "tpot"])
def test_vllm_serve_with_one_of_the_metrics_gives_its_quantity(samples, tmp_path, metric):
    result = json.loads((samples / "vllm_serve.json").read_text())
    path = tmp_path / "one.json"
    path.write_text(json.dumps({k: v for k, v in result.items() if f"_{metric}_" not in k}))
    expected = {"ttft": ["step_time"], "tpot": ["ttft"]}[metric]
    assert read_latency(path, fill=FACTS).table["quantity"].tolist() == expected


def test_vllm_serve_of_a_single_generated_token_has_no_step(samples, tmp_path):
    result = json.loads((samples / "vllm_serve.json").read_text())
    path = tmp_path / "prefill_only.json"
    path.write_text(json.dumps(result | {"mean_tpot_ms": 0.0, "std_tpot_ms": 0.0}))
    assert read_latency(path, fill=FACTS).table["quantity"].tolist() == ["ttft"]


def test_vllm_latency_needs_its_lengths_from_the_caller(samples):
    with pytest.raises(InputError, match="no column architecture, params, batch_size") as error:
        read_latency(samples / "vllm_latency.json")
    assert "fill=" in error.value.hint
    facts = {"architecture": "transformer", "params": 8e9, "batch_size": 4, "prefill_length": 512}
    row = read_latency(samples / "vllm_latency.json", fill=facts).table.iloc[0]
    assert (row["quantity"], row["seconds"], row["repeats"]) == ("ttft", 0.0525, 3)


def test_genai_perf_gives_both_quantities(samples):
    facts = {"architecture": "transformer", "params": 8.03e9}
    path = samples / "profile_export_genai_perf.json"
    first, step = read_latency(path, fill=facts).table.to_dict("records")
    assert first["seconds"] == pytest.approx(0.3024)
    assert step["seconds"] == pytest.approx(0.0305)
    assert (first["batch_size"], first["prefill_length"]) == (16, 2048)
    assert (step["generation_length"], step["backend"]) == (128, "vllm")


def test_aiperf_keeps_concurrency_elsewhere(samples, tmp_path):
    document = json.loads((samples / "profile_export_genai_perf.json").read_text())
    document["input_config"] = {
        "endpoint": {"type": "chat", "model_names": ["m"]},
        "loadgen": {"concurrency": 32},
    }
    document["inter_token_latency"] = {"unit": "us", "avg": 30_500.0}
    path = tmp_path / "profile_export_aiperf.json"
    path.write_text(json.dumps(document))
    rows = read_latency(path, fill={"architecture": "transformer", "params": 1e9}).table
    assert rows["batch_size"].tolist() == [32, 32]
    assert rows["seconds"].tolist() == pytest.approx([0.3024, 0.0305])


def test_concurrency_is_not_that_of_a_sweep_that_was_not_asked_for(samples, tmp_path):
    # GenAI-Perf 0.0.16 writes the default of `analyze` into every profile.
    document = json.loads((samples / "profile_export_genai_perf.json").read_text())
    sweep = {"sweep_parameters": {"concurrency": {"min": 1, "max": 1024}}}
    document["input_config"] = {
        "model_names": ["m"],
        "analyze": sweep,
        "endpoint": {"backend": "tensorrtllm", "service_kind": "openai"},
        "perf_analyzer": {"stimulus": {"concurrency": 16}},
    }
    path = tmp_path / "profile_export_genai_perf.json"
    path.write_text(json.dumps(document))
    rows = read_latency(path, fill=FACTS).table
    assert rows["batch_size"].tolist() == [16, 16]
    assert set(rows["backend"]) == {"openai"}


def test_concurrency_of_aiperf_is_that_of_the_phase_that_was_measured(samples, tmp_path):
    # AIPerf 0.13: phases in place of a load generator.
    document = json.loads((samples / "profile_export_genai_perf.json").read_text())
    warmup = {"name": "warmup", "kind": "warmup", "type": "concurrency", "concurrency": 2}
    measured = {"name": "profiling", "kind": "profiling", "type": "concurrency", "concurrency": 16}
    document["input_config"] = {"phases": [warmup, measured]}
    path = tmp_path / "profile_export_aiperf.json"
    path.write_text(json.dumps(document))
    rows = read_latency(path, fill=FACTS).table
    assert rows["batch_size"].tolist() == [16, 16]
    assert set(rows["backend"]) == {"aiperf"}
    document["input_config"]["phases"].append(measured | {"name": "second", "concurrency": 64})
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="batch_size is missing") as error:
        read_latency(path, fill=FACTS)
    assert "--set" in error.value.hint


def test_aiperf_names_its_gpu_and_gives_lengths_as_totals(samples, tmp_path):
    document = json.loads((samples / "profile_export_genai_perf.json").read_text())
    del document["input_sequence_length"], document["time_to_first_token"]["std"]
    document["total_isl"] = {"unit": "tokens", "avg": 64 * 512.0}  # 64 requests
    document["was_cancelled"] = True
    document["telemetry_data"] = {
        "endpoints": {"localhost:9401": {"gpus": {"gpu_0": {"gpu_name": "NVIDIA RTX 6000"}}}}
    }
    document["input_config"] = {"loadgen": {"concurrency": 32}}
    path = tmp_path / "profile_export_aiperf.json"
    path.write_text(json.dumps(document))
    latency = read_latency(path, fill={"architecture": "transformer", "params": 1e9})
    assert latency.table["prefill_length"].tolist() == [512, 512]
    assert set(latency.table["device"]) == {"NVIDIA RTX 6000"}
    assert set(latency.table["backend"]) == {"aiperf"}
    assert any("cancelled" in warning for warning in latency.warnings)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("llama_bench.json", {"model_n_params": None}, "llama-bench output that cannot be read"),
        ("llama_bench.json", {"avg_ns": "fast"}, "could not convert string to float: 'fast'"),
        ("vllm_serve.json", {"completed": "all"}, "vLLM serve output that cannot be read"),
        ("vllm_serve.json", {"total_input_tokens": ...}, "without 'total_input_tokens'"),
        ("vllm_latency.json", {"latencies": ["a"]}, "vLLM latency output that cannot be read"),
        ("profile_export_genai_perf.json", {"input_config": []}, "batch_size is missing"),
        (
            "profile_export_genai_perf.json",
            {"time_to_first_token": {"unit": "ms"}, "inter_token_latency": {"unit": "ms"}},
            "it holds no time to first token",
        ),
    ],
)
def test_a_damaged_file_of_a_tool_is_refused_by_name(samples, tmp_path, name, change, says):
    document = json.loads((samples / name).read_text())
    record = document[0] if isinstance(document, list) else document
    for key, value in change.items():
        if value is ...:
            del record[key]
        else:
            record[key] = value
    path = tmp_path / name
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=says) as error:
        read_latency(path, fill={"architecture": "transformer", "params": 1e9})
    assert str(path) in str(error.value)


def test_vllm_serve_counts_requests_that_failed(samples, tmp_path):
    document = json.loads((samples / "vllm_serve.json").read_text()) | {"failed": 3}
    path = tmp_path / "serve.json"
    path.write_text(json.dumps(document))
    latency = read_latency(path, fill={"architecture": "transformer", "params": 1e9})
    assert any("3 failed request(s)" in warning for warning in latency.warnings)


def test_fill_replaces_nothing_that_is_known(samples):
    facts = {"architecture": "transformer", "params": 1.0, "device": "other"}
    latency = read_latency(samples / "llama_bench.json", fill=facts)
    assert set(latency.table["params"]) == {7_615_616_512.0}
    assert set(latency.table["device"]) == {"NVIDIA GeForce RTX 4080"}


def test_json_of_no_known_tool_is_read_as_a_plain_table(tmp_path):
    path = tmp_path / "latency.json"
    path.write_text(table().to_json(orient="records"))
    assert len(read_latency(path).table) == 3


def test_registered_table_names_the_device_and_says_that_it_is_taken():
    try:
        latency = read_latency("latency")
    except InputError as error:
        pytest.skip(f"table latency is not on this machine: {error}")
    assert set(latency.table["device"]) == {"h100-sxm"}
    assert any("device is not recorded" in warning for warning in latency.warnings)
