"""The mLSTM cell on a CPU beside mlstm_kernels' native functions, in one run.

Prints the ratios of time (theirs over ours, medians of interleaved repeats) and of peak memory
(ours over the parallel form's, each in a process of its own). `native_autograd` is what the
package's `mLSTMBackend` takes by default; `native_custbw` has a backward pass of its own, that
drops the normaliser's part. Behind each stands its chunk size: 64 is the package's default. Ours
takes its own. `share_products` is what our matrix products take alone, of our time. One thread by
default. Seconds are of CPU time, so that other programs on the machine cost cache and memory
bandwidth but no turns.

    python benchmarks/mlstm_cpu.py [--kinds train step memory] [--repeats 5] [--threads 1] [--json]
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from mlstm_kernels.torch import get_mlstm_kernel, get_mlstm_step_kernel

from allometry.kernels import mlstm, mlstm_step, reference
from allometry.kernels.chunkwise_plan import default_chunk_size, plan_chunks

TRAIN_SHAPES = (  # batch, heads, time, d_qk, d_v
    (1, 4, 512, 64, 128),
    (1, 4, 4096, 64, 128),
    (4, 4, 512, 64, 128),
    (4, 4, 2048, 64, 128),
    (1, 4, 512, 128, 256),
    (1, 4, 4096, 128, 256),
    (4, 4, 1024, 128, 256),
)
STEP_SHAPES = ((1, 4, 64, 128), (4, 4, 64, 128), (1, 4, 128, 256), (4, 4, 128, 256))
PEERS = {
    "native_autograd": "chunkwise--native_autograd",
    "native_custbw": "chunkwise--native_custbw",
}
MEMORY_LENGTHS = (4096, 8192, 16_384)  # the parallel form takes 7 GB at the last
PEER_CHUNK = 64  # mlstm_kernels' default for these functions; 128 is timed too


def draw(batch: int, heads: int, length: int, d_qk: int, d_v: int) -> list[torch.Tensor]:
    """Inputs with gates as at the start of the study's training."""
    rng = torch.Generator().manual_seed(0)
    flat = (batch, heads, length)
    widths = ((d_qk,), (d_qk,), (d_v,), (), ())
    q, k, v, i, f = (torch.randn((*flat, *width), generator=rng) for width in widths)
    return [x.requires_grad_() for x in (q, k, v, i - 10, f + 4.5)]


def hidden(*inputs: torch.Tensor) -> torch.Tensor:
    """Hidden states alone, which is what the peers return as well."""
    return mlstm(*inputs, backend="chunkwise", return_state=False)[0]


