"""Residuals of fitted runs from the law, and how they would change with its coefficients."""

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
    data, scale = posterior.idata["constant_data"], posterior.record.scale
    keep = np.linspace(0, posterior.n_draws - 1, min(THINNED, posterior.n_draws)).astype(int)
    draws = {name: value[keep] for name, value in posterior.coefficients(group).items()}
    law = LawDraws(
        law=posterior.law,
        coefficients=_with_steps(draws),
        log_reference=(np.log(scale.params), np.log(scale.tokens), np.log(scale.loss)),
    )
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


def _with_steps(draws: dict[str, Array]) -> dict[str, Array]:
    """Draws, and below them a step up and a step down from their mean for each coefficient."""
    mean = {name: value.mean(axis=0) for name, value in draws.items()}
    steps = [{**mean, name: mean[name] + sign * STEP} for name in draws for sign in (1.0, -1.0)]
    return {
        name: np.concatenate([value, [step[name] for step in steps]])
        for name, value in draws.items()
    }
