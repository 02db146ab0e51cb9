"""What a model costs over its life in device-hours: training, and serving at its latency."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.accounting import Device
from allometry.decisions.crossover import first_crossing
from allometry.decisions.latency import latency_draws
from allometry.decisions.serving_points import (
    family_points,
    interval,
    losses_at,
    nearest_context,
    sizes_tried,
)
from allometry.inference import Posterior
from allometry.inference.latency_posterior import LatencyPosterior


def lifetime_cost(
    loss: Posterior,
    latency: LatencyPosterior,
    architecture: str,
    *,
    target_loss: float,
    served_tokens: float,
    context_length: int,
    batch_size: int = 32,
    training_share: float = 0.4,
    price_per_hour: float = 1.0,
    params: "npt.ArrayLike | None" = None,
    device: Device | None = None,
    force: bool = False,
) -> pd.DataFrame:
    """Size and over-training that reach a loss at the least cost of training and serving.

    Cost in device-hours: training FLOPs over `training_share` of the peak, plus served tokens
    times the time of a step over its batch.

    Parameters
    ----------
    target_loss : float
        Loss to reach, in the loss posterior's unit.
    served_tokens : float
        Tokens generated over the model's life.
    context_length, batch_size : int
        Mean context and batch of serving.
    training_share : float
        Share of peak FLOP/s that training reaches (MFU).
    price_per_hour : float
        Money a device-hour; 1 leaves hours.
    params : array-like, optional
        Sizes tried; by default a grid over those that were timed.

    Returns
    -------
    DataFrame
        One row: ``params_*``, ``tokens_*``, ``tokens_per_param_*``, ``overtraining_*`` (tokens over
        those of the cheapest training alone), ``cost_*``, ``training_share_of_cost_*`` and
        ``probability_reachable``.
    """
    loss.require_converged(force=force)
    latency.require_converged(force=force)
    sheet = device or latency.record.device
    sizes = sizes_tried(latency, params)
    tokens = np.geomspace(2.0, 2e4, 61)  # tokens a param
    n = min(loss.n_draws, latency.n_draws)
    needed = np.empty((n, len(sizes)))
    for i, size in enumerate(sizes):
        constant = np.full(len(tokens), size)
        at = losses_at(loss, architecture, context_length, constant, size * tokens)
        needed[:, i] = size * first_crossing(target_loss - at[:n], tokens)
    nearest = nearest_context(loss, architecture, context_length)
    group = loss.select(architecture=architecture, context_length=nearest)
    index = np.full(len(sizes), group[0])
    flops = np.stack([np.asarray(loss.record.cost.flops(index, sizes, row)) for row in needed])
    points = family_points(architecture, sizes, context_length, [batch_size], "step_time")
    step = latency_draws(latency, points, device=device, common=True).seconds[:n]
    per_token = step / batch_size
    training = flops / (sheet.flops * training_share) / 3600
    serving = served_tokens * per_token / 3600
    total = np.where(np.isfinite(training), training + serving, np.inf)
    reachable = np.isfinite(total).any(axis=1)
    draws = np.arange(n)[reachable]
    best = total[reachable].argmin(axis=1)
    cheapest_training = np.where(np.isfinite(training), training, np.inf)[reachable].argmin(axis=1)
    chosen_tokens = needed[draws, best]
    labels = {"architecture": architecture, "target_loss": target_loss}
    labels |= {"served_tokens": served_tokens, "context_length": context_length}
    return pd.DataFrame(
        [
            labels
            | interval("params", sizes[best])
            | interval("tokens", chosen_tokens)
            | interval("tokens_per_param", chosen_tokens / sizes[best])
            | interval("overtraining", chosen_tokens / needed[draws, cheapest_training])
            | interval("cost", price_per_hour * total[draws, best])
            | interval("training_share_of_cost", training[draws, best] / total[draws, best])
            | {"probability_reachable": float(reachable.mean())}
        ]
    )
