"""Is the latency bench to be believed? Its own cost, and whether two runs of it agree.

Times the plan of data/measured/bench_latency.py twice on this machine (different order, parameters
and tokens), or compares two tables that are there. Two runs agree at a point if the ratio of their
medians is within its 90 % interval: standard errors of the two medians, and the machine's own
drift, whose standard deviation the control points tell. With --overhead, times a few points of that
plan by the bench and by a bare loop of the same call, in turns.

    taskset -c 1 python benchmarks/latency_bench.py [FIRST SECOND] [--folder DIR]
    taskset -c 1 python benchmarks/latency_bench.py --overhead [--rounds N]
"""

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from allometry.harness.latency import BenchPlan, drift, measure, plan_points
from allometry.harness.latency.clock import Clock, relative_error
from allometry.harness.latency.drift import Z90, with_intervals
from allometry.harness.latency.work import prepare
from allometry.models import build

BENCH = Path(__file__).parents[1] / "data" / "measured" / "bench_latency.py"


def _bench_module() -> Any:
    spec = importlib.util.spec_from_file_location("bench_latency", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_twice(folder: Path) -> tuple[Path, Path]:
    """Two runs of the plan, or what is missing of them."""
    module = _bench_module()
    folder.mkdir(parents=True, exist_ok=True)
    tables = folder / "first.csv", folder / "second.csv"
    for seed, table in enumerate(tables):
        module.bench(table, seed=seed)
    return tables


def own_cost(table: pd.DataFrame) -> float:
    """Largest share that the clock's own time has of what it timed in one call."""
    usable = table[table["status"] == "ok"]
    steps = usable["generation_length"].where(usable["quantity"] == "step_time", 1)
    return float((usable["overhead_seconds"] / (usable["seconds"] * steps)).max())


def agreement(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Each point of both runs: log ratio of the medians and its standard errors."""
    a, b = (
        with_intervals(table)[(table["status"] == "ok") & ~table["control"].astype(bool)]
        for table in (first, second)
    )
    both = a.merge(b, on="point", suffixes=("_a", "_b"))
    repeats = np.hypot(both["repeats_error_a"], both["repeats_error_b"])
    moved = np.hypot(both["drift_error_a"], both["drift_error_b"])
    return pd.DataFrame(
        {
            "point": both["point"],
            "log_ratio": np.log(both["seconds_b"] / both["seconds_a"]),
            "repeats_error": repeats,
            "error": np.hypot(repeats, moved),
            "intervals_overlap": (both["seconds_low_a"] <= both["seconds_high_b"])
            & (both["seconds_low_b"] <= both["seconds_high_a"]),
        }
    )


class ThreadClock(Clock):
    """CPU seconds of this thread: what others do on a shared machine is not in them."""

    def seconds(self, work: Callable[[], Any]) -> float:
        """CPU seconds of one call."""
        start = time.thread_time_ns()
        work()
        return (time.thread_time_ns() - start) * 1e-9


def bench_against_bare_loop(plan: BenchPlan, *, rounds: int, calls: int) -> pd.DataFrame:
    """Seconds that the bench reports over those of a bare loop of the same call, point by point.

    Both time the same function in the same process, in turns, each so many calls a turn: the mean
    of the bench's samples against the loop's time over its calls, in CPU seconds of the thread (a
    shared machine's other work moves the wall clock by more than what is looked for). Medians over
    rounds; the error is of the median, from the interquartile range of the rounds.
    """
    rows = []
    clock = ThreadClock()
    torch.set_num_threads(plan.threads)
    with torch.inference_mode():
        for shape in plan.shapes:
            model = build(shape, seed=plan.seed, device="cpu", dtype=torch.float32).eval()
            for point in plan_points(replace(plan, shapes=(shape,), control_every=10**6)):
                if point.control:
                    continue
                work, _, _ = prepare(model, point, plan)
                work()
                ratios = []
                for turn in range(rounds):
                    found = {}
                    for who in ("bench", "bare") if turn % 2 else ("bare", "bench"):
                        found[who] = _one_turn(who, work, clock, calls)
                    ratios.append(found["bench"] / found["bare"])
                rows.append(
                    {
                        "point": point.name,
                        "seconds": found["bare"],
                        "overhead": float(np.median(ratios)) - 1,
                        "error": relative_error(np.asarray(ratios)),
                    }
                )
    return pd.DataFrame(rows)


def _one_turn(who: str, work: Callable[[], Any], clock: Clock, calls: int) -> float:
    if who == "bench":
        options = {"min_repeats": calls, "max_repeats": calls, "warmup": 0}
        return float(measure(work, clock, target=0.0, **options).samples.mean())
    began = time.thread_time_ns()
    for _ in range(calls):
        work()
    return (time.thread_time_ns() - began) * 1e-9 / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", type=Path, nargs="*", help="two tables of the same plan")
    parser.add_argument("--folder", type=Path, default=Path("latency_bench"))
    parser.add_argument("--overhead", action="store_true", help="the bench against a bare loop")
    parser.add_argument("--rounds", type=int, default=40, help="turns of --overhead")
    options = parser.parse_args()
    if options.overhead:
        plan = _bench_module().plan()
        small = replace(plan, shapes=plan.shapes[:2], batch_sizes=(1,), prefill_lengths=(32,))
        found = bench_against_bare_loop(small, rounds=options.rounds, calls=10)
        print(found.to_string(index=False))
        return
    if len(options.tables) not in (0, 2):
        parser.error("give two tables, or none")
    paths = options.tables or run_twice(options.folder)
    first, second = (pd.read_csv(path) for path in paths)
    found = agreement(first, second)
    off = found["log_ratio"].abs()
    print(
        json.dumps(
            {
                "points": len(found),
                "largest_share_of_the_clock_itself": max(own_cost(first), own_cost(second)),
                "median_difference": float(off.median()),
                "median_ratio": float(np.exp(found["log_ratio"].median())),
                "drift": [drift(first), drift(second)],
                "intervals_overlap": float(found["intervals_overlap"].mean()),
                "agree_90": float((off < Z90 * found["error"]).mean()),
                "agree_90_without_drift": float((off < Z90 * found["repeats_error"]).mean()),
            },
            indent=1,
        )
    )
    print(found.reindex(off.sort_values(ascending=False).index).head(8).to_string(index=False))


if __name__ == "__main__":
    main()
