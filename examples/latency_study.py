# %% [markdown]
# # Inference latency of the xLSTM scaling study
#
# One law for six sizes, both phases and both architectures, fitted to the study's 1,491 timings
# with a prompt (set ALLOMETRY_DATA, or `allometry data fetch latency`). The device is not recorded;
# the study divides by 989 TFLOP/s, so the data sheet of an H100 SXM is taken.
#
# Run it: `python examples/latency_study.py`; figures land in `latency_study/`.

# %%
from itertools import product
from pathlib import Path

import pandas as pd

from allometry.accounting import named_device
from allometry.decisions.latency import crossover_context, predict_latency
from allometry.inference import fit_latency
from allometry.observations import read_latency
from allometry.plots.latency import plot_bottleneck, plot_runtime

FIGURES = Path("latency_study")

timings = read_latency("latency")
posterior = fit_latency(timings, law="roofline-two-kernels", device=named_device("h100-sxm"))
print(posterior.record.convergence)
print(posterior.summary().to_string(index=False))

# %% [markdown]
# ## Time of a step against context: flat for the recurrent state, growing for attention


# %%
def points(quantity: str, params: dict[str, float], batches: tuple[int, ...]) -> pd.DataFrame:
    contexts = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
    timed = timings.table.drop_duplicates(["architecture", "params"])
    widths = timed[[c for c in timed if c in WIDTHS or c in ("architecture", "params")]]
    grid = pd.DataFrame(
        list(product(params.items(), batches, contexts)), columns=["model", "batch_size", "context"]
    )
    grid["architecture"], grid["params"] = zip(*grid.pop("model"), strict=True)
    grid = grid.rename(columns={"context": "prefill_length"}).merge(widths)
    return grid.assign(quantity=quantity, generation_length=100)


WIDTHS = ("d_model", "n_layers", "n_heads", "d_ff", "head_dim_qk", "head_dim_v", "chunk_size")
SEVEN = {"transformer": 6_863_196_160.0, "xlstm": 6_865_424_896.0}
FIGURES.mkdir(exist_ok=True)
for quantity in ("step_time", "ttft"):
    predicted = predict_latency(posterior, points(quantity, SEVEN, (1, 8)), force=True)
    ax = plot_runtime(predicted, timings.table)
    ax.figure.savefig(FIGURES / f"runtime_{quantity}.png", dpi=120)
    print(predicted[["architecture", "batch_size", "prefill_length", "seconds_median"]].head(30))

# %% [markdown]
# ## Where the cache costs as much as all the rest of a step

# %%
for architecture, params in SEVEN.items():
    print(crossover_context(posterior, architecture, params, force=True).to_string(index=False))

# %% [markdown]
# ## What bounds a step

# %%
batches = tuple(2**k for k in range(11))
for architecture, params in SEVEN.items():
    table = predict_latency(
        posterior, points("step_time", {architecture: params}, batches), force=True
    )
    ax = plot_bottleneck(table)
    ax.figure.savefig(FIGURES / f"bottleneck_{architecture}.png", dpi=120)
