"""Settings of the whole suite; simulated studies and one posterior of them."""

import os
from pathlib import Path

import pytest
from hypothesis import settings
from simulation import simulate_runs

# The same examples on every run and machine; no deadline, since a first example may compile.
settings.register_profile("allometry", derandomize=True, deadline=None)
settings.load_profile("allometry")

# Before anything imports triton: without a GPU its kernels run in its CPU interpreter.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# One thread a library: tests run beside each other, and small arrays gain nothing from more.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")


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

    return fit(simulate_runs(1), sampler=Sampler(draws=300, starts=2), seed=3)


@pytest.fixture(scope="session")
def fitted_file(fitted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same posterior as a file."""
    return fitted.save(tmp_path_factory.mktemp("posterior") / "fit.nc")


@pytest.fixture(scope="session")
def fitted_latency():
    """A latency posterior (Gaussian at the mode) of 72 simulated timings."""
    from latency_simulation import DEVICE, simulate_latency

    from allometry.inference import LatencySampler, fit_latency

    timings = simulate_latency(1).drop(columns="exact")
    sampler = LatencySampler(method="laplace", chains=2, draws=100)
    return fit_latency(timings, law="roofline", device=DEVICE, sampler=sampler)


@pytest.fixture(scope="session")
def fitted_latency_file(fitted_latency, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same latency posterior as a file."""
    return fitted_latency.save(tmp_path_factory.mktemp("latency") / "latency.nc")
