"""What serving costs: device-hours of a life, and where a step stops being cheap, on the study.

Fits the study's losses and latencies (or reads posteriors that were kept) and prints the table and
the figures of "What serving costs" in docs/latency.md.

    python benchmarks/serving_cost.py [--loss FILE] [--latency FILE]
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from latency_law import DEVICE, LAW, sizes

from allometry.decisions.crossover import crossover_batch, crossover_context
from allometry.decisions.latency import predict_latency
from allometry.decisions.serving import break_even_context
from allometry.decisions.serving_cost import lifetime_cost
from allometry.inference import LatencyPosterior, Posterior, fit, fit_latency
from allometry.inference.latency_work import usable_rows
from allometry.observations import read_latency

ARCHITECTURES = ("transformer", "xlstm")
SERVED = (0.0, 1e10, 1e11, 1e12, 1e13)
TARGET_LOSS, CONTEXT_LENGTH, BATCH_SIZE = 2.3, 8192, 8
BATCHES = (1, 8, 64)
STEP_PARAMS = 4.7e9
"""About the Transformer's cheapest size for 1e10 served tokens."""


def kept_loss(path: Path | None) -> Posterior:
    """The default fit of the study's runs, from a file that has it."""
    if path is not None and path.exists():
        return Posterior.load(path)
    found = fit("xlstm")
    if path is not None:
        found.save(path)
    return found


def kept_latency(path: Path | None) -> LatencyPosterior:
    """The default fit of the study's latencies, from a file that has it."""
    if path is not None and path.exists():
        return LatencyPosterior.load(path)
    found = fit_latency("latency", law=LAW, device=DEVICE)
    if path is not None:
        found.save(path)
    return found


def life(loss: Posterior, latency: LatencyPosterior) -> str:
    """Cheapest lives by served tokens, one row a demand and three columns an architecture."""
    found = lifetime_cost(
        loss,
        latency,
        ARCHITECTURES,
        target_loss=TARGET_LOSS,
        served_tokens=SERVED,
        context_length=CONTEXT_LENGTH,
        batch_size=BATCH_SIZE,
        params=np.geomspace(0.5e9, 11e9, 41),
    )
    lines = [
        "| served tokens | Transformer: params, tokens a param, device-hours | xLSTM |",
        "|---|---|---|",
    ]
    for served, rows in found.groupby("served_tokens"):
        cells = [
            f"{row.params_median:.1e}, {row.tokens_per_param_median:.0f}, "
            f"{_hours(row.device_hours_median)} ({_hours(row.device_hours_q5)} to "
            f"{_hours(row.device_hours_q95)})"
            for row in rows.set_index("architecture").loc[list(ARCHITECTURES)].itertuples()
        ]
        lines.append(f"| {served:.0e} | {' | '.join(cells)} |")
    shares = found.pivot_table(
        index="served_tokens",
        columns="architecture",
        values=["training_share_of_hours_median", "probability_at_edge", "probability_fits"],
    )
    return "\n".join(lines) + "\n\n" + shares.round(3).to_string()


def _hours(hours: float) -> str:
    """Three digits; powers of ten from a million on."""
    return f"{hours:.1e}" if hours >= 1e6 else f"{float(f'{hours:.3g}'):,.0f}"


def largest_steps(latency: LatencyPosterior, table: pd.DataFrame) -> pd.DataFrame:
    """Of the 7B Transformer: contexts at which a step takes twice its shortest time."""
    largest = table[(sizes(table) == "7B") & (table["architecture"] == "transformer")]
    params = float(largest["params"].iloc[0])
    found = [
        crossover_context(latency, "transformer", params, batch_size=batch) for batch in BATCHES
    ]
    return pd.concat(found, ignore_index=True)


def compute_bound(latency: LatencyPosterior, table: pd.DataFrame) -> pd.DataFrame:
    """Whether any batch turns a 7B step compute-bound, by architecture."""
    largest = table[sizes(table) == "7B"].groupby("architecture")["params"].first()
    found = [
        crossover_batch(latency, str(name), float(params), context_length=CONTEXT_LENGTH)
        for name, params in largest.items()
    ]
    return pd.concat(found, ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loss", type=Path, help="posterior of the losses: read, or written")
    parser.add_argument("--latency", type=Path, help="posterior of the latencies: the same")
    options = parser.parse_args()
    loss, latency = kept_loss(options.loss), kept_latency(options.latency)
    table = usable_rows(read_latency("latency").table).table
    print(life(loss, latency))
    step = pd.DataFrame(
        {
            "architecture": "transformer",
            "params": [STEP_PARAMS],
            "batch_size": BATCH_SIZE,
            "prefill_length": CONTEXT_LENGTH,
            "quantity": "step_time",
        }
    )
    seconds = predict_latency(latency, step)["seconds_median"].iloc[0]
    print(f"\nstep of a Transformer of {STEP_PARAMS:.1e} params: {1e3 * seconds:.1f} ms")
    print("\n" + largest_steps(latency, table).to_string(index=False))
    print("\n" + compute_bound(latency, table).to_string(index=False))
    even = [
        break_even_context(
            loss, latency, "transformer", "xlstm", params=1.4e9, batch_size=batch
        ).assign(batch_size=batch)
        for batch in BATCHES
    ]
    print("\n" + pd.concat(even).to_string(index=False))


if __name__ == "__main__":
    main()
