"""Saved models come back as they were; damaged ones are refused by name."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from allometry.accounting import XLSTMShape
from allometry.errors import InputError
from allometry.models import build, load_model, save_model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_model_comes_back_bit_for_bit(shape, dtype, tmp_path):
    model = build(shape, seed=5, dtype=dtype)
    loaded = load_model(save_model(model, tmp_path / "deep" / "model"))
    assert loaded.shape == shape
    for (name, a), (other, b) in zip(
        model.named_parameters(), loaded.named_parameters(), strict=True
    ):
        assert (name, a.dtype) == (other, b.dtype)
        assert torch.equal(a, b)
        assert b.requires_grad
    assert sorted(p.name for p in (tmp_path / "deep" / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_loading_casts_and_saving_replaces(shape, tmp_path):
    save_model(build(shape, seed=5), tmp_path)
    save_model(build(shape, seed=6), tmp_path)
    loaded = load_model(tmp_path, dtype=torch.float64)
    assert torch.equal(loaded.head.weight, build(shape, seed=6).double().head.weight)


def test_the_config_is_the_shape_in_words(shape, tmp_path):
    save_model(build(shape, seed=0), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["format"] == "allometry-model"
    assert config["version"] == 1
    assert config["architecture"] == shape.architecture
    assert config["shape"] == dataclasses.asdict(shape)


@pytest.fixture
def saved(tmp_path):
    shape = XLSTMShape(d_model=16, n_layers=1, n_heads=2, vocab_size=20)
    return save_model(build(shape, seed=0), tmp_path / "model")


def rewrite_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes, indent=2))


def test_one_flipped_bit_is_found(saved):
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors: .*do not match their checksum"):
        load_model(saved)
    load_model(saved, verify=False)


def test_a_cut_file_is_named(saved):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"model\.safetensors: cannot be read") as caught:
        load_model(saved)
    assert "copy it again" in caught.value.hint


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(InputError, match=name):
        load_model(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "format must be 'allometry-model', got 'other'"),
        ({"version": 2}, "version must be 1, got 2"),
        ({"architecture": "mamba"}, "an architecture of transformer, xlstm .* got 'mamba'"),
        ({"shape": {"d_model": 16, "depth": 3}}, "no chunk_size; no d_ff; .*unknown depth"),
    ],
)
def test_a_config_that_cannot_be_used_says_why(saved, changes, message):
    rewrite_config(saved, **changes)
    with pytest.raises(InputError, match=message):
        load_model(saved)


@pytest.mark.parametrize("text", ["{", "[1, 2]", "\xff"])
def test_a_config_that_is_not_json_is_named(saved, text):
    (saved / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"config\.json: (cannot be read|must hold)"):
        load_model(saved)


def test_files_of_two_models_are_told_apart(saved):
    config = json.loads((saved / "config.json").read_text())
    rewrite_config(saved, shape=config["shape"] | {"norm_eps": 1e-5})
    with pytest.raises(InputError, match=r"another config\.json than the one beside it"):
        load_model(saved)


def test_tensors_that_do_not_fit_are_listed(saved):
    path = saved / "model.safetensors"
    tensors = load_file(path)
    tensors["extra.weight"] = torch.zeros(1)
    tensors["head.weight"] = torch.zeros(3, 16)
    del tensors["final_norm.weight"]
    metadata = {"config": (saved / "config.json").read_text().removesuffix("\n")}
    save_file(tensors, path, metadata)
    with pytest.raises(InputError) as caught:
        load_model(saved, verify=False)
    message = str(caught.value)
    assert "no final_norm.weight; unknown extra.weight; head.weight is (3, 16)" in message
    assert "the shape wants (20, 16)" in message


def test_a_failed_save_leaves_the_old_model(saved, monkeypatch):
    before = (saved / "model.safetensors").read_bytes()

    def full_disk(*_args):
        raise OSError("no space left on device")

    monkeypatch.setattr("allometry.files.os.fsync", full_disk)
    shape = XLSTMShape(d_model=16, n_layers=1, n_heads=2, vocab_size=20)
    with pytest.raises(OSError, match="no space"):
        save_model(build(shape, seed=1), saved)
    assert (saved / "model.safetensors").read_bytes() == before
    assert len(list(saved.iterdir())) == 2  # no partial file stays behind
