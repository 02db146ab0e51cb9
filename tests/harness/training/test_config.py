import json

import pytest

from allometry.errors import InputError
from allometry.harness.training import TrainConfig


@pytest.mark.parametrize("architecture", ["transformer", "xlstm"])
def test_json_gives_back_the_config(config, architecture):
    before = config(architecture, schedule="wsd", accumulation=2)
    assert TrainConfig.from_json(json.loads(json.dumps(before.to_json()))) == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stepz": 5}, "unknown in config: stepz"),
        ({"shape": {"architecture": "rnn"}}, "shape needs an architecture"),
        ({"shape": {"architecture": "xlstm", "depth": 1}}, "unknown in shape: depth"),
        ({"steps": 0, "batch_size": -1}, "must be positive: batch_size -1, steps 0"),
        ({"accumulation": 3}, "batch_size 4 is not divisible by accumulation 3"),
        ({"schedule": "cosine"}, "schedule must be one of study, wsd, got 'cosine'"),
        ({"precision": "fp8"}, "precision must be one of auto"),
        ({"validation_tokens": "many"}, "validation_tokens must be a whole number, got 'many'"),
        ({"steps": 2.5}, "steps must be a whole number, got 2.5"),
        ({"seed": True}, "seed must be a whole number, got True"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number, got nan"),
        ({"compile": "yes"}, "compile must be true or false, got 'yes'"),
        ({"threads": -1, "clip": -0.5}, "must not be negative: threads -1, clip -0.5"),
        ({"seed": -3, "weight_decay": -1}, "must not be negative: seed -3, weight_decay -1"),
        ({"seed": 2**70}, "seed must be below 4294967296"),
        ({"beta1": 1.5}, "beta1 must be below 1, got 1.5"),
        ({"eps": 0.0}, "must be positive: eps"),
        ({"shape": "xlstm"}, "shape needs an architecture"),
        ({"shape": {"architecture": "xlstm", "d_model": 32.0}}, "shape.d_model must be a whole"),
        ({"shape": {"architecture": "xlstm", "norm_eps": "1e-6"}}, "shape.norm_eps must be a num"),
    ],
)
def test_a_bad_config_says_what_is_wrong(config, changes, said):
    with pytest.raises(InputError, match=said):
        TrainConfig.from_json(config().to_json() | changes)


def test_a_missing_field_is_named(config):
    document = config().to_json()
    del document["steps"]
    with pytest.raises(InputError, match="steps"):
        TrainConfig.from_json(document, where="run.json")


def test_how_fast_is_no_difference_but_what_is_computed_is(config):
    assert config().differences(config(device="cpu", threads=2, corpus="/moved")) == []
    assert config().differences(config(seed=1, steps=5)) == ["steps", "seed"]
