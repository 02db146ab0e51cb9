"""Loss and latency joined: what to serve, what is cheaper, and what a model costs over its life."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.accounting import Device
from allometry.decisions.latency import check_points, first_crossing, latency_draws
from allometry.decisions.prediction import predict_draws
from allometry.errors import InputError
from allometry.inference import Posterior, interval_columns
from allometry.inference.latency_memory import needed_bytes
from allometry.inference.latency_posterior import LatencyPosterior
from allometry.inference.latency_work import shapes_of

Draws = npt.NDArray[np.float64]
SIZES = 25
"""Sizes tried between the ends of the timed range."""


def largest_batch(
    latency: LatencyPosterior,
    architecture: str,
    params: float,
    *,
    context_length: int,
    memory_bytes: float | None = None,
    largest: int = 65_536,
) -> pd.DataFrame:
    """Largest batch that fits the device's memory at a context, prompt included.

    Returns
    -------
    DataFrame
        One row: ``batch_size_*`` (zero where not even one sequence fits).

    Raises
    ------
    InputError
        If the device's memory is not known.
    """
    capacity = latency.record.device.memory_bytes if memory_bytes is None else memory_bytes
    if not np.isfinite(capacity):
        what = f"the memory of {latency.record.device.name} is not known"
        raise InputError(what, where="largest_batch", hint="Give memory_bytes=.")
    a = latency.architecture_index(architecture)
    batches = np.unique(np.geomspace(1, largest, 400).round().astype(np.int64))
    points = _points(architecture, [params], context_length, batches, "ttft")
    factor = latency.draws("memory_factor")[:, a]
    spread = latency.draws("memory_spread")[:, a]
    slack = np.exp(
        spread * np.random.default_rng([latency.record.seed, 17]).normal(size=len(spread))
    )
    needed = needed_bytes(shapes_of(points), points, factor)
    fits = needed <= (capacity * slack)[:, None]
    found = np.where(fits[:, 0], batches[np.maximum(fits.sum(axis=1) - 1, 0)], 0)
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
    batch_size, quantity, device
        As in `predict_latency`.
    params : array-like, optional
        Sizes; by default a grid over those that were timed.

    Returns
    -------
    DataFrame
        One row an architecture and size: ``loss_*``, ``seconds_*``, and ``probability_dominated``:
        the share of draws in which some model of another architecture is both faster and better.
    """
    loss.require_converged(force=force)
    latency.require_converged(force=force)
    names = _shared(loss, latency)
    sizes = _sizes(latency) if params is None else np.atleast_1d(np.asarray(params, dtype=float))
    n = min(loss.n_draws, latency.n_draws)
    losses, seconds = {}, {}
    for name in names:
        losses[name] = _losses(loss, name, context_length, sizes, sizes * tokens_per_param)[:n]
        points = _points(name, sizes, context_length, [batch_size], quantity)
        seconds[name] = latency_draws(latency, points, device=device).seconds[:n]
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
    largest: int = 1_048_576,
    force: bool = False,
) -> pd.DataFrame:
    """Context beyond which b is cheaper than a at equal loss.

    b takes, draw by draw, the size at which its loss equals that of a with `params`, both trained
    on `tokens_per_param` tokens a param.

    Returns
    -------
    DataFrame
        One row: ``context_length_*`` among draws with a break-even up to `largest`,
        ``probability_breaks_even``, ``b_params_*``, ``probability_b_always_cheaper``.
    """
    loss.require_converged(force=force)
    latency.require_converged(force=force)
    sizes = np.geomspace(params / 4, params * 4, SIZES)
    reference = _nearest_context(loss, a, 8192) or 8192
    target = _losses(loss, a, reference, np.array([params]), np.array([params * tokens_per_param]))
    of_b = _losses(loss, b, reference, sizes, sizes * tokens_per_param)
    n = min(len(target), latency.n_draws)
    equal = first_crossing(target[:n] - of_b[:n], sizes)
    contexts = np.unique(np.geomspace(16, largest, 41).round().astype(np.int64))
    points = [
        _points(a, [params], contexts, [batch_size], quantity),
        *(_points(b, [size], contexts, [batch_size], quantity) for size in sizes),
    ]
    drawn = latency_draws(latency, pd.concat(points, ignore_index=True)).seconds[:n]
    of_a, rest = drawn[:, : len(contexts)], drawn[:, len(contexts) :]
    grid = rest.reshape(n, len(sizes), len(contexts))
    seconds_b = _between(grid, np.log(sizes), np.log(equal))
    places = first_crossing(of_a - seconds_b, contexts.astype(float))
    known = np.isfinite(equal)
    crossed = np.isfinite(places) & known
    always = crossed & (places <= contexts[0])
    return pd.DataFrame(
        [
            {"a": a, "b": b, "params": params, "batch_size": batch_size, "quantity": quantity}
            | _interval("context_length", places[crossed])
            | {
                "probability_breaks_even": float(crossed.mean()),
                "probability_b_always_cheaper": float(always.mean()),
            }
            | _interval("b_params", equal[known])
        ]
    )


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
    sizes = _sizes(latency) if params is None else np.atleast_1d(np.asarray(params, dtype=float))
    tokens = np.geomspace(2.0, 2e4, 61)  # tokens a param
    n = min(loss.n_draws, latency.n_draws)
    needed = np.empty((n, len(sizes)))
    for i, size in enumerate(sizes):
        at = _losses(loss, architecture, context_length, np.full(len(tokens), size), size * tokens)
        needed[:, i] = size * first_crossing(target_loss - at[:n], tokens)
    nearest = _nearest_context(loss, architecture, context_length)
    group = loss.select(architecture=architecture, context_length=nearest)
    index = np.full(len(sizes), group[0])
    flops = np.stack([np.asarray(loss.record.cost.flops(index, sizes, row)) for row in needed])
    points = _points(architecture, sizes, context_length, [batch_size], "step_time")
    per_token = latency_draws(latency, points, device=device).seconds[:n] / batch_size
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
            | _interval("params", sizes[best])
            | _interval("tokens", chosen_tokens)
            | _interval("tokens_per_param", chosen_tokens / sizes[best])
            | _interval("overtraining", chosen_tokens / needed[draws, cheapest_training])
            | _interval("cost", price_per_hour * total[draws, best])
            | _interval("training_share_of_cost", training[draws, best] / total[draws, best])
            | {"probability_reachable": float(reachable.mean())}
        ]
    )


