"""Simulated studies whose truth is known."""

import numpy as np
import pandas as pd

TRUTH = {
    ("transformer", 1024): (1.90, 0.29, 0.36, 0.50),
    ("transformer", 4096): (1.92, 0.29, 0.35, 0.50),
    ("xlstm", 1024): (1.88, 0.30, 0.36, 0.48),
    ("xlstm", 4096): (1.89, 0.31, 0.35, 0.49),
}
"""E, alpha, beta and gamma of each simulated group; A and B follow from the valley at 3e8."""


def simulate_runs(
    seed: int,
    *,
    groups: dict[tuple[str, int], tuple[float, float, float, float]] = TRUTH,
    budgets: tuple[float, ...] = (1e18, 1e19, 1e20),
    sizes: int = 6,
    noise: float = 0.003,
) -> pd.DataFrame:
    """An isoflop study under the p-norm law with C = 6 N D and Student-t noise of log loss."""
    rng = np.random.default_rng(seed)
    rows = []
    for (architecture, context_length), (E, alpha, beta, gamma) in groups.items():
        for flops in budgets:
            centre = np.sqrt(flops / 6.0 / 20.0)
            for params in centre * np.geomspace(0.25, 4.0, sizes):
                tokens = flops / 6.0 / params
                u = 0.5 * (params / 3e8) ** -alpha
                v = 0.5 * (tokens / 6e9) ** -beta
                loss = E + (u ** (1 / gamma) + v ** (1 / gamma)) ** gamma
                noisy = loss * np.exp(noise * rng.standard_t(4.0))
                rows.append((architecture, context_length, params, tokens, flops, noisy))
    names = ["architecture", "context_length", "params", "tokens", "flops", "loss"]
    return pd.DataFrame(rows, columns=names)
