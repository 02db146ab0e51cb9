from pathlib import Path

import pytest
from simulation import TRUTH, simulate_runs

from allometry.inference import Posterior, Sampler, fit

QUICK = Sampler(method="laplace", chains=2, draws=200, starts=1)


@pytest.fixture(scope="session")
def wrong() -> Posterior:
    """The additive law on a p-norm study with almost no noise: a posterior not to be believed."""
    one = {("transformer", 1024): TRUTH["transformer", 1024]}
    runs = simulate_runs(2, groups=one, budgets=(1e17, 1e18, 1e19, 1e20), sizes=8, noise=1e-3)
    return fit(runs, law="chinchilla", sampler=QUICK)


@pytest.fixture(scope="session")
def wrong_file(wrong: Posterior, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wrong.save(tmp_path_factory.mktemp("wrong") / "wrong.nc")
