# %% [markdown]
# # Latency of our own models on this machine
#
# The bench times both architectures; the law is fitted to what it wrote; an unseen size is
# predicted and then measured. No data sheet is known of a CPU: the largest rates in the table stand
# in, and shares may pass one.
#
# Run it: `python examples/latency_own.py` (a few minutes on one core).

# %%
from pathlib import Path

from allometry.accounting import shape_for
from allometry.decisions.latency import predict_latency
from allometry.harness.latency import BenchPlan, run_bench
from allometry.inference import LatencySampler, fit_latency

FOLDER = Path("latency_own")
GRID = {"batch_sizes": (1, 4), "prefill_lengths": (64, 256), "generation_length": 8}


def shapes(*sizes: float) -> tuple:
    return tuple(
        shape_for(architecture, size, vocab_size=4096, family="small")
        for size in sizes
        for architecture in ("transformer", "xlstm")
    )


# %%
bench = run_bench(
    BenchPlan(shapes=shapes(1e6, 2e6, 8e6), max_seconds=1.0, **GRID), FOLDER / "seen.csv"
)
print(bench.drift, f"clock {bench.overhead_seconds:.1e} s")

# %%
posterior = fit_latency(
    bench.table[bench.table["status"] == "ok"], sampler=LatencySampler(method="laplace")
)
print(posterior.record.law, posterior.record.law_evidence)
print(posterior.summary().to_string(index=False))

# %% [markdown]
# ## A size that was not timed

# %%
unseen = run_bench(BenchPlan(shapes=shapes(4e6), max_seconds=1.0, **GRID), FOLDER / "unseen.csv")
predicted = predict_latency(posterior, unseen.table, force=True)
columns = ["architecture", "batch_size", "prefill_length", "quantity", "seconds"]
print(
    predicted[[*columns, "run_seconds_q5", "seconds_median", "run_seconds_q95"]].to_string(
        index=False
    )
)
