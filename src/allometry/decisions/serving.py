"""Loss and latency joined: what to serve, what is cheaper, and which batch fits."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.accounting import Device
from allometry.decisions.crossover import first_crossing
from allometry.decisions.latency import latency_draws
from allometry.decisions.memory import fits_memory
from allometry.decisions.serving_points import (
    SIZES,
    Draws,
    family_points,
    interval,
    losses_at,
    nearest_context,
    sizes_tried,
)
from allometry.errors import InputError
from allometry.inference import Posterior, interval_columns
from allometry.inference.latency_posterior import LatencyPosterior


def largest_batch(
    latency: LatencyPosterior,
    architecture: str,
    params: float,
    *,
    context_length: int,
    memory_bytes: float | None = None,
    dtype: str | None = None,
    largest: int = 65_536,
) -> pd.DataFrame:
    """Largest batch that fits the device's memory at a context, prompt included.

    Weights, cache and activations are of `dtype`, by default that of the timings.

    Returns
    -------
    DataFrame
        One row: ``batch_size_*`` (zero where not even one sequence fits).

    Raises
    ------
    InputError
        If the device's memory is not known.
    """
    latency.architecture_index(architecture)
    capacity = latency.record.device.memory_bytes if memory_bytes is None else memory_bytes
    if not np.isfinite(capacity):
        what = f"the memory of {latency.record.device.name} is not known"
        raise InputError(what, where="largest_batch", hint="Give memory_bytes= (--device).")
    batches = np.unique(np.geomspace(1, largest, 400).round().astype(np.int64))
    points = family_points(architecture, [params], context_length, batches, "ttft", dtype=dtype)
    fits = fits_memory(latency, points, capacity)
    last = np.maximum(fits.sum(axis=1).astype(int) - 1, 0)
    found = np.where(fits[:, 0] > 0, batches[last], 0)
    row = {k: float(v) for k, v in interval_columns("batch_size", found.astype(float)).items()}
    labels = {"architecture": architecture, "params": params, "context_length": context_length}
    return pd.DataFrame([labels | row])


def serving_frontier(
    loss: Posterior,
    latency: LatencyPosterior,
    *,
    context_length: int,
    tokens_per_param: float = 22.0,
    batch_size: int = 1,
    quantity: str = "step_time",
    params: "npt.ArrayLike | None" = None,
    device: Device | None = None,
    dtype: str | None = None,
    force: bool = False,
) -> pd.DataFrame:
    """Loss against time to first token or step time, size by size, of every architecture.

    Parameters
    ----------
    loss, latency : Posterior, LatencyPosterior
        Their architectures in common are compared; draws are paired at random, since losses and
        timings are independent.
    context_length : int
        Tokens of the prompt, and the context of a step; the loss is of the group trained at the
        context length nearest to it.
    tokens_per_param : float
        Training tokens over params.
    batch_size, quantity, device, dtype
        As in `predict_latency`. Losses are those of training: what narrower weights lose is not in
        them.
    params : array-like, optional
        Sizes; by default a grid over those that were timed.

    Returns
    -------
    DataFrame
        One row an architecture and size: ``loss_*``, ``seconds_*``, ``loss_context_length`` (of
        the group whose loss it is) and ``probability_dominated``: the share of draws in which some
        model of another architecture is both faster and better.
    """
    loss.require_converged(force=force)
    latency.require_converged(force=force)
    names = _shared(loss, latency)
    sizes = sizes_tried(latency, params)
    n = min(loss.n_draws, latency.n_draws)
    losses, seconds = {}, {}
    for name in names:
        losses[name] = losses_at(loss, name, context_length, sizes, sizes * tokens_per_param)[:n]
        points = family_points(name, sizes, context_length, [batch_size], quantity, dtype=dtype)
        seconds[name] = latency_draws(latency, points, device=device, common=True).seconds[:n]
    rows = []
    for name in names:
        others = [other for other in names if other != name]
        beaten = np.zeros((n, len(sizes)), dtype=bool)
        for other in others:
            better = losses[other][:, None, :] < losses[name][:, :, None]
            faster = seconds[other][:, None, :] < seconds[name][:, :, None]
            beaten |= (better & faster).any(axis=2)
        table = pd.DataFrame(
            {"architecture": name, "context_length": context_length, "params": sizes}
            | {"loss_context_length": nearest_context(loss, name, context_length)}
            | {"batch_size": batch_size, "quantity": quantity}
            | interval_columns("loss", losses[name])
            | interval_columns("seconds", seconds[name])
        )
        rows.append(table.assign(probability_dominated=beaten.mean(axis=0)))
    return pd.concat(rows, ignore_index=True)


def break_even_context(
    loss: Posterior,
    latency: LatencyPosterior,
    a: str,
    b: str,
    *,
    params: float,
    tokens_per_param: float = 22.0,
    batch_size: int = 1,
    quantity: str = "step_time",
    device: Device | None = None,
    dtype: str | None = None,
    largest: int = 1_048_576,
    force: bool = False,
) -> pd.DataFrame:
    """Context beyond which b is cheaper than a at equal loss.

    b takes, draw by draw, the size at which its loss equals that of a with `params`, both trained
    on `tokens_per_param` tokens a param, at the context length of a's groups nearest to 8,192.
    `device` and `dtype` are as in `predict_latency`.

    Returns
    -------
    DataFrame
        One row: ``context_length_*`` among draws with a break-even up to `largest`,
        ``probability_breaks_even``, ``b_params_*``, ``probability_b_always_cheaper``.
    """
    if a == b:
        raise InputError(f"{a!r} is compared with itself", where="break-even context")
    if not (np.isfinite(params) and params >= 1 and tokens_per_param > 0):
        what = f"params must be 1 or more and tokens_per_param positive, got {params:g} and "
        raise InputError(f"{what}{tokens_per_param:g}", where="break-even context")
    for name in (a, b):
        latency.architecture_index(name)
    loss.require_converged(force=force)
    latency.require_converged(force=force)
    sizes = np.geomspace(params / 4, params * 4, SIZES)
    reference = nearest_context(loss, a, 8192) or 8192
    one = np.array([params])
    target = losses_at(loss, a, reference, one, one * tokens_per_param)
    of_b = losses_at(loss, b, reference, sizes, sizes * tokens_per_param)
    n = min(len(target), latency.n_draws)
    equal = first_crossing(target[:n] - of_b[:n], sizes)
    contexts = np.unique(np.geomspace(16, largest, 41).round().astype(np.int64))
    points = [
        family_points(name, [size], contexts, [batch_size], quantity, dtype=dtype)
        for name, size in [(a, params), *((b, size) for size in sizes)]
    ]
    grid = pd.concat(points, ignore_index=True)
    drawn = latency_draws(latency, grid, device=device, common=True).seconds[:n]
    of_a, rest = drawn[:, : len(contexts)], drawn[:, len(contexts) :]
    of_sizes = rest.reshape(n, len(sizes), len(contexts))
    seconds_b = _between(of_sizes, np.log(sizes), np.log(equal))
    places = first_crossing(of_a - seconds_b, contexts.astype(float))
    known = np.isfinite(equal)
    crossed = np.isfinite(places) & known
    always = crossed & (places <= contexts[0])
    return pd.DataFrame(
        [
            {"a": a, "b": b, "params": params, "batch_size": batch_size, "quantity": quantity}
            | interval("context_length", places[crossed])
            | {
                "probability_breaks_even": float(crossed.mean()),
                "probability_b_always_cheaper": float(always.mean()),
            }
            | interval("b_params", equal[known])
        ]
    )


def _between(grid: Draws, at: Draws, wanted: Draws) -> Draws:
    # Linear between sizes on log axes; NaN where the size is not known. [draw, size, context]
    place = np.interp(wanted, at, np.arange(len(at)))
    low = np.clip(np.nan_to_num(place).astype(int), 0, len(at) - 2)
    weight = (place - low)[:, None]
    rows = np.arange(len(grid))
    logs = (1 - weight) * np.log(grid[rows, low]) + weight * np.log(grid[rows, low + 1])
    return np.asarray(np.exp(logs))


def _shared(loss: Posterior, latency: LatencyPosterior) -> list[str]:
    groups = loss.groups
    known = set(groups["architecture"].astype(str)) if "architecture" in groups else set()
    names = [name for name in latency.record.architectures if name in known]
    if not names:
        what = f"no architecture in common: losses of {', '.join(sorted(known)) or 'one group'}, "
        what += f"timings of {', '.join(latency.record.architectures)}"
        raise InputError(what, where="serving", hint="Fit both with a column architecture.")
    return names
