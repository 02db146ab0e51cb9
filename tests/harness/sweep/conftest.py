import os
import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from allometry.harness.sweep import (
    PlanWarning,
    Recipe,
    SweepConfig,
    SweepFolder,
    plan_token_param,
)

ENTRIES = Path(__file__).parent / "entries"


@pytest.fixture(autouse=True)
def made_up_entries(monkeypatch):
    """The module made_up can be imported here and in workers; they compute on one thread."""
    monkeypatch.syspath_prepend(str(ENTRIES))
    monkeypatch.setenv(
        "PYTHONPATH",
        os.pathsep.join([str(ENTRIES), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]),
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def small_plan() -> pd.DataFrame:
    """Eight tiny runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlanWarning)  # sizes of tests, not of valleys
        return plan_token_param(
            architectures=["transformer", "xlstm"],
            context_lengths=[32],
            sizes=[50e3, 80e3],
            ratios=[2, 3],
            recipe=Recipe(vocab_size=256, batch_tokens=64),
        )


@pytest.fixture
def make_sweep(tmp_path, small_plan) -> Callable[..., SweepFolder]:
    """A sweep of made-up runs in a folder of its own; its journal says who began which run."""

    def make(
        name: str = "sweep", *, plan: pd.DataFrame = small_plan, entry="made_up:make", **settings
    ):
        journal = tmp_path / f"{name}-journal"
        journal.mkdir(exist_ok=True)
        settings = {"journal": str(journal), **settings}
        config = SweepConfig(corpus="none", entry=entry, settings=settings)
        return SweepFolder.create(tmp_path / name, plan, config)

    return make


@pytest.fixture
def times_begun(tmp_path) -> Callable[..., dict[str, int]]:
    """How often each run of a sweep was begun."""

    def count(name: str = "sweep") -> dict[str, int]:
        begun = [path.name.rsplit(".", 2)[0] for path in (tmp_path / f"{name}-journal").iterdir()]
        return {run_id: begun.count(run_id) for run_id in begun}

    return count
