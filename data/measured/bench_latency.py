"""Make data/measured/latency.csv: both architectures at three small sizes on one CPU thread.

    python data/measured/bench_latency.py [TABLE] [--seed N]

Pin it to a core that nobody else uses (``taskset -c 1``), or look at the drift that it prints.
"""

import argparse
from pathlib import Path

from allometry.accounting import shape_for
from allometry.cli.runtime import stages
from allometry.harness.latency import BenchPlan, BenchResult, run_bench

SIZES = (1e6, 3e6, 10e6)
VOCAB_SIZE = 4096


def plan(seed: int = 1) -> BenchPlan:
    """72 points; the seed decides their order, the parameters and the tokens."""
    return BenchPlan(
        shapes=tuple(
            shape_for(architecture, size, vocab_size=VOCAB_SIZE, family="small")
            for size in SIZES
            for architecture in ("transformer", "xlstm")
        ),
        batch_sizes=(1, 4),
        prefill_lengths=(32, 128, 512),
        generation_length=8,
        threads=1,
        target=0.01,
        max_seconds=1.0,
        control_every=6,
        seed=seed,
    )


def bench(table: Path, *, seed: int = 1) -> BenchResult:
    """Time the plan into a table, or go on where it stopped."""
    with stages() as bar:
        return run_bench(plan(seed), table, progress=lambda done, n, name: bar(name, done, n))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).with_name("latency.csv")
    parser.add_argument("table", type=Path, nargs="?", default=default)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    found = bench(options.table, seed=options.seed)
    settled = int(found.table["settled"].sum())
    print(f"{len(found.table)} points, {settled} settled, {found.drift}")  # noqa: T201
