import json
import math

import pytest

from allometry.cli import main
from allometry.harness.training import probe
from allometry.harness.training.probe import _lowest, probe_learning_rates


def test_the_vertex_of_a_parabola_is_found():
    x = [math.log(v) for v in (1e-3, 2e-3, 4e-3)]
    y = [1.5 + 0.3 * (value - math.log(2.3e-3)) ** 2 for value in x]
    assert math.exp(_lowest(x, y)) == pytest.approx(2.3e-3)


def test_the_probe_lands_between_too_slow_and_too_fast(tmp_path, config):
    found = probe_learning_rates(config(steps=30), tmp_path, rates=(1.0, 1e-2, 1e-5))
    assert found.inside
    assert [run.learning_rate for run in found.runs] == [1e-5, 1e-2, 1.0]
    assert 1e-4 < found.learning_rate < 0.3


def test_a_best_rate_at_the_edge_is_a_no(tmp_path, config, capsys, monkeypatch):
    monkeypatch.setattr(probe, "RATES", (1e-6, 1e-5))
    path = tmp_path / "wanted.json"
    path.write_text(json.dumps(config().to_json()))
    assert main(["train", str(path), "--lr-probe", "--json", "-o", str(tmp_path / "runs")]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["learning_rate"], answer["inside"]) == (1e-5, False)