def interleaved_medians(
    calls: dict[str, Callable[[], object]], repeats: int, inner: int
) -> dict[str, float]:
    """Median CPU seconds of each call; every repeat runs all of them, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.process_time()
            for _ in range(inner):
                call()
            seconds[name].append((time.process_time() - start) / inner)
    return {name: statistics.median(values) for name, values in seconds.items()}


def products(inputs: Sequence[torch.Tensor], chunk: int) -> Callable[[], object]:
    """The chunkwise path's 12 batched products of every block and nothing else."""
    q, _, v, *_ = inputs
    plan = plan_chunks(*q.shape, v.shape[-1], chunk)
    L, a, c = chunk, q.shape[-1], v.shape[-1]
    all_rows, rows = q.shape[0] * q.shape[1] * plan.n_chunks, plan.most_rows
    forward = [(L, a, L), (L, L, c), (a, L, c), (L, a, c)]  # rows, summed over, columns
    backward = [(L, c, L), (L, L, c), (L, L, a), (L, L, a)]  # pairs: dP, dV, dQ, dK
    backward += [(a, L, c), (L, a, c), (L, c, a), (L, c, a)]  # states: dS, dV, dQ, dK
    triples = [
        tuple(torch.randn(rows, *pair) for pair in ((m, k), (k, n), (m, n)))
        for m, k, n in forward + backward
    ]

    def run() -> None:
        for _ in range(all_rows // rows):
            for left, right, out in triples:
                torch.bmm(left, right, out=out)

    return run


def train_rows(repeats: int, shapes: tuple[tuple[int, ...], ...]) -> list[dict[str, object]]:
    """Forward and backward of one call, ours and theirs."""
    rows = []
    for shape in shapes:
        inputs = draw(*shape)
        weight = torch.randn((*shape[:3], shape[4]), generator=torch.Generator().manual_seed(1))

        def train(form: Callable[..., torch.Tensor], inputs=inputs, weight=weight) -> object:
            return torch.autograd.grad(form(*inputs), inputs, weight)

        own_chunk = default_chunk_size(shape[2])
        calls = {
            "ours": lambda: train(hidden),
            "products": products(inputs, own_chunk),
        }
        for name, key in PEERS.items():
            for chunk in (PEER_CHUNK, 2 * PEER_CHUNK):
                kernel = get_mlstm_kernel(key)
                calls[f"{name}_{chunk}"] = lambda kernel=kernel, chunk=chunk: train(
                    lambda *x: kernel(*x, chunk_size=chunk)
                )
        seconds = interleaved_medians(calls, repeats, 1)
        ours, own_products = seconds.pop("ours"), seconds.pop("products")
        rows.append(
            {
                "kind": "forward_backward",
                "shape": list(shape),
                "chunk_ours": own_chunk,
                "cpu_seconds_ours": ours,
                "share_products": own_products / ours,
                "tokens_per_cpu_second_ours": shape[0] * shape[2] / ours,
                **{f"ratio_{name}": theirs / ours for name, theirs in seconds.items()},
            }
        )
    return rows


def step_rows(repeats: int) -> list[dict[str, object]]:
    """One decoded token, ours and theirs."""
    theirs = get_mlstm_step_kernel("native")
    rows = []
    for batch, heads, d_qk, d_v in STEP_SHAPES:
        q, k, v, i, f = (x.detach()[:, :, 0] for x in draw(batch, heads, 1, d_qk, d_v))
        _, (C, n, m) = mlstm_step(q, k, v, i, f)
        gates = {"i": i[..., None], "f": f[..., None], "c": C, "n": n, "m": m[..., None]}
        calls = {
            "ours": lambda x=(q, k, v, i, f), s=(C, n, m): mlstm_step(*x, state=s),
            "theirs": lambda x=(q, k, v), g=gates: theirs(q=x[0], k=x[1], v=x[2], **g),
        }
        with torch.no_grad():
            seconds = interleaved_medians(calls, 4 * repeats, 50)
        rows.append(
            {
                "kind": "step",
                "shape": [batch, heads, 1, d_qk, d_v],
                "cpu_seconds_ours": seconds["ours"],
                "ratio_native": seconds["theirs"] / seconds["ours"],
            }
        )
    return rows


def peak_bytes(form: str, length: int) -> int:
    """Peak resident bytes of forward and backward in a fresh process, less those of its inputs."""
    command = [sys.executable, __file__, "--peak", form, "--length", str(length)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


def print_peak(form: str, length: int) -> None:
    """Run one form in this process and print how far it raised the peak of resident memory."""
    torch.set_num_threads(1)
    small = draw(1, 1, 64, 64, 128)  # loads what is loaded once
    forms = {
        "chunkwise": hidden,
        "parallel": lambda *x: reference.parallel(*x)[0],
    }
    torch.autograd.grad(forms[form](*small).sum(), small)
    inputs = draw(1, 1, length, 64, 128)
    before = peak_resident_bytes()
    torch.autograd.grad(forms[form](*inputs).sum(), inputs)
    print(peak_resident_bytes() - before)


def peak_resident_bytes() -> int:
    """Most memory this program has held; Linux only.

    Not ru_maxrss: that one survives exec, so a child starts at its parent's peak.
    """
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def memory_rows(lengths: Sequence[int]) -> list[dict[str, object]]:
    """Peak memory of the chunkwise path and of the parallel form, one head, by length."""
    rows: list[dict[str, object]] = []
    for length in lengths:
        ours, parallel = (peak_bytes(form, length) for form in ("chunkwise", "parallel"))
        rows.append(
            {
                "kind": "memory",
                "shape": [1, 1, length, 64, 128],
                "bytes_ours": ours,
                "bytes_parallel": parallel,
                "ratio_of_parallel": ours / parallel,
            }
        )
    return rows


def main() -> None:
    """Time, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="two shapes, memory at 4k tokens")
    kinds = ("train", "step", "memory")
    parser.add_argument("--kinds", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", choices=["chunkwise", "parallel"], help=argparse.SUPPRESS)
    parser.add_argument("--length", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print_peak(args.peak, args.length)
        return
    torch.set_num_threads(args.threads)
    shapes = TRAIN_SHAPES[::3][:2] if args.quick else TRAIN_SHAPES
    rows = train_rows(args.repeats, shapes) if "train" in args.kinds else []
    rows += step_rows(args.repeats) if "step" in args.kinds else []
    lengths = (4096,) if args.quick else MEMORY_LENGTHS
    rows += memory_rows(lengths) if "memory" in args.kinds else []
    if args.json:
        about = {"torch": torch.__version__, "cpu": platform.processor(), "threads": args.threads}
        print(json.dumps({**about, "rows": rows}, indent=2))
        return
    for row in rows:
        figures = {k: v for k, v in row.items() if k not in ("kind", "shape")}
        text = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        print(f"{row['kind']:17} {row['shape']!s:24} {text}")


if __name__ == "__main__":
    main()
