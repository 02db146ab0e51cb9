"""Every kernel check and benchmark on the GPU of this machine, into one results file.

    python benchmarks/gpu_check.py [-o results.json] [--seconds 480]

Order: the comparison with float64, two bit-equal runs, no new compilation for a new batch or
length, then the timings of the study's shapes at chunks of 64 to 256, and the ratios that matter.
What the time limit leaves out is named in the file. Exit code 1 if a check fails.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import triton

from allometry.kernels import mlstm
from allometry.kernels.bench import STUDY_SHAPES, Timing, bench_kernels
from allometry.kernels.check import check_kernels
from allometry.kernels.triton_pairs import pairs_kernel
from allometry.kernels.triton_states import state_gradients_kernel, states_kernel

PEERS = ("mlstm_kernels", "fla simple_gla")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def gradients(batch: int, length: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    rng = torch.Generator(device).manual_seed(0)
    flat = (batch, 4, length)
    shapes = ((*flat, 64), (*flat, 64), (*flat, 128), flat, flat)
    inputs = [torch.randn(shape, generator=rng, device=device).requires_grad_() for shape in shapes]
    h, _ = mlstm(*inputs, backend="triton")
    return h.detach(), *torch.autograd.grad(h.square().sum(), inputs)


def runs_are_bit_equal(device: torch.device) -> bool:
    first, second = gradients(2, 500, device), gradients(2, 500, device)
    return all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


def compiled_variants() -> int:
    """Compiled kernels in this process, over all devices."""
    kernels = (pairs_kernel, states_kernel, state_gradients_kernel)
    return sum(len(cache[0]) for kernel in kernels for cache in kernel.device_caches.values())


def recompilations(device: torch.device) -> int:
    """Kernels compiled anew for other batches and lengths, of the same chunk; 0 is right."""
    gradients(1, 300, device)
    before = compiled_variants()
    for batch, length in ((1, 301), (3, 512), (5, 777)):
        gradients(batch, length, device)
    return compiled_variants() - before


def ratios(timings: Iterable[Timing]) -> list[dict[str, Any]]:
    """Per shape and pass: our fastest chunk against the fastest of each peer."""
    groups: dict[tuple[str, str], dict[str, float]] = {}
    for x in timings:
        if x.seconds == x.seconds:  # NaN: did not run
            group = groups.setdefault((x.kind, replace(x.shape, chunk=None).label), {})
            group[x.backend] = min(group.get(x.backend, float("inf")), x.seconds)
    return [
        {
            "pass": kind,
            "shape": label,
            "seconds": best,
            **{f"over_{p}": best[p] / best["triton"] for p in PEERS if p in best},
        }
        for (kind, label), best in groups.items()
        if "triton" in best
    ]


def write(results: dict[str, Any], path: Path) -> None:
    """Write the results whole or not at all; NaN, which JSON has not, as null."""
    results = json.loads(json.dumps(results), parse_constant=lambda name: None)
    partial = path.with_name(f".{path.name}.tmp")
    with partial.open("w") as file:
        json.dump(results, file, indent=2, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--seconds", type=float, default=480.0)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        say("error: no CUDA device\nhint: without one, make test runs the kernels' arithmetic.")
        return 1
    device, start = torch.device("cuda"), time.monotonic()
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device),
        "capability": torch.cuda.get_device_capability(device),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "python": platform.python_version(),
        "left_out": [],
    }
    findings = check_kernels(device, report=say)
    results["findings"] = [x.record() for x in findings]
    results["ok"] = False  # until the rest has been checked
    write(results, arguments.output)
    results["bit_equal"] = runs_are_bit_equal(device)
    results["recompilations"] = recompilations(device)
    results["ok"] = (
        all(x.ok for x in findings) and results["bit_equal"] and not results["recompilations"]
    )
    write(results, arguments.output)
    timings: list[Timing] = []
    for shape in STUDY_SHAPES:
        for chunk in (None, 64, 128, 256):
            # The default chunk first; a shape takes up to a minute, compiling included.
            if time.monotonic() - start > arguments.seconds - 75:
                results["left_out"].append(f"{shape.label} chunk {chunk}")
                continue
            passes = (
                ("forward", "forward_backward", "step") if chunk is None else ("forward_backward",)
            )
            timings += bench_kernels(
                device, [replace(shape, chunk=chunk)], passes=passes, report=say
            )
            results["timings"] = [x.record() for x in timings]
            results["ratios"] = ratios(timings)
            results["seconds"] = time.monotonic() - start
            write(results, arguments.output)
    for row in results.get("ratios", ()):
        say(json.dumps(row))
    say(f"{'ok' if results['ok'] else 'FAILED'}: {arguments.output}")
    return 0 if results["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
