"""Published parameters: the model of package xlstm and ours say the same."""

from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import save_file

from allometry.accounting import preset
from allometry.errors import InputError
from allometry.models import build, from_published, load_published, to_published
from allometry.models.convert import shape_from_published

# torch 2.13's own inductor uses what it deprecates; the package compiles on import of a kernel.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")

large = pytest.importorskip("xlstm.xlstm_large.model", reason="needs the package xlstm")

CONFIG = large.xLSTMLargeConfig(
    embedding_dim=64,
    num_heads=4,
    num_blocks=2,
    vocab_size=100,
    chunkwise_kernel="chunkwise--native_autograd",
    sequence_kernel="native_sequence__native",
    step_kernel="native",
    mode="inference",
    return_last_states=True,
    autocast_kernel_dtype="float32",
)


def published_model(**changes):
    """The package's model with every parameter away from its start."""
    model = large.xLSTMLarge(replace(CONFIG, **changes))
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


@torch.no_grad()
@pytest.mark.parametrize("weight_mode", ["single", "fused"])
@pytest.mark.parametrize("time", [1, 50, 130])
def test_logits_equal_those_of_the_published_model(weight_mode, time, generator):
    theirs = published_model(weight_mode=weight_mode)
    ours = from_published(asdict(theirs.config), theirs.state_dict())
    tokens = torch.randint(0, 100, (2, time), generator=generator)
    logits, states = theirs(tokens)
    # float32 sums in another order through two blocks, logits of order 3: about 30 ulps. A
    # missing cap, norm or gate is 1e-2 and more.
    torch.testing.assert_close(ours(tokens), logits, rtol=1e-4, atol=2e-5)
    last, state = ours.prefill(tokens)
    torch.testing.assert_close(last, logits[:, -1], rtol=1e-4, atol=2e-5)
    for layer, (C, n, m) in enumerate(state.layers):
        C_theirs, n_theirs, m_theirs = states[layer]
        # m is defined up to a shift that C and n carry (see allometry.kernels): compare without.
        scale, scale_theirs = m.exp(), m_theirs.reshape(m.shape).exp()
        torch.testing.assert_close(
            C * scale[..., None, None],
            C_theirs * scale_theirs[..., None, None],
            rtol=1e-4,
            atol=2e-5,
        )
        torch.testing.assert_close(
            n * scale[..., None], n_theirs * scale_theirs[..., None], rtol=1e-4, atol=2e-5
        )


def test_names_and_parameters_survive_the_way_there_and_back():
    theirs = published_model().state_dict()
    back = to_published(from_published(asdict(CONFIG), theirs))
    assert set(back) == set(theirs)
    assert all(torch.equal(back[name], theirs[name]) for name in theirs)
    large.xLSTMLarge(CONFIG).load_state_dict(back)


def test_a_folder_in_the_layout_of_transformers_loads(tmp_path):
    theirs = {name: x.clone() for name, x in published_model().state_dict().items()}
    theirs["backbone.embeddings.weight"] = theirs.pop("embedding.weight")
    names = sorted(theirs)
    for part, half in enumerate((names[::2], names[1::2]), 1):
        path = tmp_path / f"model-0000{part}-of-00002.safetensors"
        save_file({name: theirs[name] for name in half}, path)
    with pytest.raises(InputError, match=r"needs config\.json"):
        load_published(tmp_path)
    (tmp_path / "config.json").write_text(
        '{"hidden_size": 64, "num_hidden_layers": 2, "num_heads": 4, "vocab_size": 100,'
        ' "ffn_proj_factor": 2.667, "use_bias": false, "tie_word_embeddings": false}'
    )
    model = load_published(tmp_path)
    assert torch.equal(model.embedding.weight, theirs["backbone.embeddings.weight"])


def test_the_published_7b_is_our_7b():
    config = {"hidden_size": 4096, "num_hidden_layers": 32, "num_heads": 8, "vocab_size": 50304}
    assert shape_from_published(config) == preset("xlstm-7b")


def test_what_cannot_be_held_is_named():
    tensors = published_model().state_dict()
    with pytest.raises(InputError, match="cannot hold use_bias True"):
        from_published(asdict(CONFIG) | {"use_bias": True}, tensors)
    with pytest.raises(InputError, match="no embedding_dim or hidden_size"):
        from_published({"num_heads": 4}, tensors)
    with pytest.raises(InputError, match=r"unknown backbone\.blocks\.1\."):
        from_published(asdict(CONFIG) | {"num_blocks": 1}, tensors)
    del tensors["backbone.blocks.0.mlstm_layer.v.weight"]
    with pytest.raises(InputError, match=r"no blocks\.0\.mixer\.qkvo\.weight"):
        from_published(asdict(CONFIG), tensors)


def test_a_model_of_ours_runs_in_the_package(generator):
    ours = build(shape_from_published(asdict(CONFIG)), seed=0)
    theirs = large.xLSTMLarge(CONFIG)
    theirs.load_state_dict(to_published(ours))
    tokens = torch.randint(0, 100, (1, 40), generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens)[0], ours(tokens), rtol=1e-4, atol=2e-5)
