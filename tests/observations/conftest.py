from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from allometry.observations import find_table, table_path


@pytest.fixture
def samples() -> Path:
    return Path(__file__).parent / "samples"


@pytest.fixture
def public():
    """Path of a registered public table; the test is skipped where it is not at hand."""

    def _path(name: str) -> Path:
        if find_table(name) is None:
            pytest.skip(f"{name} is not at hand: set ALLOMETRY_DATA to a folder that has it")
        return table_path(name)

    return _path


def simulate_runs(seed: int = 0, runs: int = 30, noise: float = 0.003) -> pd.DataFrame:
    """Runs of one group under an additive law, as a user's table has them."""
    rng = np.random.default_rng(seed)
    params = np.geomspace(1e8, 5e9, runs)
    tokens = rng.permutation(np.geomspace(2e9, 2e11, runs))
    loss = 1.8 + 480 * params**-0.35 + 2000 * tokens**-0.37
    return pd.DataFrame(
        {
            "architecture": "gpt",
            "context_length": 2048,
            "params": params,
            "tokens": tokens,
            "flops": 6 * params * tokens,
            "loss": loss * np.exp(noise * rng.standard_normal(runs)),
        }
    )


@pytest.fixture
def clean_runs() -> pd.DataFrame:
    return simulate_runs()


@pytest.fixture(scope="session")
def simulate():
    return simulate_runs
