"""Settings of the whole suite; simulated studies and one posterior of them."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

# The same examples on every run and machine; no deadline, since a first example may compile.
settings.register_profile("allometry", derandomize=True, deadline=None)
settings.load_profile("allometry")

# Before anything imports triton: without a GPU its kernels run in its CPU interpreter.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# One thread a library: tests run beside each other, and small arrays gain nothing from more.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

TRUTH = {
    ("transformer", 1024): (1.90, 0.29, 0.36, 0.50),
    ("transformer", 4096): (1.92, 0.29, 0.35, 0.50),
    ("xlstm", 1024): (1.88, 0.30, 0.36, 0.48),
    ("xlstm", 4096): (1.89, 0.31, 0.35, 0.49),
}
"""E, alpha, beta and gamma of each simulated group; A and B follow from the valley at 3e8."""


def simulate_runs(
    seed: int,
    *,
    groups: dict[tuple[str, int], tuple[float, float, float, float]] = TRUTH,
    budgets: tuple[float, ...] = (1e18, 1e19, 1e20),
    sizes: int = 6,
    noise: float = 0.003,
) -> pd.DataFrame:
    """An isoflop study under the p-norm law with C = 6 N D and Student-t noise of log loss."""
    rng = np.random.default_rng(seed)
    rows = []
    for (architecture, context_length), (E, alpha, beta, gamma) in groups.items():
        for flops in budgets:
            centre = np.sqrt(flops / 6.0 / 20.0)
            for params in centre * np.geomspace(0.25, 4.0, sizes):
                tokens = flops / 6.0 / params
                u = 0.5 * (params / 3e8) ** -alpha
                v = 0.5 * (tokens / 6e9) ** -beta
                loss = E + (u ** (1 / gamma) + v ** (1 / gamma)) ** gamma
                noisy = loss * np.exp(noise * rng.standard_t(4.0))
                rows.append((architecture, context_length, params, tokens, flops, noisy))
    names = ["architecture", "context_length", "params", "tokens", "flops", "loss"]
    return pd.DataFrame(rows, columns=names)


@pytest.fixture(scope="session", autouse=True)
def _compiled_programs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep compiled JAX programs of one test session, so that each is compiled once."""
    import jax

    folder = os.environ.get("ALLOMETRY_TEST_CACHE") or tmp_path_factory.mktemp("programs")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture(scope="session")
def fitted():
    """A posterior of the simulated study: four groups of 18 runs."""
    from allometry.inference import Sampler, fit

    return fit(simulate_runs(1), sampler=Sampler(chains=2, draws=400, starts=2), seed=3)


@pytest.fixture(scope="session")
def fitted_file(fitted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same posterior as a file."""
    return fitted.save(tmp_path_factory.mktemp("posterior") / "fit.nc")
