"""`check`: is a posterior to be believed, with what is wrong and what to do in words."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from arviz_stats import loo  # type: ignore[attr-defined]

from allometry.criticism.fitted_runs import fitted_runs
from allometry.criticism.ppc import Statistic, posterior_predictive_checks
from allometry.criticism.sensitivity import PREDICTED, prior_sensitivity
from allometry.criticism.words import Finding, findings
from allometry.errors import InputError
from allometry.inference import Posterior

Stage = Callable[[str, int, int], None]

OK_K, BAD_K = 0.5, 0.7
"""Pareto-k below which leave-one-out is good, and above which it fails (Vehtari et al. 2024)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loo:
    """Leave-one-out predictive accuracy: sum of log densities, its standard error, and p_loo."""

    elpd: float
    se: float
    p: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Check:
    """The verdict on a posterior.

    Attributes
    ----------
    passed : bool
        No finding is grave.
    findings : tuple of Finding
        What is wrong and what to do, worst first.
    statistics : tuple of Statistic
        Posterior predictive checks.
    loo : Loo
        PSIS-LOO of log densities in the table's unit of loss.
    pareto_k : DataFrame
        ``run, pareto_k``, one row a run.
    sensitivity : DataFrame
        ``parameter, group, prior, likelihood, diagnosis``.
    """

    passed: bool
    findings: tuple[Finding, ...]
    statistics: tuple[Statistic, ...]
    loo: Loo
    pareto_k: pd.DataFrame
    sensitivity: pd.DataFrame

    @property
    def pareto_counts(self) -> dict[str, int]:
        """Runs with a good, an acceptable and a bad Pareto-k."""
        k = self.pareto_k["pareto_k"].to_numpy()
        good, bad = int((k <= OK_K).sum()), int((~(k <= BAD_K)).sum())
        return {"good": good, "ok": len(k) - good - bad, "bad": bad}

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON types."""
        return {
            "passed": self.passed,
            "ppc": {s.name: s.p for s in self.statistics},
            "loo": {"elpd": self.loo.elpd, "se": self.loo.se, "p": self.loo.p},
            "pareto_k": self.pareto_counts,
            "prior_sensitivity": self.sensitivity.to_dict("records"),
            "findings": [
                {"grave": f.grave, "about": f.about, "text": f.text} for f in self.findings
            ],
        }


def check(posterior: Posterior, *, progress: Stage | None = None) -> Check:
    """Criticise a posterior with its own runs.

    Posterior predictive p-values are calibrated: small ones mean misfit, and they are uniform if
    the model holds. A misfit is grave only if it is also large, since hundreds of runs reject any
    law; `validate` tells what a law's errors mean beyond the data.

    Parameters
    ----------
    posterior : Posterior
        Converged or not; a fit that did not converge is the first finding.
    progress : callable, optional
        Called with what is being done, steps done, and steps in all.
    """
    if "log_likelihood" not in posterior.idata.children:
        hint = "Fit again: without it no run can be left out."
        raise InputError("group log_likelihood is missing", where=posterior.where, hint=hint)

    def tell(what: str, done: int) -> None:
        if progress is not None:
            progress(what, done, 3)

    tell("predicting the runs", 0)
    statistics = posterior_predictive_checks(fitted_runs(posterior))
    tell("leaving runs out one by one", 1)
    accuracy, pareto_k = leave_one_out(posterior)
    tell("scaling the prior", 2)
    sensitivity = prior_sensitivity(posterior)
    found = findings(
        posterior.record.convergence,
        statistics,
        pareto_k[~(pareto_k["pareto_k"] <= BAD_K)]["run"].tolist(),
        sensitivity[sensitivity["parameter"] == PREDICTED],
    )
    return Check(
        passed=not any(finding.grave for finding in found),
        findings=tuple(found),
        statistics=tuple(statistics),
        loo=accuracy,
        pareto_k=pareto_k,
        sensitivity=sensitivity,
    )


def leave_one_out(posterior: Posterior) -> tuple[Loo, pd.DataFrame]:
    """PSIS-LOO through arviz-stats, and the Pareto-k of every run."""
    with warnings.catch_warnings():
        # Bad k are counted and named in the result.
        warnings.filterwarnings("ignore", message=".*shape parameter of Pareto.*")
        found = loo(posterior.idata, var_name="loss", pointwise=True)  # type: ignore[no-untyped-call]
    runs = posterior.idata["constant_data"]["run"].to_numpy().astype(str)
    table = pd.DataFrame({"run": runs, "pareto_k": np.asarray(found.pareto_k)})
    return Loo(elpd=float(found.elpd), se=float(found.se), p=float(found.p)), table
