import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from allometry.accounting import Shape, TransformerShape, XLSTMShape


def _shape_from(config: dict[str, Any]) -> Shape:
    """The frozen shape of a row that spells every width out."""
    common = {name: int(config[name]) for name in ("d_model", "n_layers", "n_heads", "d_ff")}
    if config["architecture"] == "transformer":
        heads = {"head_dim": int(config.get("head_dim", config.get("head_dim_v")))}
        return TransformerShape(**common, **heads)
    heads = {name: int(config[name]) for name in ("head_dim_qk", "head_dim_v")}
    return XLSTMShape(**common, **heads, chunk_size=int(config.get("chunk_size", 64)))


def _public_file(name: str) -> Path:
    """A public file of the data registry; the test is skipped where it is not at hand."""
    folder = os.environ.get("ALLOMETRY_DATA", "")
    path = Path(folder) / name
    if not folder or not path.exists():
        pytest.skip(f"{name} is not at hand: set ALLOMETRY_DATA to a folder that has it")
    return path


@pytest.fixture(scope="session")
def vectors() -> list[dict[str, Any]]:
    """Counts of the study's own code, with the corrections that the file states."""
    document = json.loads(_public_file("accounting_vectors.json").read_text())
    return [*document["transformer"], *document["xlstm"]]


@pytest.fixture(scope="session")
def study_runs() -> pd.DataFrame:
    """The 640 runs of the study."""
    return pd.read_csv(_public_file("xlstm_runs.csv"))


@pytest.fixture(scope="session")
def shape_from() -> Callable[[dict[str, Any]], Shape]:
    """Make a shape of a row that spells every width out."""
    return _shape_from


@pytest.fixture(scope="session")
def public_file() -> Callable[[str], Path]:
    """Path of a public file, by name."""
    return _public_file
