"""Inference: laws, priors, groups and observations to a posterior."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from allometry.inference.convergence import Convergence
from allometry.inference.drift import Drift, default_drift
from allometry.inference.fit import fit
from allometry.inference.groups import Grouping, group_runs
from allometry.inference.loss_priors import NO_OFF_VALLEY, LogNormal, LossPriors, default_priors
from allometry.inference.model import loss_model
from allometry.inference.posterior import Posterior, group_names
from allometry.inference.record import Record
from allometry.inference.sampling import Sampler
from allometry.inference.summary import interval_columns

if TYPE_CHECKING:
    from allometry.inference.latency_fit import LatencySampler, fit_latency
    from allometry.inference.latency_posterior import LatencyPosterior

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

_LATENCY = {
    "LatencyPosterior": "latency_posterior",
    "LatencySampler": "latency_fit",
    "fit_latency": "latency_fit",
}


def __getattr__(name: str) -> Any:
    """Latency, which imports NumPyro, when it is first asked for."""
    if name not in _LATENCY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"allometry.inference.{_LATENCY[name]}"), name)
