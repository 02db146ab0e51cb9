"""Large tables: many groups of few runs by NUTS, and many runs in four groups by a chosen method.

    python benchmarks/fit_scale.py groups [--count 300] [--each 12] [--seed 0 1 2]
    python benchmarks/fit_scale.py runs [--count 100000] [--method laplace]

Simulated under the p-norm law. Prints stages with wall and CPU seconds as they begin, the verdict,
and the largest memory; then a row of a Markdown table for each seed. Of several seeds only the
first pays for compiling.
"""

import argparse
import resource
import time

import numpy as np
import pandas as pd


def many_groups(count: int, each: int, seed: int) -> pd.DataFrame:
    """`each` runs for each of `count` groups, in sixty architectures."""
    rng = np.random.default_rng(seed)
    cells = []
    for i in range(count):
        E, alpha, beta = np.array([1.9, 0.3, 0.35]) * np.exp(0.03 * rng.standard_normal(3))
        cells.append((f"a{i % 60}", 1024 * 2 ** (i // 60), E, alpha, beta))
    budgets = (1e18, 1e19) if each < 6 else (1e18, 1e19, 1e20)
    sizes = [each // len(budgets) + (i < each % len(budgets)) for i in range(len(budgets))]
    return simulate(cells, budgets=budgets, sizes=sizes, rng=rng)


def many_runs(count: int, seed: int) -> pd.DataFrame:
    """Four groups that share `count` runs over four decades of compute."""
    rng = np.random.default_rng(seed)
    cells = [("a", 2048, 1.9, 0.3, 0.36), ("a", 8192, 1.92, 0.3, 0.35)]
    cells += [("b", 2048, 1.88, 0.31, 0.36), ("b", 8192, 1.87, 0.31, 0.35)]
    budgets = tuple(np.geomspace(1e17, 1e21, 25))
    return simulate(cells, budgets=budgets, sizes=[count // 100] * len(budgets), rng=rng)


def simulate(cells, *, budgets, sizes, rng):
    parts = []
    for architecture, context_length, E, alpha, beta in cells:
        for flops, n in zip(budgets, sizes, strict=True):
            spread = np.geomspace(0.25, 4.0, n) if n > 1 else np.ones(1)
            params = np.sqrt(flops / 120) * spread
            tokens = flops / 6 / params
            u, v = 0.5 * (params / 3e8) ** -alpha, 0.5 * (tokens / 6e9) ** -beta
            loss = (E + np.sqrt(u**2 + v**2)) * np.exp(0.003 * rng.standard_t(4.0, size=n))
            part = {"params": params, "tokens": tokens, "flops": flops, "loss": loss}
            labels = {"architecture": architecture, "context_length": context_length}
            parts.append(pd.DataFrame(part | labels))
    return pd.concat(parts, ignore_index=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("groups", "runs"))
    parser.add_argument("--count", type=int)
    parser.add_argument("--each", type=int, default=12, help="runs of a group; 3 or more")
    parser.add_argument("--method", choices=("nuts", "laplace"))
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    options = parser.parse_args()

    from allometry.cli.runtime import prepare_jax

    prepare_jax()
    rows = [row_of(options, seed) for seed in options.seed]
    print("\n| table | seed | converged | R-hat | effective draws | leapfrogs a draw | CPU s |")
    print("|---" * 7 + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def row_of(options, seed):
    """Fit one table, telling its stages; cells of its row."""
    from allometry.inference import Sampler, fit

    began, used = time.perf_counter(), time.process_time()
    groups = options.what == "groups"
    if groups:
        count = options.count or 300
        table, name = many_groups(count, options.each, seed), f"{count} groups of {options.each}"
    else:
        table = many_runs(options.count or 100_000, seed)
        name = f"{len(table)} runs"
    print(f"{len(table)} runs, seed {seed}", flush=True)
    seen = set()

    def progress(stage, done, total):
        if stage not in seen:
            seen.add(stage)
            wall, cpu = time.perf_counter() - began, time.process_time() - used
            print(f"{wall:7.1f} s wall {cpu:7.1f} s CPU  {stage}", flush=True)

    method = options.method or ("nuts" if groups else "laplace")
    posterior = fit(table, sampler=Sampler(method=method), progress=progress)
    wall, cpu = time.perf_counter() - began, time.process_time() - used
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{wall:7.1f} s wall {cpu:7.1f} s CPU  over, {memory:.1f} GB at most")
    found = posterior.record.convergence
    print(posterior.record.method, found, flush=True)
    steps = float(posterior.idata["sample_stats"]["n_steps"].mean())
    least = min(found.min_ess_bulk, found.min_ess_tail)
    verdict = "yes" if found.converged else "; ".join(found.reasons)
    cells = (f"{found.max_rhat:.3f}", f"{least:.0f}", f"{steps:.0f}", f"{cpu:.0f}")
    return (name, str(seed), verdict, *cells)


if __name__ == "__main__":
    main()
