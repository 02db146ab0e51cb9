"""From which batch a step is bound by computing, from which context by its cache."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.accounting import Device
from allometry.decisions.latency import Draws, check_points, latency_draws, memory_seconds
from allometry.inference import interval_columns
from allometry.inference.latency_posterior import LatencyPosterior


def crossover_batch(
    posterior: LatencyPosterior,
    architecture: str,
    params: float,
    *,
    context_length: int,
    quantity: str = "step_time",
    device: Device | None = None,
    dtype: str | None = None,
    largest: int = 65_536,
    force: bool = False,
) -> pd.DataFrame:
    """Batch from which computing takes longer than memory, and what it costs to get there.

    `device` and `dtype` are as in `predict_latency`.

    Returns
    -------
    DataFrame
        One row: ``batch_size_*`` among draws with a crossover up to `largest`, and
        ``probability_crosses``.
    """
    batches = np.unique(np.geomspace(1, largest, 49).round().astype(np.int64))
    points = _grid(architecture, params, batches, [context_length], quantity)
    crossed = _excess(posterior, points.assign(dtype=dtype), device, force=force)
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
    device: Device | None = None,
    dtype: str | None = None,
    largest: int = 1_048_576,
    force: bool = False,
) -> pd.DataFrame:
    """Context from which a decode step spends more on the cache than on everything else.

    `device` and `dtype` are as in `predict_latency`.

    Returns
    -------
    DataFrame
        One row: ``context_length_*`` among draws with a crossover up to `largest`, and
        ``probability_crosses``: zero for a recurrent state, whose step does not depend on context.
    """
    posterior.require_converged(force=force)
    contexts = np.unique(np.geomspace(1, largest, 49).round().astype(np.int64))
    points = _grid(architecture, params, [batch_size], contexts, "step_time").assign(dtype=dtype)
    seconds = latency_draws(posterior, check_points(points), device=device).seconds
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


def _excess(
    posterior: LatencyPosterior, points: pd.DataFrame, device: Device | None, *, force: bool
) -> Draws:
    posterior.require_converged(force=force)
    parts = latency_draws(posterior, check_points(points), device=device).parts
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
