"""Make the synthetic runs table from published laws plus noise. No model was trained for it.

    python data/synthetic/generate.py            # writes runs.csv beside this file
    python data/synthetic/generate.py -o out.csv

The loss of a run is the published law of its architecture at context 8192,

    L(N, D) = exp(e) + (exp(a) N^-alpha + exp(b) D^-beta)^gamma        nats per token

(arXiv:2510.02228, fits with free gamma on the token/param runs), times Student-t noise. At context
2048 the part above exp(e) is multiplied by CONTEXT_FACTOR, the ratio between the two contexts that
the public runs of that study show for both architectures. Shapes, parameters and training FLOPs
come from `allometry.accounting`; tokens are whole steps of a batch.

The design is that of a small study: at each context and budget, sizes around the compute optimum
(isoflop runs: the minimum lies inside each budget's sizes), and at context 8192 a few sizes trained
far past it (token/param runs).
"""

import argparse
import hashlib
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from allometry.accounting import (
    ExtrapolationWarning,
    Shape,
    choose_shape,
    count_params,
    training_flops,
)
from allometry.observations.writing import write_table

SEED = 20_260_301
NOISE_SCALE, NOISE_FREEDOM = 0.0021, 4.0
"""Student-t of log loss; the standard deviation is scale * sqrt(4 / 2) = 0.3 %."""

LAWS = {  # published fits, full precision
    "transformer": {
        "a": 14.445072259162185,
        "b": 16.329536259543794,
        "e": 0.09010214267518718,
        "alpha": 0.6448273475176387,
        "beta": 0.6258788149452063,
        "gamma": 0.253203099868628,
    },
    "xlstm": {
        "a": 15.457384638860761,
        "b": 16.525830442962416,
        "e": 0.1767681990897612,
        "alpha": 0.7058222283840756,
        "beta": 0.6534411067519296,
        "gamma": 0.25779996274007483,
    },
}
CONTEXT_FACTOR = {2048: 0.993, 8192: 1.0}
BUDGETS = {2048: (6e18, 1e19, 3e19), 8192: (6e18, 1e19, 3e19, 1e20)}
SIZES_A_BUDGET = 9
SIZE_SPAN = 4.5  # largest and smallest size of a budget, relative to its optimum
OVERTRAINED = ((160e6, (22, 110, 550)), (400e6, (22, 110, 550)), (830e6, (22, 110)), (1.4e9, (22,)))
BATCH_TOKENS = 2**20


def law_loss(architecture: str, context_length: int, params: float, tokens: float) -> float:
    """Loss without noise, nats per token."""
    law = LAWS[architecture]
    terms = np.exp(law["a"]) * params ** -law["alpha"] + np.exp(law["b"]) * tokens ** -law["beta"]
    return float(np.exp(law["e"]) + CONTEXT_FACTOR[context_length] * terms ** law["gamma"])


def flops_per_token(shape: Shape, context_length: int) -> float:
    """Training FLOPs of one token, from those of one batch."""
    return training_flops(shape, context_length=context_length, tokens=BATCH_TOKENS) / BATCH_TOKENS


Run = dict[str, object]


def make_run(shape: Shape, context_length: int, tokens: float, experiment: str) -> Run:
    """One row without noise; tokens are rounded to whole batches."""
    tokens = max(round(tokens / BATCH_TOKENS), 1) * BATCH_TOKENS
    params = int(count_params(shape).total)
    return {
        "architecture": shape.architecture,
        "context_length": context_length,
        "experiment": experiment,
        "params": params,
        "tokens": tokens,
        "flops": training_flops(shape, context_length=context_length, tokens=tokens),
        "law_loss": law_loss(shape.architecture, context_length, params, tokens),
        "d_model": shape.d_model,
        "n_layers": shape.n_layers,
        "n_heads": shape.n_heads,
        "d_ff": shape.d_ff,
        "batch_size": BATCH_TOKENS // context_length,
    }


def best_size(architecture: str, context_length: int, budget: float) -> float:
    """Parameters with the lowest law loss at a budget, from a fine grid of the shape family."""
    sizes = np.geomspace(80e6, 7e9, 200)
    losses = []
    for size in sizes:
        shape = choose_shape(architecture, size).shape
        tokens = budget / flops_per_token(shape, context_length)
        params = float(count_params(shape).total)
        losses.append(law_loss(architecture, context_length, params, tokens))
    return float(sizes[int(np.argmin(losses))])


def isoflop_runs(architecture: str, context_length: int, budget: float) -> list[Run]:
    """Sizes around the optimum of one budget; equal shapes once."""
    optimum = best_size(architecture, context_length, budget)
    wanted = np.geomspace(optimum / SIZE_SPAN, optimum * SIZE_SPAN, SIZES_A_BUDGET)
    shapes = {choose_shape(architecture, size).shape: None for size in np.clip(wanted, 80e6, 7e9)}
    return [
        make_run(shape, context_length, budget / flops_per_token(shape, context_length), "isoflop")
        for shape in shapes
    ]


def make_table() -> pd.DataFrame:
    """The whole table; the same bytes on every machine, for losses are rounded to 1e-6."""
    runs: list[Run] = []
    for architecture in LAWS:
        for context_length, budgets in BUDGETS.items():
            for budget in budgets:
                runs += isoflop_runs(architecture, context_length, budget)
        for size, ratios in OVERTRAINED:
            shape = choose_shape(architecture, size).shape
            params = count_params(shape).total
            runs += [make_run(shape, 8192, ratio * params, "token_param") for ratio in ratios]
    table = pd.DataFrame(runs)
    rng = np.random.default_rng(SEED)
    noise = NOISE_SCALE * rng.standard_t(NOISE_FREEDOM, size=len(table))
    loss = (table["law_loss"] * np.exp(noise)).round(6)
    table.insert(0, "run_id", [f"synthetic_{row:03d}" for row in range(len(table))])
    table.insert(table.columns.get_loc("flops") + 1, "loss", loss)
    table["law_loss"] = table["law_loss"].round(6)
    return table.assign(source="synthetic")


def main() -> None:
    """Write the table and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "runs.csv")
    output = parser.parse_args().output
    warnings.simplefilter("error", ExtrapolationWarning)  # all sizes are inside the study's
    table = make_table()
    write_table(table, output)
    counts = table.groupby(["architecture", "context_length", "experiment"]).size()
    digest = hashlib.sha256(output.read_bytes()).hexdigest()
    sys.stdout.write(f"synthetic, seed {SEED}\n{counts.to_string()}\n")
    sys.stdout.write(f"{len(table)} runs in {output}\nsha256 {digest}\n")


if __name__ == "__main__":
    main()
