"""What a model costs over its life in device-hours: training, and serving at its latency.

`allometry.decisions.lifetime` answers the same question in FLOPs, of a loss posterior alone. Here
the seconds of serving come from a latency posterior: a step that waits for memory takes many times
what its FLOPs say.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.accounting import Device
from allometry.decisions.crossover import first_crossing
from allometry.decisions.latency import latency_draws
from allometry.decisions.memory import fits_memory
from allometry.decisions.outlook import reach_columns
from allometry.decisions.serving_points import (
    Draws,
    family_points,
    interval,
    losses_at,
    nearest_context,
    sizes_tried,
)
from allometry.errors import InputError
from allometry.inference import Posterior
from allometry.inference.latency_posterior import LatencyPosterior

TOKENS_PER_PARAM = np.geomspace(2.0, 2e4, 61)
HOUR = 3600.0


def lifetime_cost(
    loss: Posterior,
    latency: LatencyPosterior,
    architectures: str | Sequence[str],
    *,
    target_loss: float,
    served_tokens: "npt.ArrayLike",
    context_length: int,
    batch_size: int = 32,
    training_share: float = 0.4,
    price_per_hour: float | None = None,
    params: "npt.ArrayLike | None" = None,
    device: Device | None = None,
    dtype: str | None = None,
    force: bool = False,
) -> pd.DataFrame:
    """Size and over-training that reach a loss at the least device-hours of training and serving.

    Device-hours: training FLOPs over `training_share` of the peak, plus generated tokens times the
    time of a step over its batch. Reading prompts is not counted. `lifetime` counts FLOPs instead.

    Parameters
    ----------
    architectures : str or sequence of str
        One or more that both posteriors know.
    target_loss : float
        Loss to reach, in the loss posterior's unit.
    served_tokens : array-like
        Tokens generated over the model's life.
    context_length, batch_size : int
        Mean context and batch of serving.
    training_share : float
        Share of peak FLOP/s that training reaches (MFU).
    price_per_hour : float, optional
        Money a device-hour.
    params : array-like, optional
        Sizes tried; by default a grid over those that were timed.
    device : Device, optional
        Another device than the one timed, for training and serving.
    dtype : str, optional
        Of serving, as in `predict_latency`; by default that of the timings. What narrower weights
        lose is not in the loss.
    force : bool
        Answer although a fit did not converge.

    Returns
    -------
    DataFrame
        One row an architecture and demand: ``params_*``, ``tokens_*``, ``tokens_per_param_*``,
        ``overtraining_*`` (tokens over those of the cheapest training alone), ``device_hours_*``,
        ``training_share_of_hours_*``, ``cost_*`` (money, if `price_per_hour` is given),
        ``probability_reachable`` (some size tried reaches the loss), ``probability_at_edge`` (the
        smallest or the largest size tried is the cheapest: try others), ``probability_fits``
        (the chosen size's batch fits the device's memory; NaN where that is not known),
        ``loss_context_length`` (of the group whose loss it is), and ``extrapolation_factor,
        distance_outside, reach`` of the median params and tokens; see `reach_columns`. Intervals
        are of the draws that reach the loss.

    Raises
    ------
    InputError
        If a number is out of range, or an architecture is not known to both posteriors.
    """
    _check(served_tokens, target_loss, context_length, batch_size, training_share, price_per_hour)
    loss.require_converged(force=force)
    latency.require_converged(force=force)
    names = [architectures] if isinstance(architectures, str) else list(architectures)
    sizes = sizes_tried(latency, params)
    rows = []
    for name in names:
        latency.architecture_index(name)
        hours = _hours(
            loss,
            latency,
            name,
            sizes,
            target_loss=target_loss,
            context_length=context_length,
            batch_size=batch_size,
            training_share=training_share,
            device=device,
            dtype=dtype,
        )
        for served in np.atleast_1d(np.asarray(served_tokens, dtype=np.float64)).ravel():
            labels = {"architecture": name, "target_loss": target_loss, "served_tokens": served}
            labels |= {"context_length": context_length, "batch_size": batch_size}
            labels["loss_context_length"] = nearest_context(loss, name, context_length)
            found = _cheapest(hours, sizes, float(served), price_per_hour)
            middle = found["params_median"], found["tokens_median"]
            rows.append(labels | found | _reach(loss, hours.group, *middle))
    return pd.DataFrame(rows)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Hours:
    # The group of the losses; and of shape (draw, size): training tokens that reach the loss (NaN:
    # none), their device-hours, device-hours of a generated token, and whether the batch fits (NaN:
    # not known).
    group: int
    tokens: Draws
    training: Draws
    per_token: Draws
    fits: Draws


def _hours(
    loss: Posterior,
    latency: LatencyPosterior,
    architecture: str,
    sizes: Draws,
    *,
    target_loss: float,
    context_length: int,
    batch_size: int,
    training_share: float,
    device: Device | None,
    dtype: str | None,
) -> _Hours:
    sheet = device or latency.record.device
    n = min(loss.n_draws, latency.n_draws)
    needed = np.empty((n, len(sizes)))
    for i, size in enumerate(sizes):
        constant = np.full(len(TOKENS_PER_PARAM), size)
        tokens = size * TOKENS_PER_PARAM
        at = losses_at(loss, architecture, context_length, constant, tokens)
        needed[:, i] = size * first_crossing(target_loss - at[:n], TOKENS_PER_PARAM)
    nearest = nearest_context(loss, architecture, context_length)
    group = loss.select(architecture=architecture, context_length=nearest)
    index = np.full(len(sizes), group[0])
    flops = np.stack([np.asarray(loss.record.cost.flops(index, sizes, row)) for row in needed])
    points = family_points(
        architecture, sizes, context_length, [batch_size], "step_time", dtype=dtype
    )
    step = latency_draws(latency, points, device=device, common=True).seconds[:n]
    return _Hours(
        group=int(group[0]),
        tokens=needed,
        training=flops / (sheet.flops * training_share) / HOUR,
        per_token=step / batch_size / HOUR,
        fits=fits_memory(latency, points, sheet.memory_bytes)[:n],
    )


def _reach(loss: Posterior, group: int, params: float, tokens: float) -> dict[str, object]:
    if not np.isfinite(params):
        return {"extrapolation_factor": np.nan, "distance_outside": np.nan, "reach": ""}
    at, size, trained = np.array([group]), np.array([params]), np.array([tokens])
    flops = np.asarray(loss.record.cost.flops(at, size, trained))
    columns = reach_columns(loss, at, flops, size, trained)
    return {name: values[0] for name, values in columns.items()}


def _cheapest(hours: _Hours, sizes: Draws, served: float, price: float | None) -> dict[str, float]:
    reached = np.isfinite(hours.training)
    total = np.where(reached, hours.training + served * hours.per_token, np.inf)
    draws = np.flatnonzero(reached.any(axis=1))
    best = total[draws].argmin(axis=1)
    alone = np.where(reached, hours.training, np.inf)[draws].argmin(axis=1)
    tokens, spent = hours.tokens[draws, best], total[draws, best]
    money = {} if price is None else interval("cost", price * spent)
    return (
        interval("params", sizes[best])
        | interval("tokens", tokens)
        | interval("tokens_per_param", tokens / sizes[best])
        | interval("overtraining", tokens / hours.tokens[draws, alone])
        | interval("device_hours", spent)
        | interval("training_share_of_hours", hours.training[draws, best] / spent)
        | money
        | {
            "probability_reachable": len(draws) / len(total),
            "probability_at_edge": np.isin(best, (0, len(sizes) - 1)).sum() / max(len(draws), 1),
            "probability_fits": float(hours.fits[draws, best].mean()) if len(draws) else np.nan,
        }
    )


def _check(
    served_tokens: "npt.ArrayLike",
    target_loss: float,
    context_length: int,
    batch_size: int,
    training_share: float,
    price_per_hour: float | None,
) -> None:
    served = np.atleast_1d(np.asarray(served_tokens, dtype=np.float64))
    wrong = []
    if not served.size or not (np.isfinite(served) & (served >= 0)).all():
        wrong.append("served_tokens must be zero or more and finite")
    if not (np.isfinite(target_loss) and target_loss > 0):
        wrong.append(f"target_loss must be positive and finite, got {target_loss}")
    if context_length < 1 or batch_size < 1:
        wrong.append("context_length and batch_size must be 1 or more")
    if not 0 < training_share <= 1:
        wrong.append(f"training_share must be above 0 and at most 1, got {training_share}")
    if price_per_hour is not None and not (np.isfinite(price_per_hour) and price_per_hour >= 0):
        wrong.append(f"price_per_hour must be zero or more, got {price_per_hour}")
    if wrong:
        raise InputError("; ".join(wrong), where="lifetime cost")
