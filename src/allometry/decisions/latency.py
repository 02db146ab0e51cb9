"""Latency of models, sizes, contexts, batches and devices that were not timed."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.accounting.devices import Device
from allometry.decisions.latency_effects import field_effects
from allometry.decisions.latency_shapes import point_shapes, typed_points, with_timed_params
from allometry.decisions.memory import fits_memory
from allometry.errors import InputError
from allometry.inference import interval_columns
from allometry.inference.latency_arrays import cell_name
from allometry.inference.latency_posterior import LatencyPosterior
from allometry.inference.latency_work import table_work
from allometry.laws.latency import log_seconds, time_shares
from allometry.laws.latency_parts import LatencyParts

Draws = npt.NDArray[np.float64]

DEVICE_LOG_SD = {"flops": 0.2, "bandwidth": 0.15, "log": 0.3}
"""Log standard deviations by which shares and seconds differ between devices: what kernels reach of
the peaks of neighbouring generations varies by a fifth, launch and walk times by a third."""

CEILINGS = ("flops", "bandwidth")
"""Kinds of coefficient that are shares of a device's peak."""

POINT_COLUMNS = ("architecture", "params", "batch_size", "prefill_length", "quantity")
BATCH = 250


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyDraws:
    """Draws of the latency of some points, shape (draw, point) each.

    Attributes
    ----------
    seconds : ndarray
        Of the law with what it misses: that of timed shapes given their timings, new for others.
    run_seconds : ndarray
        Of one new timing, noise included.
    parts : LatencyParts
        Seconds by what they are spent on, without these effects.
    """

    seconds: Draws
    run_seconds: Draws
    parts: LatencyParts


def predict_latency(
    posterior: LatencyPosterior,
    points: pd.DataFrame,
    *,
    device: Device | None = None,
    seed: int = 0,
    force: bool = False,
) -> pd.DataFrame:
    """Seconds of prefills and decode steps, and what they are spent on.

    Parameters
    ----------
    posterior : LatencyPosterior
    points : DataFrame
        Columns ``architecture, params, batch_size, prefill_length, quantity``; the widths where
        known (else those of the timed model of so many params, to half a percent, whose exact
        params are then returned; or of the family),
        ``generation_length`` (default 1: a step at context ``prefill_length``), and ``dtype``
        (default: that of the timings). Of another dtype than the timed one only the bytes differ:
        rates of its products are taken to be the same.
    device : Device, optional
        Another device than the one timed: shares of its peaks are taken over, with the wider
        interval of `DEVICE_LOG_SD`.
    seed : int
        Seed of what the law misses, of noise and of devices.
    force : bool
        Answer although the fit did not converge.

    Returns
    -------
    DataFrame
        The points, with ``dtype`` by its short name, ``seconds_*`` (the law with what it misses),
        ``run_seconds_*`` (one timing, noise included), ``probability_memory_bound`` (memory and the
        walk take longer than computing), ``bottleneck`` (launch, compute, memory or walk: largest
        in most draws), ``probability_fits`` (the device's memory holds the batch; NaN where it is
        not known) and ``timed`` (the shape was among the timings).

    Raises
    ------
    InputError
        If a column is missing, an architecture was not timed, a dtype is not known, or another
        device is asked for and the timed one has no data sheet.
    """
    posterior.require_converged(force=force)
    table = with_timed_params(posterior, typed_points(posterior, check_points(points)))
    draws = latency_draws(posterior, table, device=device, seed=seed)
    parts = draws.parts
    kinds = {
        "launch": parts.launch + parts.sequences,
        "compute": parts.compute,
        "memory": parts.memory,
        "walk": parts.walk,
    }
    stacked = np.stack([np.asarray(part) for part in kinds.values()])
    largest = stacked.argmax(axis=0)
    most = [np.bincount(column, minlength=len(kinds)).argmax() for column in largest.T]
    bound = memory_seconds(parts) > np.asarray(parts.compute)
    known = {str(name) for name in posterior.idata["posterior"]["cell"].to_numpy()}
    capacity = (device or posterior.record.device).memory_bytes
    return table.assign(
        **interval_columns("seconds", draws.seconds),
        **interval_columns("run_seconds", draws.run_seconds),
        probability_memory_bound=bound.mean(axis=0),
        bottleneck=[list(kinds)[index] for index in most],
        probability_fits=fits_memory(posterior, table, capacity).mean(axis=0),
        timed=[cell_name(row) in known for _, row in table.iterrows()],
    )


