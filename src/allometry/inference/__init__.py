"""Inference: laws, priors, groups and observations to a posterior."""

from allometry.inference.convergence import Convergence
from allometry.inference.drift import Drift, default_drift
from allometry.inference.fit import fit
from allometry.inference.groups import Grouping, group_runs
from allometry.inference.latency_fit import LatencySampler, fit_latency
from allometry.inference.latency_posterior import LatencyPosterior
from allometry.inference.loss_priors import NO_OFF_VALLEY, LogNormal, LossPriors, default_priors
from allometry.inference.model import loss_model
from allometry.inference.posterior import Posterior, group_names
from allometry.inference.record import Record
from allometry.inference.sampling import Sampler
from allometry.inference.summary import interval_columns

__all__ = [
    "NO_OFF_VALLEY",
    "Convergence",
    "Drift",
    "Grouping",
    "LatencyPosterior",
    "LatencySampler",
    "LogNormal",
    "LossPriors",
    "Posterior",
    "Record",
    "Sampler",
    "default_drift",
    "default_priors",
    "fit",
    "fit_latency",
    "group_names",
    "group_runs",
    "interval_columns",
    "loss_model",
]