def _interval(name: str, draws: Draws) -> dict[str, float]:
    columns = interval_columns(name, draws if len(draws) else np.full(1, np.nan))
    return {key: float(value) for key, value in columns.items()}


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


def _nearest_context(loss: Posterior, architecture: str, context_length: int) -> int | None:
    groups = loss.groups
    if "context_length" not in groups:
        return None
    own = groups[groups["architecture"].astype(str) == architecture]
    if own.empty:
        raise InputError(f"no losses of architecture {architecture!r}", where="serving")
    contexts = own["context_length"].astype(float).to_numpy()
    return int(contexts[np.abs(np.log(contexts / context_length)).argmin()])


def _losses(
    loss: Posterior, architecture: str, context_length: int, params: Draws, tokens: Draws
) -> Draws:
    nearest = _nearest_context(loss, architecture, context_length)
    points = pd.DataFrame({"params": params, "tokens": tokens, "architecture": architecture})
    if nearest is not None:
        points["context_length"] = nearest
    return np.asarray(predict_draws(loss, points)[0])


def _sizes(latency: LatencyPosterior) -> Draws:
    timed = latency.idata["constant_data"]["params"].to_numpy()
    return np.geomspace(timed.min(), timed.max(), SIZES)


def _points(
    architecture: str,
    params: "npt.ArrayLike",
    contexts: "npt.ArrayLike",
    batches: "npt.ArrayLike",
    quantity: str,
) -> pd.DataFrame:
    """Points of an architecture, each with the family's shape nearest to its params."""
    rows = pd.MultiIndex.from_product(
        [np.atleast_1d(params), np.atleast_1d(contexts), np.atleast_1d(batches)],
        names=["params", "prefill_length", "batch_size"],
    ).to_frame(index=False)
    return check_points(rows.assign(architecture=architecture, quantity=quantity))
