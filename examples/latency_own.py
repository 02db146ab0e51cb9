# %% [markdown]
# # Latency of our own models, on our own machine
#
# `data/measured/latency.csv` holds prefills and decode steps of three small sizes of both
# architectures on one CPU thread, timed by `data/measured/bench_latency.py` (torch, in a process
# of its own: this one has JAX). The machine is shared: look at its drift before the timings.
#
# Run it: `python examples/latency_own.py`; figures land in `output/latency_own/`.

# %%
from pathlib import Path

import pandas as pd

from allometry.decisions.latency import predict_latency
from allometry.decisions.roofline import roofline_ceilings, timed_rates
from allometry.inference import LatencyPosterior, fit_latency
from allometry.observations import read_latency
from allometry.plots.latency import plot_roofline, plot_runtime

TABLE = Path(__file__).parents[1] / "data" / "measured" / "latency.csv"
FIGURES = Path("output/latency_own")


# %%
def drift_table(table: pd.DataFrame) -> pd.DataFrame:
    """The control point, timed again and again: ratio of each repeat to the first."""
    controls = table[table["control"].astype(bool)].sort_values("order")
    return pd.DataFrame(
        {
            "order": controls["order"],
            "milliseconds": 1e3 * controls["seconds"],
            "over_first": controls["seconds"] / controls["seconds"].iloc[0],
        }
    )


# %% [markdown]
# ## What the law makes of it
#
# A CPU has no data sheet here, so shares are of the largest rates in the table, and one thread does
# one block of work at a time: the serial walk has a round for every sequence and head.


# %%
def errors(posterior: LatencyPosterior, table: pd.DataFrame) -> pd.DataFrame:
    """Median error and coverage of each architecture and quantity, in sample."""
    found = predict_latency(posterior, table, force=True)
    seconds = table["seconds"].to_numpy()
    inside = (found["run_seconds_q5"] <= seconds) & (seconds <= found["run_seconds_q95"])
    rows = found.assign(error=(found["seconds_median"] / seconds - 1).abs(), covered=inside)
    return rows.groupby(["architecture", "quantity"], as_index=False).agg(
        rows=("error", "size"), median_error=("error", "median"), coverage_90=("covered", "mean")
    )


def grid(table: pd.DataFrame, quantity: str, contexts: tuple[int, ...]) -> pd.DataFrame:
    """The largest size of each architecture, one sequence, at contexts timed and longer ones."""
    largest = table.sort_values("params").groupby("architecture").tail(1)
    largest = largest.assign(batch_size=1, quantity=quantity)
    return pd.concat([largest.assign(prefill_length=t) for t in contexts], ignore_index=True)


def main() -> None:
    timings = read_latency(TABLE)
    table = timings.table
    print(drift_table(table).to_string(index=False))
    posterior = fit_latency(timings)
    print(posterior.record.convergence)
    print(errors(posterior, table).to_string(index=False))
    FIGURES.mkdir(parents=True, exist_ok=True)
    for quantity in ("step_time", "ttft"):
        points = grid(table, quantity, (32, 64, 128, 256, 512, 1024, 2048, 4096))
        ax = plot_runtime(predict_latency(posterior, points, force=True), table)
        ax.figure.savefig(FIGURES / f"runtime_{quantity}.png", dpi=120)
    device = posterior.record.device
    ax = plot_roofline(
        roofline_ceilings(posterior, force=True),
        timed_rates(table, device),
        peak_flops=device.flops,
        peak_bandwidth=device.bandwidth,
    )
    ax.figure.savefig(FIGURES / "roofline.png", dpi=120)


if __name__ == "__main__":
    main()
