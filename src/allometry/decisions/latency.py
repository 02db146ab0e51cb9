"""Latency of models, sizes, contexts, batches and devices that were not timed."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.accounting import Shape
from allometry.accounting.devices import Device
from allometry.errors import InputError
from allometry.inference import interval_columns
from allometry.inference.latency_arrays import cell_name
from allometry.inference.latency_model import LAUNCH_SPREAD
from allometry.inference.latency_posterior import LatencyPosterior
from allometry.inference.latency_work import shapes_of, table_work
from allometry.inference.model import STUDENT_DF
from allometry.laws.latency import LatencyParts

Draws = npt.NDArray[np.float64]

DEVICE_LOG_SD = {"flops": 0.2, "bandwidth": 0.15, "log": 0.3}
"""Log standard deviations by which shares and seconds differ between devices: what kernels reach of
the peaks of neighbouring generations varies by a fifth, launch and walk times by a third."""

POINT_COLUMNS = ("architecture", "params", "batch_size", "prefill_length", "quantity")
BATCH = 250


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyDraws:
    """Draws of the latency of some points, shape (draw, point) each.

    Attributes
    ----------
    seconds : ndarray
        Of the law with the shape's effects: those of a timed shape, new ones for another.
    run_seconds : ndarray
        Of one new timing, noise included.
    parts : LatencyParts
        Seconds by what they are spent on, without the shape's effects.
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
        known (else the family's shape of that many params is taken), and ``generation_length``
        (default 1: a step at context ``prefill_length``).
    device : Device, optional
        Another device than the one timed: shares of its peaks are taken over, with the wider
        interval of `DEVICE_LOG_SD`.
    seed : int
        Seed of effects of shapes that were not timed, of noise and of devices.
    force : bool
        Answer although the fit did not converge.

    Returns
    -------
    DataFrame
        The points with ``seconds_*`` (the law with the shape's effects), ``run_seconds_*`` (one
        timing, noise included), ``probability_memory_bound`` (memory and the walk take longer than
        computing), ``bottleneck`` (launch, compute, memory or walk: largest in most draws) and
        ``timed`` (the shape was among the timings).

    Raises
    ------
    InputError
        If a column is missing, an architecture was not timed, or another device is asked for and
        the timed one has no data sheet.
    """
    posterior.require_converged(force=force)
    table = check_points(points)
    draws = latency_draws(posterior, table, device=device, seed=seed)
    parts = draws.parts
    kinds = {
        "launch": parts.launch + parts.blocks,
        "compute": parts.compute,
        "memory": parts.memory,
        "walk": parts.walk,
    }
    stacked = np.stack([np.asarray(part) for part in kinds.values()])
    largest = stacked.argmax(axis=0)
    most = [np.bincount(column, minlength=len(kinds)).argmax() for column in largest.T]
    bound = memory_seconds(parts) > np.asarray(parts.compute)
    known = {str(name) for name in posterior.idata["posterior"]["cell"].to_numpy()}
    return table.assign(
        **interval_columns("seconds", draws.seconds),
        **interval_columns("run_seconds", draws.run_seconds),
        probability_memory_bound=bound.mean(axis=0),
        bottleneck=[list(kinds)[index] for index in most],
        timed=[_cell(row) in known for _, row in table.iterrows()],
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
    shapes: list[Shape] | None = None,
) -> LatencyDraws:
    """Draws of the latency of checked points; arguments as in `predict_latency`."""
    timed = posterior.record.device
    target = timed if device is None or device == timed else device
    if target is not timed and not posterior.record.bounded:
        what = f"shares are of the table's largest rates, not of a data sheet: no {target.name}"
        hint = "Fit with the timed device's data sheet (device=, --device)."
        raise InputError(what, where=posterior.record.source, hint=hint)
    rng = np.random.default_rng([seed, 11])
    shapes = shapes_of(table) if shapes is None else shapes
    n = posterior.n_draws
    seconds, run = (np.empty((n, len(table))) for _ in range(2))
    kinds = ("launch", "blocks", "compute", "memory", "walk", "overlapped")
    found = {kind: np.empty((n, len(table))) for kind in kinds}
    effects = _device_effects(posterior, rng) if target is not timed else {}
    new_effects: dict[str, tuple[Draws, Draws]] = {}
    spread = np.exp(posterior.draws("log_work_spread"))
    with jax.enable_x64(True):
        for architecture in sorted(set(table["architecture"])):
            values = posterior.values(str(architecture))
            values = {name: value * effects.get(name, 1.0) for name, value in values.items()}
            if target is not timed:
                ceilings = {c.name for c in posterior.law.coefficients if c.kind != "log"}
                values = {k: np.minimum(v, 1.0) if k in ceilings else v for k, v in values.items()}
            rows = np.flatnonzero((table["architecture"] == architecture).to_numpy())
            for part in np.array_split(rows, -(-len(rows) // BATCH)):
                work = table_work(table.iloc[part], target, [shapes[r] for r in part])
                parts = posterior.law.parts({k: jnp.asarray(v) for k, v in values.items()}, work)
                for kind in kinds:
                    found[kind][:, part] = np.asarray(getattr(parts, kind))
    for position, (_, row) in enumerate(table.iterrows()):
        cell = _cell(row)
        known = posterior.cell_effects(cell)
        if known is None:
            if cell not in new_effects:
                launch = LAUNCH_SPREAD * rng.normal(size=n)
                new_effects[cell] = (launch, spread * rng.normal(size=n))
            known = new_effects[cell]
        launch_effect, work_effect = known
        seconds[:, position] = found["launch"][:, position] * np.exp(launch_effect) + found[
            "overlapped"
        ][:, position] * np.exp(work_effect)
        scale = posterior.noise(str(row["architecture"]), str(row["quantity"]))
        noise = scale * rng.standard_t(STUDENT_DF, size=n)
        run[:, position] = seconds[:, position] * np.exp(noise)
    return LatencyDraws(
        seconds=seconds,
        run_seconds=run,
        parts=LatencyParts(**found),  # type: ignore[arg-type]
    )


def _device_effects(posterior: LatencyPosterior, rng: np.random.Generator) -> dict[str, Draws]:
    return {
        c.name: np.exp(DEVICE_LOG_SD[c.kind] * rng.normal(size=(posterior.n_draws, 1)))
        for c in posterior.law.coefficients
        if c.kind != "log" or "seconds" in c.name or c.name.startswith("launch")
    }


def _cell(row: pd.Series) -> str:
    return cell_name(str(row["architecture"]), float(row["params"]), str(row["quantity"]))


def crossover_batch(
    posterior: LatencyPosterior,
    architecture: str,
    params: float,
    *,
    context_length: int,
    quantity: str = "step_time",
    largest: int = 65_536,
    force: bool = False,
) -> pd.DataFrame:
    """Batch from which computing takes longer than memory, and what it costs to get there.

    Returns
    -------
    DataFrame
        One row: ``batch_size_*`` among draws with a crossover up to `largest`, and
        ``probability_crosses``.
    """
    batches = np.unique(np.geomspace(1, largest, 49).round().astype(np.int64))
    points = _grid(architecture, params, batches, [context_length], quantity)
    crossed = _excess(posterior, points, force=force)
    return _crossing(
        crossed,
        batches.astype(np.float64),
        "batch_size",
        {"architecture": architecture, "params": params, "context_length": context_length},
    )


def crossover_context(
    posterior: LatencyPosterior,
    architecture: str,
    params: float,
    *,
    batch_size: int = 1,
    largest: int = 1_048_576,
    force: bool = False,
) -> pd.DataFrame:
    """Context from which a decode step spends more on the cache than on everything else.

    Returns
    -------
    DataFrame
        One row: ``context_length_*`` among draws with a crossover up to `largest`, and
        ``probability_crosses``: zero for a recurrent state, whose step does not depend on context.
    """
    posterior.require_converged(force=force)
    contexts = np.unique(np.geomspace(1, largest, 49).round().astype(np.int64))
    points = check_points(_grid(architecture, params, [batch_size], contexts, "step_time"))
    seconds = latency_draws(posterior, points).seconds
    return _crossing(
        seconds - 2.0 * seconds[:, :1],
        contexts.astype(np.float64),
        "context_length",
        {"architecture": architecture, "params": params, "batch_size": batch_size},
    )


def _grid(
    architecture: str,
    params: float,
    batches: "npt.ArrayLike",
    contexts: "npt.ArrayLike",
    quantity: str,
) -> pd.DataFrame:
    grid = pd.MultiIndex.from_product(
        [np.asarray(batches), np.asarray(contexts)], names=["batch_size", "prefill_length"]
    ).to_frame(index=False)
    return grid.assign(architecture=architecture, params=float(params), quantity=quantity)


def _excess(posterior: LatencyPosterior, points: pd.DataFrame, *, force: bool) -> Draws:
    posterior.require_converged(force=force)
    parts = latency_draws(posterior, check_points(points)).parts
    return np.asarray(np.log(np.asarray(parts.compute)) - np.log(memory_seconds(parts)))


def first_crossing(excess: Draws, at: Draws) -> Draws:
    """Where each row of `excess` first turns positive, between grid points; NaN if it never does.

    Parameters
    ----------
    excess : ndarray, shape (draw, point)
    at : ndarray, shape (point,)
        Places in ascending order; interpolated on a log axis.
    """
    positive = excess > 0
    first = positive.argmax(axis=1)
    rows = np.arange(len(excess))
    before = np.maximum(first - 1, 0)
    low, high = excess[rows, before], excess[rows, first]
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = np.where(first == before, 0.0, -low / (high - low))
    place = np.exp((1 - weight) * np.log(at[before]) + weight * np.log(at[first]))
    return np.where(positive.any(axis=1), place, np.nan)


def _crossing(excess: Draws, at: Draws, name: str, labels: dict[str, object]) -> pd.DataFrame:
    places = first_crossing(excess, at)
    inside = places[np.isfinite(places)]
    columns = interval_columns(name, inside if len(inside) else np.full(1, np.nan))
    row = {key: float(value) for key, value in columns.items()}
    return pd.DataFrame([labels | row | {"probability_crosses": len(inside) / len(places)}])
