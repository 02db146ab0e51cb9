"""Make data/measured/latency.csv: both architectures at three small sizes on one CPU thread.

python data/measured/bench_latency.py
"""

from pathlib import Path

from allometry.accounting import shape_for
from allometry.harness.latency import BenchPlan, run_bench

SIZES = (1e6, 3e6, 10e6)
VOCAB_SIZE = 4096

if __name__ == "__main__":
    plan = BenchPlan(
        shapes=tuple(
            shape_for(architecture, size, vocab_size=VOCAB_SIZE, family="small")
            for size in SIZES
            for architecture in ("transformer", "xlstm")
        ),
        batch_sizes=(1, 4),
        prefill_lengths=(64, 256, 1024),
        generation_length=8,
        threads=1,
        target=0.02,
        max_seconds=1.0,
        control_every=8,
    )
    result = run_bench(plan, Path(__file__).with_name("latency.csv"))
    print(f"{len(result.table)} points, clock {result.overhead_seconds:.1e} s, {result.drift}")  # noqa: T201