def memory_seconds(parts: LatencyParts) -> Draws:
    """Seconds that wait for memory: traffic at the effective bandwidths, or the walk if longer."""
    return np.asarray(parts.memory + parts.walk)


def check_points(points: pd.DataFrame) -> pd.DataFrame:
    """Points with all columns that a prediction needs, numbered from 0.

    Raises
    ------
    InputError
        If a column is missing, or a value is out of range.
    """
    if missing := [name for name in POINT_COLUMNS if name not in points]:
        what = f"no column {', '.join(missing)}; found {', '.join(map(str, points.columns))}"
        raise InputError(what, where="points")
    table = points.reset_index(drop=True).copy()
    if "generation_length" not in table:
        table["generation_length"] = 1
    table["generation_length"] = table["generation_length"].fillna(1)
    numbers = table[["params", "batch_size", "prefill_length", "generation_length"]]
    values = numbers.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    bad = ~(np.isfinite(values) & (values >= 1)).all(axis=1)
    if bad.any():
        rows = ", ".join(str(row) for row in np.flatnonzero(bad)[:5])
        raise InputError(
            f"{', '.join(numbers.columns)} must be 1 or more (row {rows})", where="points"
        )
    unknown = sorted(set(table["quantity"]) - {"ttft", "step_time"})
    if unknown:
        raise InputError(f"quantity must be ttft or step_time, got {unknown[0]!r}", where="points")
    return table


def latency_draws(
    posterior: LatencyPosterior,
    table: pd.DataFrame,
    *,
    device: Device | None = None,
    seed: int = 0,
    common: bool = False,
) -> LatencyDraws:
    """Draws of the latency of checked points; arguments as in `predict_latency`.

    With `common`, shapes that were not timed share what the law misses of an architecture and
    phase: among sizes that are tried to find the best one, none is best by luck alone.
    """
    timed = posterior.record.device
    target = timed if device is None or device == timed else device
    if target is not timed and not posterior.record.bounded:
        what = f"shares are of the table's largest rates, not of a data sheet: no {target.name}"
        hint = "Fit with the timed device's data sheet (device=, --device)."
        raise InputError(what, where=f"fit of {posterior.record.source}", hint=hint)
    table = typed_points(posterior, table)
    rng = np.random.default_rng([seed, 11])
    shapes = point_shapes(posterior, table)
    n = posterior.n_draws
    kinds = tuple(field.name for field in dataclasses.fields(LatencyParts))
    found = {kind: np.empty((n, len(table))) for kind in kinds}
    effects = _device_effects(posterior, rng) if target is not timed else {}
    with jax.enable_x64(True):
        for architecture in sorted(set(table["architecture"])):
            values = posterior.values(str(architecture))
            values = {name: value * effects.get(name, 1.0) for name, value in values.items()}
            if target is not timed:
                ceilings = {c.name for c in posterior.law.coefficients if c.kind in CEILINGS}
                values = {k: np.minimum(v, 1.0) if k in ceilings else v for k, v in values.items()}
            rows = np.flatnonzero((table["architecture"] == architecture).to_numpy())
            for part in np.array_split(rows, -(-len(rows) // BATCH)):
                work = table_work(table.iloc[part], target, [shapes[r] for r in part])
                parts = posterior.law.parts({k: jnp.asarray(v) for k, v in values.items()}, work)
                for kind in kinds:
                    found[kind][:, part] = np.asarray(getattr(parts, kind))
    parts = LatencyParts(**found)  # type: ignore[arg-type]
    with jax.enable_x64(True):
        center = np.asarray(log_seconds(parts))
        share = np.asarray(time_shares(parts).mean(axis=0))
    logs = center + field_effects(posterior, table, share, rng, common=common)
    noise = np.stack(
        [
            posterior.noise(str(a), str(q))
            for a, q in zip(table["architecture"], table["quantity"], strict=True)
        ],
        axis=1,
    )
    noisy = logs + noise * rng.normal(size=logs.shape)
    return LatencyDraws(seconds=np.exp(logs), run_seconds=np.exp(noisy), parts=parts)


def _device_effects(posterior: LatencyPosterior, rng: np.random.Generator) -> dict[str, Draws]:
    return {
        c.name: np.exp(DEVICE_LOG_SD[c.kind] * rng.normal(size=(posterior.n_draws, 1)))
        for c in posterior.law.coefficients
        if c.kind in CEILINGS or c.timed
    }
