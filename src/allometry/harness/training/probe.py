"""Find a good peak learning rate for a corpus, at the smallest size of a sweep."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from allometry.harness.training.config import TrainConfig
from allometry.harness.training.loop import train
from allometry.harness.training.result import Listener, RunResult

RATES = tuple(1e-3 * 2.0 ** (k / 2) for k in range(-2, 10, 2))  # 5e-4 to 1.6e-2, factor 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """What `probe_learning_rates` found.

    Attributes
    ----------
    learning_rate : float
        Where the parabola through the best rate and its neighbours, in log rate, is lowest; the
        best rate itself at the edge of the rates, or beside a run that diverged.
    inside : bool
        The best rate has neighbours on both sides; if not, probe further out.
    runs : tuple of RunResult
        In order of their rates.
    """

    learning_rate: float
    inside: bool
    runs: tuple[RunResult, ...]


def probe_learning_rates(
    config: TrainConfig,
    folder: Path,
    *,
    rates: Sequence[float] = RATES,
    progress: Listener | None = None,
) -> Probe:
    """Train the same run at several peak rates and choose.

    Larger models want smaller rates (the reference study: 3e-3 below 500M parameters, 5e-4 at 7B),
    so a rate found at the smallest size is an upper end for the others.

    Parameters
    ----------
    config : TrainConfig
        The run; its own `learning_rate` is not used.
    folder : Path
        Holds one run's folder a rate; a probe that was stopped goes on.
    rates : sequence of float
        Peak rates, at least one.
    progress : Listener, optional
        Told of every row of every run.
    """
    ordered = sorted(rates)
    runs = tuple(
        train(replace(config, learning_rate=rate), folder / f"rate-{rate:.3e}", progress=progress)
        for rate in ordered
    )
    losses = [math.inf if run.loss is None else run.loss for run in runs]
    best = min(range(len(losses)), key=losses.__getitem__)
    inside = 0 < best < len(losses) - 1
    around = losses[best - 1 : best + 2] if inside else []
    rate = ordered[best]
    if inside and all(map(math.isfinite, around)):
        rate = math.exp(_lowest([math.log(x) for x in ordered[best - 1 : best + 2]], around))
    return Probe(learning_rate=rate, inside=inside, runs=runs)


def _lowest(x: Sequence[float], y: Sequence[float]) -> float:
    # Vertex of the parabola through three points of which the middle one is lowest.
    left, right = x[1] - x[0], x[2] - x[1]
    up_left, up_right = y[0] - y[1], y[2] - y[1]
    if not up_left * right + up_right * left > 0:  # all three alike
        return x[1]
    shift = (up_left * right**2 - up_right * left**2) / (up_left * right + up_right * left)
    return x[1] + 0.5 * shift
