# %% [markdown]
# # Inference latency of the xLSTM scaling study
#
# One law for six sizes, both phases and both architectures, fitted to the study's 1,491 timings
# with a prompt (set ALLOMETRY_DATA, or `allometry data fetch latency`). The device is not recorded;
# the study divides by 989 TFLOP/s, so the data sheet of an H100 SXM is taken.
#
# Run it: `python examples/latency_study.py [LATENCY_POSTERIOR [LOSS_POSTERIOR]]`. What is not given
# is fitted (half a minute and a minute of CPU). Figures land in `output/latency_study/`.

# %%
import sys
from itertools import product
from pathlib import Path

import pandas as pd

from allometry.decisions.crossover import crossover_context
from allometry.decisions.latency import predict_latency
from allometry.decisions.roofline import roofline_ceilings, timed_rates
from allometry.decisions.serving import break_even_context, serving_frontier
from allometry.inference import LatencyPosterior, Posterior, fit, fit_latency
from allometry.observations import read_latency, read_runs
from allometry.plots.latency import plot_bottleneck, plot_frontier, plot_roofline, plot_runtime

FIGURES = Path("output/latency_study")
CONTEXTS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
SEVEN = {"transformer": 6_863_196_160.0, "xlstm": 6_865_424_896.0}
WIDTHS = ("d_model", "n_layers", "n_heads", "d_ff", "head_dim_qk", "head_dim_v", "chunk_size")


# %%
def points(
    timed: pd.DataFrame, quantity: str, params: dict[str, float], batches: tuple[int, ...]
) -> pd.DataFrame:
    """A grid of batches and contexts of timed models, with the widths they were timed with."""
    models = timed.drop_duplicates(["architecture", "params"])
    widths = models[[c for c in models if c in WIDTHS or c in ("architecture", "params")]]
    grid = pd.DataFrame(
        list(product(params.items(), batches, CONTEXTS)), columns=["model", "batch_size", "context"]
    )
    grid["architecture"], grid["params"] = zip(*grid.pop("model"), strict=True)
    grid = grid.rename(columns={"context": "prefill_length"}).merge(widths)
    return grid.assign(quantity=quantity, generation_length=100)


def growth_with_context(posterior: LatencyPosterior, timed: pd.DataFrame) -> pd.DataFrame:
    """Step time at the longest context over that at the shortest: one where nothing grows."""
    grid = points(timed, "step_time", SEVEN, (1, 8))
    found = predict_latency(posterior, grid, force=True)
    ends = found[found["prefill_length"].isin((CONTEXTS[0], 16384))]
    return (
        ends.groupby(["architecture", "batch_size"])["seconds_median"]
        .agg(lambda s: s.iloc[-1] / s.iloc[0])
        .reset_index(name="step_16384_over_128")
    )


def main(latency: str = "", loss: str = "") -> None:
    timings = read_latency("latency")
    table = timings.table
    posterior = (
        LatencyPosterior.load(latency)
        if latency
        else fit_latency(timings, law="roofline-two-kernels")
    )
    losses = Posterior.load(loss) if loss else fit(read_runs("xlstm"))
    print(posterior.record.convergence)
    print(posterior.summary().to_string(index=False))
    FIGURES.mkdir(parents=True, exist_ok=True)

    # Time of a step against context: flat for the recurrent state, growing for attention.
    print(growth_with_context(posterior, table).to_string(index=False))
    for quantity in ("step_time", "ttft"):
        predicted = predict_latency(posterior, points(table, quantity, SEVEN, (1, 8)), force=True)
        plot_runtime(predicted, table).figure.savefig(FIGURES / f"runtime_{quantity}.png", dpi=120)

    # Where the cache costs as much as all the rest of a step, and what bounds a step.
    batches = tuple(2**k for k in range(11))
    for architecture, params in SEVEN.items():
        print(crossover_context(posterior, architecture, params, force=True).to_string(index=False))
        grid = points(table, "step_time", {architecture: params}, batches)
        ax = plot_bottleneck(predict_latency(posterior, grid, force=True))
        ax.figure.savefig(FIGURES / f"bottleneck_{architecture}.png", dpi=120)

    device = posterior.record.device
    ax = plot_roofline(
        roofline_ceilings(posterior, force=True),
        timed_rates(table, device),
        peak_flops=device.flops,
        peak_bandwidth=device.bandwidth,
    )
    ax.figure.savefig(FIGURES / "roofline.png", dpi=120)

    # Loss against latency, and the context beyond which the xLSTM is cheaper at equal loss.
    for context in (2048, 16384):
        frontier = serving_frontier(
            losses, posterior, context_length=context, batch_size=8, force=True
        )
        ax = plot_frontier(frontier)
        ax.figure.savefig(FIGURES / f"frontier_{context}.png", dpi=120)
    for batch in (1, 8, 64):
        found = break_even_context(
            losses, posterior, "transformer", "xlstm", params=1.4e9, batch_size=batch, force=True
        )
        print(found.to_string(index=False))


if __name__ == "__main__":
    main(*sys.argv[1:3])
