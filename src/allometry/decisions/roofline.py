"""The roofline of a latency posterior: its effective ceilings, and where the timings lie."""

import numpy as np
import pandas as pd

from allometry.accounting.devices import Device
from allometry.inference import interval_columns
from allometry.inference.latency_posterior import LatencyPosterior
from allometry.inference.latency_work import point_work, shapes_of, total_flops, usable_rows

PHASES = {
    "ttft": ("prefill", "prefill_rate", "prefill_weight_bandwidth"),
    "step_time": ("decode", "decode_rate", "weight_bandwidth"),
}
"""Name of each quantity's phase, and the coefficients that are its ceilings."""


def roofline_ceilings(posterior: LatencyPosterior, *, force: bool = False) -> pd.DataFrame:
    """Effective rate of the products and bandwidth of the weights, by architecture and phase.

    Returns
    -------
    DataFrame
        ``label, architecture, quantity``, ``rate_*`` (FLOP/s) and ``bandwidth_*`` (bytes/s).
    """
    posterior.require_converged(force=force)
    device, rows = posterior.record.device, []
    for architecture in posterior.record.architectures:
        values = posterior.values(architecture)
        for quantity, (phase, rate, bandwidth) in PHASES.items():
            columns = interval_columns("rate", device.flops * values[rate][:, 0])
            columns |= interval_columns("bandwidth", device.bandwidth * values[bandwidth][:, 0])
            rows.append(
                {
                    "label": f"{architecture} {phase}",
                    "architecture": architecture,
                    "quantity": quantity,
                }
                | {name: float(value) for name, value in columns.items()}
            )
    return pd.DataFrame(rows)


def timed_rates(timings: pd.DataFrame, device: Device) -> pd.DataFrame:
    """Rate and intensity of every timing that can be modelled.

    Parameters
    ----------
    timings : DataFrame
        Rows of a latency table.
    device : Device
        That was timed.

    Returns
    -------
    DataFrame
        ``label`` as in `roofline_ceilings`, ``intensity`` (FLOPs a byte of weights, activations and
        cache) and ``rate`` (FLOP/s, launches and all included). FLOPs are those of the products
        with weights and of a prompt's attention.
    """
    table = usable_rows(timings).table
    work = [
        point_work(shape, row, units=device.units)
        for shape, (_, row) in zip(shapes_of(table), table.iterrows(), strict=True)
    ]
    kinds = ("weight_bytes", "activation_bytes", "cache_bytes")
    flops = np.asarray([total_flops(row) for row in work])
    moved = np.asarray([sum(row[kind] for kind in kinds) for row in work])
    phase = table["quantity"].map({quantity: names[0] for quantity, names in PHASES.items()})
    return pd.DataFrame(
        {
            "label": table["architecture"].astype(str) + " " + phase,
            "intensity": flops / moved,
            "rate": flops / table["seconds"].to_numpy(dtype=np.float64),
        }
    )
