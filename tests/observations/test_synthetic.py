import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from allometry.accounting import TransformerShape, XLSTMShape, count_params, training_flops
from allometry.observations import read_runs, table_path

SCRIPT = Path(__file__).parents[2] / "data" / "synthetic" / "generate.py"
SHAPES = {"transformer": TransformerShape, "xlstm": XLSTMShape}

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="data/ comes with a checkout only")


def test_the_script_makes_the_committed_bytes(tmp_path):
    path = tmp_path / "runs.csv"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "-o", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == table_path("synthetic").read_bytes()
    assert "134 runs" in done.stdout


def test_it_is_called_synthetic():
    runs = read_runs("synthetic")
    assert set(runs.table["source"]) == {"synthetic"}
    assert runs.table["run_id"].str.startswith("synthetic_").all()
    assert runs.warnings[0].startswith("synthetic:")


def test_every_budget_has_its_minimum_inside_its_sizes():
    table = read_runs("synthetic").table.query("experiment == 'isoflop'")
    budget = table["flops"].map(lambda flops: f"{flops:.0e}")
    for _, group in table.groupby(["architecture", "context_length", budget]):
        place = int(np.argmin(group.sort_values("params")["law_loss"].to_numpy()))
        assert 2 <= place <= len(group) - 3
        # Whole batches of 2**20 tokens: a budget of 6e18 is met to one part in a thousand.
        np.testing.assert_allclose(group["flops"], group["flops"].median(), rtol=1e-3)


def test_params_and_flops_are_those_of_the_shapes():
    for row in read_runs("synthetic").table.itertuples():
        widths = {"d_model": row.d_model, "n_layers": row.n_layers, "n_heads": row.n_heads}
        shape = SHAPES[row.architecture](**widths, d_ff=int(row.d_ff))
        assert count_params(shape).total == row.params
        expected = training_flops(shape, context_length=row.context_length, tokens=row.tokens)
        assert row.flops == pytest.approx(expected, rel=1e-12)


def test_the_noise_is_what_the_readme_says():
    table = read_runs("synthetic").table
    noise = np.log(table["loss"] / table["law_loss"])
    # Half of Student-t(4) lies within .741 scales; 134 draws know that to about a tenth.
    assert np.median(np.abs(noise)) == pytest.approx(0.741 * 0.0021, rel=0.25)
