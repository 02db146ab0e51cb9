"""Counts, starting point, decay groups, and FLOPs against torch's own counter."""

import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from allometry.accounting import (
    TransformerShape,
    XLSTMShape,
    count_params,
    preset,
    preset_names,
    training_flops_per_sequence,
)
from allometry.errors import InputError
from allometry.models import build, next_token_loss, weight_decay_groups


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_has_the_params_that_accounting_counts(name):
    shape = preset(name)
    model = build(shape, seed=0, device="meta")
    assert sum(p.numel() for p in model.parameters()) == count_params(shape).total


def test_odd_shapes_have_the_params_that_accounting_counts(shape):
    terms = dict(count_params(shape).terms)
    terms["query_key_value"] += terms.pop("output_gate", 0)  # the rows of one matrix, qkvo
    for name, parameter in build(shape, seed=0).named_parameters():
        terms[_term(name)] -= parameter.numel()
    assert set(terms.values()) == {0}  # term by term, not in the sum alone


def _term(name: str) -> str:
    table = {
        "qkv": "query_key_value",
        "qkvo": "query_key_value",
        "out": "output_projection",
        "gates": "gate_bias" if name.endswith("bias") else "gate",
        "gate": "feed_forward",
        "up": "feed_forward",
        "down": "feed_forward",
    }
    module = name.split(".")[-2]
    return table.get(module, module)


def test_a_seed_gives_the_same_model_and_leaves_the_global_generator_alone(shape):
    before = torch.get_rng_state()
    first, again, other = (build(shape, seed=seed) for seed in (7, 7, 8))
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.embedding.weight, other.embedding.weight)
    assert torch.equal(build(shape).head.weight, build(shape, seed=0).head.weight)
    generator = torch.Generator().manual_seed(7)
    assert torch.equal(first.head.weight, build(shape, seed=generator).head.weight)
    rounded = build(shape, seed=7, dtype=torch.bfloat16)
    assert torch.equal(first.head.weight.bfloat16(), rounded.head.weight)


@pytest.mark.parametrize("architecture", [TransformerShape, XLSTMShape])
@pytest.mark.parametrize("vocab_size", [256, 4096])
def test_loss_starts_within_two_percent_of_log_vocabulary(architecture, vocab_size):
    shape = architecture(d_model=64, n_layers=3, n_heads=2, vocab_size=vocab_size)
    generator = torch.Generator().manual_seed(2)
    text = torch.randint(0, vocab_size, (4, 257), generator=generator)
    with torch.no_grad():
        loss = next_token_loss(build(shape, seed=1), text[:, :-1], text[:, 1:])
    assert loss == pytest.approx(math.log(vocab_size), rel=0.02)


def test_parameters_start_as_documented():
    shape = XLSTMShape(d_model=128, n_layers=4, n_heads=4, vocab_size=500)
    model = build(shape, seed=0)
    mixer = model.blocks[0].mixer
    assert mixer.gates.bias.tolist() == [-10.0] * 4 + [3.0, 4.0, 5.0, 6.0]
    assert not mixer.gates.weight.any()
    assert (model.final_norm.weight == 1).all()
    small, into_residual = math.sqrt(2 / (5 * 128)), 2 / (4 * math.sqrt(128))
    # A sample standard deviation of k numbers is off by 1 / sqrt(2 k): 0.55 % of 128 x 128.
    for parameter, sd in (
        (model.embedding.weight, small),
        (mixer.qkvo.weight, small),
        (model.blocks[3].feed_forward.up.weight, small),
        (model.head.weight, small / 2),
        (mixer.out.weight, into_residual),
        (model.blocks[3].feed_forward.down.weight, into_residual),
    ):
        assert parameter.std().item() == pytest.approx(sd, rel=4 / math.sqrt(2 * parameter.numel()))


def test_matrices_decay_and_nothing_else(shape):
    model = build(shape, seed=0)
    decayed, kept = weight_decay_groups(model, weight_decay=0.3)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)
    names = {id(p): name for name, p in model.named_parameters()}
    in_kept = {names[id(p)] for p in kept["params"]}
    assert len(in_kept) + len(decayed["params"]) == len(names)
    vectors = {name for name, p in model.named_parameters() if p.ndim == 1}
    xlstm = isinstance(shape, XLSTMShape)
    assert in_kept == vectors | ({"embedding.weight"} if xlstm else set())


@pytest.mark.parametrize("time", [64, 128])
def test_forward_flops_of_the_transformer_agree_with_torch(time):
    shape = TransformerShape(d_model=64, n_layers=3, n_heads=4, n_kv_heads=2, vocab_size=128)
    model = build(shape, seed=0)
    tokens = torch.zeros(2, time, dtype=torch.int64)
    with torch.no_grad(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(tokens)
    counted = training_flops_per_sequence(shape, time, attention="chinchilla")
    # Torch counts matrix products only and attention without its causal half. Beyond that the
    # "chinchilla" mode counts 3 a score for the softmax, and `other` the activation.
    softmax = 3 * 3.0 * shape.n_layers * shape.n_heads * time**2
    expected = (counted.linear + counted.sequence_mixing - softmax) / 3
    assert counter.get_total_flops() == 2 * expected


def test_forward_flops_of_the_xlstm_outside_the_cell_agree_with_torch():
    shape = XLSTMShape(d_model=64, n_layers=3, n_heads=2, vocab_size=128)
    model = build(shape, seed=0)
    time = 96
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, time, dtype=torch.int64))
    linear = counter.get_flop_counts()["Global"][torch.ops.aten.mm]
    linear += counter.get_flop_counts()["Global"].get(torch.ops.aten.addmm, 0)
    # `linear` also holds one FLOP for each output-gate sigmoid, which torch does not count.
    sigmoid = 3 * time * shape.n_layers * shape.n_heads * shape.head_dim_v
    assert linear == 2 * (training_flops_per_sequence(shape, time).linear - sigmoid) / 3


def test_another_shape_is_refused():
    with pytest.raises(InputError, match="got dict"):
        build({"d_model": 4}, seed=0)
