"""Is the latency bench to be believed? Its own cost, and whether two runs of it agree.

Times the plan of data/measured/bench_latency.py twice on this machine (different order, parameters
and tokens), or compares two tables that are there. Two runs agree at a point if the ratio of their
medians is within its 90 % interval: standard errors of the two medians, and the machine's own
drift, whose standard deviation the control points tell.

    taskset -c 1 python benchmarks/latency_bench.py [FIRST SECOND] [--folder DIR]
"""

import argparse
import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd

from allometry.harness.latency import drift

_MEDIAN_OVER_MEAN = 1.2533  # standard error of a median over that of a mean, normal: sqrt(pi / 2)
_Z90 = 1.645
BENCH = Path(__file__).parents[1] / "data" / "measured" / "bench_latency.py"


def run_twice(folder: Path) -> tuple[Path, Path]:
    """Two runs of the plan, or what is missing of them."""
    spec = importlib.util.spec_from_file_location("bench_latency", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
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
    a, b = (t[(t["status"] == "ok") & ~t["control"].astype(bool)] for t in (first, second))
    both = a.merge(b, on="point", suffixes=("_a", "_b"))
    error = [
        _MEDIAN_OVER_MEAN * both[f"seconds_std_{x}"] / np.sqrt(both[f"repeats_{x}"])
        / both[f"seconds_{x}"]
        for x in "ab"
    ]  # fmt: skip
    moved = [drift(t)["spread"] for t in (first, second)]
    return pd.DataFrame(
        {
            "point": both["point"],
            "log_ratio": np.log(both["seconds_b"] / both["seconds_a"]),
            "repeats_error": np.hypot(*error),
            "error": np.sqrt(error[0] ** 2 + error[1] ** 2 + moved[0] ** 2 + moved[1] ** 2),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", type=Path, nargs="*", help="two tables of the same plan")
    parser.add_argument("--folder", type=Path, default=Path("latency_bench"))
    options = parser.parse_args()
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
                "agree_90": float((off < _Z90 * found["error"]).mean()),
                "agree_90_without_drift": float((off < _Z90 * found["repeats_error"]).mean()),
            },
            indent=1,
        )
    )
    print(found.reindex(off.sort_values(ascending=False).index).head(8).to_string(index=False))


if __name__ == "__main__":
    main()
