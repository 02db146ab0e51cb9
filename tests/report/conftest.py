"""One page of the simulated study, and posteriors with other labels and verdicts."""

from dataclasses import replace

import pytest


@pytest.fixture(scope="session")
def small(fitted):
    """The simulated study's posterior with few draws."""
    return fitted.thinned(100)


@pytest.fixture(scope="session")
def page(small):
    from allometry.report import report

    return report(small, command="allometry report fit.nc -o fit.html")


@pytest.fixture(scope="session")
def doubtful(small):
    """The same posterior, as if its fit had not converged."""
    verdict = replace(
        small.record.convergence,
        converged=False,
        reasons=("R-hat 1.300 above 1.01",),
        advice=("run more draws (--draws)",),
    )
    return replace(small, record=replace(small.record, convergence=verdict))
