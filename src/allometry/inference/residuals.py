"""Residuals of fitted runs from the law, and how they would change with its coefficients."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from allometry.inference.evaluate import LawDraws, log_loss_at, run_noise
from allometry.inference.model import STUDENT_DF

if TYPE_CHECKING:
    from allometry.inference.posterior import Posterior

Array = npt.NDArray[np.float64]

THINNED = 100
"""Draws of the law that residuals are averaged over."""

STEP = 1e-4
"""Of a coefficient's logarithm, in a central difference."""

FEWEST_POINTS = 64
"""Numbers of places are padded to a power of two, this at least: one compiled program for many."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RunResiduals:
    """Residuals of runs.

    Attributes
    ----------
    residual, variance : ndarray, shape (run,)
        Observed minus expected log loss, and its variance.
    slopes : ndarray, shape (run, coefficient), optional
        Change of log loss with each coefficient of the run's group.
    """

    residual: Array
    variance: Array
    slopes: Array | None = None


def run_residuals(
    posterior: "Posterior", group: npt.NDArray[np.int64], params: Array, tokens: Array
) -> RunResiduals:
    """Residuals of the fitted runs.

    A Student-t is a normal of uncertain variance: given a residual of z scales, its variance is
    that of the scale times (nu + z^2) / (nu + 1), so that outliers count little.
    """
    data = posterior.idata["constant_data"]
    keep = np.linspace(0, posterior.n_draws - 1, min(THINNED, posterior.n_draws)).astype(int)
    draws = {name: value[keep] for name, value in posterior.coefficients(group).items()}
    law = _law(posterior, _with_steps(draws))
    columns = {n: data[n].to_numpy().astype(np.float64) for n in posterior.law.columns}
    log_loss, imbalance = log_loss_at(law, params, tokens, columns)
    up, down = log_loss[len(keep) :: 2], log_loss[len(keep) + 1 :: 2]
    noise = run_noise(
        posterior.log_noise(group)[keep],
        posterior.draws("log_off_valley")[keep],
        imbalance[: len(keep)],
    )
    observed = posterior.idata["observed_data"]["loss"].to_numpy().astype(np.float64)
    known = data["loss_stderr"].to_numpy() / observed if "loss_stderr" in data else 0.0
    squared = (noise**2).mean(axis=0) + np.nan_to_num(known) ** 2
    residual = np.log(observed) - log_loss[: len(keep)].mean(axis=0)
    return RunResiduals(
        residual=residual,
        variance=squared * (STUDENT_DF + residual**2 / squared) / (STUDENT_DF + 1.0),
        slopes=np.asarray((up - down) / (2.0 * STEP)).T,
    )


def mean_law_slopes(posterior: "Posterior") -> Callable[[Array], Array]:
    """Change of log loss with each coefficient of the mean law of the groups that were run.

    Returns a function of places (place, 2), c = log10(N D) and r = log10(D / N), that gives
    (place, coefficient). The law must read no further columns.
    """
    fitted = np.unique(posterior.idata["constant_data"]["group_index"].to_numpy())
    found = posterior.coefficients(fitted.astype(np.int64))
    steps = _steps({name: value.mean(axis=1).mean() for name, value in found.items()})

    def slopes(place: Array) -> Array:
        points = len(place)
        padded = max(FEWEST_POINTS, 1 << (points - 1).bit_length())
        c, r = place[np.minimum(np.arange(padded), points - 1)].T
        many = {name: np.repeat(value[:, None], padded, axis=1) for name, value in steps.items()}
        law = _law(posterior, many)
        log_loss, _ = log_loss_at(law, 10.0 ** ((c - r) / 2.0), 10.0 ** ((c + r) / 2.0))
        return np.asarray((log_loss[::2] - log_loss[1::2])[:, :points].T / (2.0 * STEP))

    return slopes


def _law(posterior: "Posterior", coefficients: Mapping[str, Array]) -> LawDraws:
    scale = posterior.record.scale
    return LawDraws(
        law=posterior.law,
        coefficients=coefficients,
        log_reference=(np.log(scale.params), np.log(scale.tokens), np.log(scale.loss)),
    )


def _with_steps(draws: dict[str, Array]) -> dict[str, Array]:
    """Draws, and below them a step up and a step down from their mean for each coefficient."""
    steps = _steps({name: value.mean(axis=0) for name, value in draws.items()})
    return {name: np.concatenate([value, steps[name]]) for name, value in draws.items()}


def _steps(mean: Mapping[str, Array]) -> dict[str, Array]:
    """A step up and a step down from the mean in each coefficient in turn, (2 coefficient, ...)."""
    stepped = [{**mean, name: mean[name] + sign * STEP} for name in mean for sign in (1.0, -1.0)]
    return {name: np.stack([step[name] for step in stepped]) for name in mean}
