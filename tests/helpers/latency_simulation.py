"""Simulated timings whose truth is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from allometry.accounting import Device, count_params, preset
from allometry.inference.latency_work import table_work
from allometry.laws.latency import latency_law, log_seconds, natural_values

DEVICE = Device(name="toy", flops=1e14, bandwidth=1e12, memory_bytes=40e9, units=64)
NOISE = 0.02
NAMES = ("transformer-160m", "transformer-1.4b", "xlstm-160m", "xlstm-1.4b")


def latency_grid() -> pd.DataFrame:
    """Two sizes of both architectures at three batches and prompts, both quantities."""
    rows = []
    for name in NAMES:
        shape = preset(name)
        for batch in (1, 8, 64):
            for prompt in (128, 2048, 8192):
                for quantity in ("ttft", "step_time"):
                    rows.append(
                        {
                            "architecture": shape.architecture,
                            "params": count_params(shape).total,
                            "d_model": shape.d_model,
                            "n_layers": shape.n_layers,
                            "n_heads": shape.n_heads,
                            "d_ff": shape.d_ff,
                            "batch_size": batch,
                            "prefill_length": prompt,
                            "generation_length": 1 if quantity == "ttft" else 10,
                            "quantity": quantity,
                        }
                    )
    return pd.DataFrame(rows)


def simulate_latency(seed: int, dtype: str | None = None) -> pd.DataFrame:
    """Timings under the one-kernel law at its prior means, with noise; ``exact`` without."""
    law, table = latency_law("roofline"), latency_grid()
    table = table if dtype is None else table.assign(dtype=dtype)
    theta = np.array([c.loc for c in law.coefficients])
    with jax.enable_x64(True):
        values = natural_values(law, jnp.asarray(theta)[:, None], bounded=True)
        parts = law.parts(dict(zip(law.names, values, strict=True)), table_work(table, DEVICE))
        exact = np.exp(np.asarray(log_seconds(parts)))
    noise = np.random.default_rng(seed).normal(size=len(table))
    return table.assign(seconds=exact * np.exp(NOISE * noise), exact=exact)
