r"""A population of studies: what the law of the next one looks like, from those that are known.

Each study s tells the mean y_s of its groups' quantities (the shape of the law at one common
reference run, and its noise) with a posterior covariance V_s. They are drawn from a population,

.. math:: \hat y_s \sim N(y_s, V_s), \qquad y_{sk} \sim N(m_k, \tau_k^2)

with log-normal priors on the spreads tau. A Gibbs sampler draws y, m and tau; the prediction for a
group of a new study is ``m + tau z`` and what groups of one study differ by. With a handful of
studies the spreads stay uncertain, so that it has heavy tails.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from allometry.errors import InputError
from allometry.inference import Posterior
from allometry.inference.fitted_range import count_cells
from allometry.laws import Scale
from allometry.priors.export import parameterisation_of
from allometry.priors.file import NOISE_QUANTITIES, PriorFile, Quantity, Units, law_quantities
from allometry.priors.mixture import choose_mixture
from allometry.priors.sources import MARKS, joined_marks

Array = npt.NDArray[np.float64]

COMMON = Scale(params=3e8, tokens=6e9, loss=1.0)
"""Reference run of a population: 20 tokens a param at 1e19 FLOPs, inside most public studies."""

SPREADS: Mapping[str, float] = {
    "log_slope_params": 0.15,
    "log_slope_tokens": 0.15,
    "logit_reducible": 0.4,
    "logit_params_share": 0.4,
    "log_gamma": 0.2,
    "log_noise": 0.6,
    "log_off_valley": 0.6,
}
"""Medians of the prior of tau: exponents differ by a seventh between public studies."""

SPREAD_LOG_SD = 0.6
MEAN_SD = 1.0
GRID = np.linspace(-2.5, 2.5, 41)
SWEEPS, WARM_UP = 4000, 500


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StudySummary:
    """What a study tells of its groups' mean, at the common reference run.

    Attributes
    ----------
    name : str
    mean : ndarray, shape (q,)
    covariance : ndarray, shape (q, q)
    between : ndarray, shape (q,)
        Variance between its groups; zeros of one group.
    groups, runs : int
    """

    name: str
    mean: Array
    covariance: Array
    between: Array
    groups: int
    runs: int


def summarise_study(posterior: Posterior, *, name: str = "") -> StudySummary:
    """Shape of the law and noise in the middle of a study's groups, at the common reference run.

    Raises
    ------
    InputError
        If the law has no centre, or cannot change its reference run.
    """
    law, scale = posterior.law, posterior.record.scale
    if law.geometry is None or law.rereference is None:
        what = f"law {law.name} cannot be moved to a common reference run"
        raise InputError(what, where=posterior.where, hint="Use pnorm or chinchilla.")
    k, groups = len(law.names), np.arange(len(posterior.groups))
    pairs = ((COMMON.params, scale.params), (COMMON.tokens, scale.tokens))
    shift = np.array([*(np.log(new / old) for new, old in pairs), 0.0])
    with jax.enable_x64(True):
        theta = jnp.asarray(np.moveaxis(posterior.draws("theta"), 1, 0))
        moved = np.asarray(law.geometry.inverse(law.rereference(theta, jnp.asarray(shift))))
    y = np.empty((posterior.n_draws, k + 1, len(groups)))  # shape of the law, then both noises
    y[:, : k - 1] = np.moveaxis(moved[1:], 0, 1)
    y[:, k - 1] = posterior.log_noise(groups)
    y[:, k] = posterior.draws("log_off_valley")[:, None]
    centre, between = y.mean(axis=2), np.zeros(k + 1)
    if len(groups) > 1:
        between = y.mean(axis=0).var(axis=1, ddof=1)
    return StudySummary(
        name=name or posterior.record.source,
        mean=centre.mean(axis=0),
        # What the mean of few groups tells of the study is limited by how they differ.
        covariance=np.cov(centre.T) + np.diag(between / len(groups)),
        between=between,
        groups=len(groups),
        runs=int(posterior.idata["constant_data"].sizes["run"]),
    )


def predict_study(
    studies: Sequence[StudySummary], spreads: Sequence[float], *, seed: int = 0
) -> tuple[Array, Array]:
    """Draws of a new study's quantities (draw, q), and of the spreads tau.

    Parameters
    ----------
    studies : sequence of StudySummary
        At least two.
    spreads : sequence of float
        Median of each tau under its prior.
    """
    if len(studies) < 2:
        raise InputError(f"{len(studies)} study, a population needs two", where="studies")
    rng = np.random.default_rng([seed, 14])
    means = np.stack([study.mean for study in studies])
    precisions = np.stack([np.linalg.inv(study.covariance) for study in studies])
    told = np.einsum("sij,sj->si", precisions, means)
    centre = means.mean(axis=0)
    log_grid = np.log(np.asarray(spreads))[:, None] + SPREAD_LOG_SD * GRID  # [q, grid]
    log_prior = -0.5 * GRID**2
    several = [study.between for study in studies if study.groups > 1]
    within = np.sqrt(np.mean(several, axis=0)) if several else np.zeros(len(centre))
    m, tau = centre.copy(), np.asarray(spreads, dtype=np.float64)
    n, q = means.shape
    new, kept = np.empty((SWEEPS, q)), np.empty((SWEEPS, q))
    for sweep in range(-WARM_UP, SWEEPS):
        total = precisions + np.eye(q) / tau**2
        factors = np.linalg.cholesky(total)
        mean = np.linalg.solve(total, (told + m / tau**2)[..., None])[..., 0]
        z = np.linalg.solve(np.swapaxes(factors, 1, 2), rng.normal(size=(n, q, 1)))[..., 0]
        y = mean + z
        weight = n / tau**2 + 1.0 / MEAN_SD**2
        m = (y.sum(axis=0) / tau**2 + centre / MEAN_SD**2) / weight
        m = m + rng.normal(size=q) / np.sqrt(weight)
        squares = ((y - m) ** 2).sum(axis=0)[:, None]
        log_p = log_prior - n * log_grid - 0.5 * squares * np.exp(-2 * log_grid)
        p = np.exp(log_p - log_p.max(axis=1, keepdims=True))
        cumulative = np.cumsum(p, axis=1) / p.sum(axis=1, keepdims=True)
        place = (rng.random((q, 1)) > cumulative).sum(axis=1)
        tau = np.exp(log_grid[np.arange(q), place])
        if sweep >= 0:
            apart = tau * rng.normal(size=q) + within * rng.normal(size=q)
            new[sweep], kept[sweep] = m + apart, tau
    return new, kept


def typical_prior(
    posteriors: Sequence[Posterior],
    *,
    name: str = "typical",
    description: str = "",
    summaries: Sequence[StudySummary] = (),
    seed: int = 0,
) -> PriorFile:
    """The prior that several studies of one law leave for the next: a typical law and its noise.

    Parameters
    ----------
    posteriors : sequence of Posterior
        One a study, all of one law.
    name, description : str
    summaries : sequence of StudySummary, optional
        Those of `posteriors`, where they are known already.
    seed : int

    Raises
    ------
    InputError
        If there are fewer than two studies, or their laws differ.
    """
    laws = {posterior.law.name for posterior in posteriors}
    if len(laws) != 1:
        what = f"studies must have one law, got {', '.join(sorted(laws)) or 'none'}"
        raise InputError(what, where="studies")
    law = posteriors[0].law
    known = tuple(summaries) or tuple(summarise_study(posterior) for posterior in posteriors)
    names = (*law_quantities(law, parameterisation_of(law))[1:], *NOISE_QUANTITIES)
    new, tau = predict_study(known, [SPREADS.get(name, 0.2) for name in names], seed=seed)
    mixture, goodness = choose_mixture(new, seed=seed)
    spread = {f"spread_{n}": float(np.median(tau[:, i])) for i, n in enumerate(names)}
    return PriorFile(
        name=name,
        description=description
        or f"The law of a language-model study, as {len(known)} studies predict it",
        kind="new-group",
        law=law.name,
        parameterisation=parameterisation_of(law),
        reference=COMMON,
        units=Units(params="unknown", loss="any"),
        quantities=tuple(Quantity(name=name) for name in names),
        groups=(),
        mixture=mixture,
        fitted_over=count_cells([_run_columns(posterior)[:2] for posterior in posteriors]),
        goodness=goodness | spread,
        provenance={
            "source": ", ".join(study.name for study in known),
            "sha256": [posterior.record.sha256 for posterior in posteriors],
            "runs": sum(study.runs for study in known),
            MARKS: joined_marks(_run_columns(posterior) for posterior in posteriors),
            "versions": dict(posteriors[0].record.versions),
        },
    )


def _run_columns(posterior: Posterior) -> tuple[Array, Array, Array]:
    """Params, tokens and loss of its runs."""
    known, loss = posterior.idata["constant_data"], posterior.idata["observed_data"]["loss"]
    return known["params"].to_numpy(), known["tokens"].to_numpy(), loss.to_numpy()
