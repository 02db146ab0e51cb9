"""``allometry kernels``: exit codes, JSON and errors."""

import json

import pytest

from allometry.cli import main
from allometry.kernels import check


def test_a_quick_check_passes_and_reports_every_quantity(capsys):
    assert main(["kernels", "check", "--quick", "--backend", "chunkwise", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is True
    assert {x["dtype"] for x in answer["findings"]} == {"float32", "bfloat16", "float16"}
    assert {x["quantity"] for x in answer["findings"]} == set(check.QUANTITIES)
    assert all(x["worst"] <= 1 and x["error"] < 0.1 for x in answer["findings"])


def test_a_wrong_kernel_is_named_and_the_answer_is_1(capsys, monkeypatch):
    right = check.mlstm

    def wrong(*args, **kwargs):
        h, state = right(*args, **kwargs)
        return (h * 1.5 if kwargs.get("normalizer_gradient", True) else h), state

    monkeypatch.setattr(check, "mlstm", wrong)
    command = ["kernels", "check", "--quick", "--backend", "chunkwise", "--dtype", "float32"]
    assert main(command) == 1
    assert "chunkwise float32, quick: h is off by" in capsys.readouterr().err


def test_a_sweep_is_stopped_by_a_wrong_kernel(monkeypatch):
    import torch

    from allometry.errors import KernelError

    check.quick_check(torch.device("cpu"))
    right = check.mlstm_step
    monkeypatch.setattr(
        check, "mlstm_step", lambda *x, **y: (2 * right(*x, **y)[0], right(*x, **y)[1])
    )
    with pytest.raises(KernelError, match="differ from the float64 reference: h"):
        check.quick_check(torch.device("cpu"))


def test_bench_gives_a_row_a_backend_and_pass_and_draws_them(capsys, tmp_path):
    plot = tmp_path / "timings.png"
    command = ["kernels", "bench", "--time", "64", "--heads", "1", "--width", "16/32"]
    assert main([*command, "--repeats", "1", "-o", str(plot), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    ours = [row for row in rows if row["backend"] == "chunkwise"]
    assert [row["pass"] for row in ours] == ["forward", "forward_backward", "step"]
    assert all(row["seconds"] > 0 and 0 < row["copy_share"] for row in ours)
    assert ours[0]["tokens_per_second"] == pytest.approx(64 / ours[0]["seconds"])
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_run_is_an_input_error(capsys):
    assert main(["kernels", "check", "--dtype", "int8"]) == 2
    assert "float32, bfloat16, float16" in capsys.readouterr().err
    assert main(["kernels", "bench", "--width", "128"]) == 2
    assert "128/256" in capsys.readouterr().err
