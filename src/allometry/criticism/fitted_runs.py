"""What a posterior says of the runs it was fitted to: their distribution, draw by draw."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from arviz_stats.base import array_stats  # type: ignore[attr-defined]
from scipy import special

from allometry.decisions.outlook import law_draws
from allometry.inference import Posterior, group_names
from allometry.inference.evaluate import log_loss_at, run_noise
from allometry.inference.model import STUDENT_DF

Draws = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FittedRuns:
    """The runs of a posterior with their distribution under each draw.

    Attributes
    ----------
    table : DataFrame
        Columns ``run, group, params, tokens, flops, loss``, one row a run.
    group : ndarray of int, shape (run,)
        Index of each run's group.
    log_loss : ndarray, shape (run,)
        Log of the observed loss.
    log_mean, sd : ndarray, shape (draw, run)
        Location and scale of log loss: a Student-t with `STUDENT_DF` degrees of freedom.
    """

    table: pd.DataFrame
    group: npt.NDArray[np.int64]
    log_loss: Draws
    log_mean: Draws
    sd: Draws

    @property
    def z(self) -> Draws:
        """Observed minus expected log loss over the scale, (draw, run)."""
        return np.asarray((self.log_loss - self.log_mean) / self.sd)

    @property
    def log_likelihood(self) -> Draws:
        """Log density of the observed loss, in its own unit, (draw, run)."""
        return np.asarray(noise_log_density(self.z) - np.log(self.sd) - self.log_loss)


def fitted_runs(posterior: Posterior) -> FittedRuns:
    """Distribution of each fitted run's log loss under each draw of its posterior.

    No drift: these runs are the data. A known measurement error (``loss_stderr``) is part of the
    scale, as it was in the fit.
    """
    data = posterior.idata["constant_data"]
    observed = posterior.idata["observed_data"]["loss"].to_numpy().astype(np.float64)
    group = data["group_index"].to_numpy().astype(np.int64)
    params, tokens = data["params"].to_numpy(), data["tokens"].to_numpy()
    columns = {name: data[name].to_numpy() for name in posterior.law.columns}
    log_mean, imbalance = log_loss_at(law_draws(posterior, group), params, tokens, columns)
    noise = run_noise(posterior.log_noise(group), posterior.draws("log_off_valley"), imbalance)
    stderr = np.nan_to_num(data["loss_stderr"].to_numpy()) if "loss_stderr" in data else 0.0
    table = pd.DataFrame(
        {
            "run": data["run"].to_numpy().astype(str),
            "group": np.asarray(group_names(posterior))[group],
            "params": params,
            "tokens": tokens,
            "flops": data["flops"].to_numpy(),
            "loss": observed,
        }
    )
    return FittedRuns(
        table=table,
        group=group,
        log_loss=np.log(observed),
        log_mean=log_mean,
        sd=np.sqrt(noise**2 + (stderr / observed) ** 2),
    )


def noise_tail(z: Draws) -> Draws:
    """Probability that the noise is farther than |z| on one side; accurate far out."""
    # The regularised incomplete beta function: scipy's own t distribution takes 20 times longer.
    return np.asarray(special.betainc(STUDENT_DF / 2, 0.5, STUDENT_DF / (STUDENT_DF + z**2)) / 2)


def noise_cdf(z: Draws) -> Draws:
    """Probability that the noise is below z."""
    tail = noise_tail(z)
    return np.asarray(np.where(z > 0, 1 - tail, tail))


def noise_log_density(z: Draws) -> Draws:
    """Log density of the standardised noise."""
    constant = special.gammaln((STUDENT_DF + 1) / 2) - special.gammaln(STUDENT_DF / 2)
    constant -= 0.5 * np.log(STUDENT_DF * np.pi)
    return np.asarray(constant - (STUDENT_DF + 1) / 2 * np.log1p(z**2 / STUDENT_DF))


def residuals(posterior: Posterior) -> pd.DataFrame:
    """How far each fitted run lies from its posterior.

    Returns
    -------
    DataFrame
        One row a run: ``run, group, params, tokens, flops, loss``; ``expected_loss``, the median of
        the law; ``log_residual``, log of the loss over it; ``standardised``, the normal quantile of
        ``pit``; ``pit``, the probability that the posterior *without this run* (by Pareto-smoothed
        importance sampling) gives to a smaller loss, uniform if the model holds; ``pareto_k`` of
        that sampling, to be believed below 0.7.
    """
    fitted = fitted_runs(posterior)
    # arviz-stats takes the negative log ratio: here the log likelihood of the run left out.
    ratios = fitted.log_likelihood.T  # (run, draw)
    log_weights, pareto_k = array_stats.psislw(ratios, axis=-1)  # type: ignore[no-untyped-call]
    weights = np.exp(np.asarray(log_weights))
    weights /= weights.sum(axis=-1, keepdims=True)
    pit = (weights * noise_cdf(fitted.z.T)).sum(axis=-1)
    median = np.median(fitted.log_mean, axis=0)
    inside = np.clip(pit, 1e-12, 1 - 1e-12)  # a finite normal quantile for the farthest outlier
    return fitted.table.assign(
        expected_loss=np.exp(median),
        log_residual=fitted.log_loss - median,
        standardised=special.ndtri(inside),
        pit=pit,
        pareto_k=np.asarray(pareto_k),
    )
