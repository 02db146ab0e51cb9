"""Prefill and steps against the full forward pass."""

import dataclasses

import pytest
import torch

from allometry.accounting import TransformerShape, XLSTMShape, kv_cache_bytes, state_bytes
from allometry.errors import InputError
from allometry.models import build

# float64 with values of order 1 through at most 3 blocks and 100 tokens: rounding of 1e-16 grows
# by conditioning and sums, far below this; a wrong token, position or mask is 1e-2 and more.
EXACT = {"rtol": 1e-9, "atol": 1e-9}


@torch.no_grad()
@pytest.mark.parametrize("ragged", [False, True])
def test_prefill_and_steps_equal_the_full_forward(shape, ragged, lively, tokens_of, generator):
    model = lively(shape)
    tokens = tokens_of(shape, 4, 90, generator)
    full = model(tokens)
    rows = torch.arange(4)
    # 70 is longer than a chunk, 1 the shortest prompt there is.
    lengths = torch.tensor([70, 1, 64, 33]) if ragged else torch.full((4,), 70)
    prompt = tokens[:, :70].clone()
    prompt[torch.arange(70) >= lengths[:, None]] = 5  # padding may be any token
    logits, state = model.prefill(prompt, lengths if ragged else None, max_length=90)
    torch.testing.assert_close(logits, full[rows, lengths - 1], **EXACT)
    for step in range(20):
        logits, state = model.step(tokens[rows, lengths + step], state)
        torch.testing.assert_close(logits, full[rows, lengths + step], **EXACT)


@torch.no_grad()
def test_decoding_in_float32_is_as_good_as_float32(shape, tokens_of, generator):
    model, exact = build(shape, seed=0), build(shape, seed=0).double()
    tokens = tokens_of(shape, 2, 40, generator)
    logits, state = model.prefill(tokens[:, :30], max_length=40)
    for place in range(30, 40):
        logits, state = model.step(tokens[:, place], state)
    # Logits of order 1 after two blocks of sums over 32 to 90 float32 terms: 100 ulps.
    torch.testing.assert_close(logits.double(), exact(tokens)[:, -1], rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_state_has_the_size_that_accounting_says(shape, tokens_of, generator):
    model = build(shape, seed=0)
    tokens = tokens_of(shape, 3, 25, generator)
    _, state = model.prefill(tokens, max_length=50)
    if isinstance(shape, TransformerShape):
        held = state.keys.nbytes + state.values.nbytes
        assert held == 3 * kv_cache_bytes(shape, 50) * 4 / 2  # the default counts 2 a number
    else:
        held = sum(x.nbytes for layer in state.layers for x in layer)
        assert held == 3 * state_bytes(shape)
        _, longer = model.prefill(tokens.repeat(1, 3))
        assert held == sum(x.nbytes for layer in longer.layers for x in layer)


@torch.no_grad()
def test_a_cache_is_filled_in_place_and_refuses_more(tokens_of, generator):
    shape = TransformerShape(d_model=32, n_layers=2, n_heads=4, vocab_size=64)
    model = build(shape, seed=0)
    tokens = tokens_of(shape, 2, 6, generator)
    _, state = model.prefill(tokens, max_length=7)
    _, after = model.step(tokens[:, 0], state)
    assert after.keys.data_ptr() == state.keys.data_ptr()
    assert after.lengths.tolist() == [7, 7]
    with pytest.raises(InputError, match="full: 7 tokens") as caught:
        model.step(tokens[:, 0], after)
    assert "max_length" in caught.value.hint
    with pytest.raises(InputError, match="max_length 5 is below the prompt's 6"):
        model.prefill(tokens, max_length=5)


@torch.no_grad()
def test_a_recurrent_state_goes_on_in_two_ways(lively, tokens_of, generator):
    shape = XLSTMShape(d_model=32, n_layers=2, n_heads=2, vocab_size=64)
    model = lively(shape)
    tokens = tokens_of(shape, 2, 12, generator)
    _, state = model.prefill(tokens)
    kept = dataclasses.replace(
        state, layers=tuple(tuple(x.clone() for x in layer) for layer in state.layers)
    )
    first, _ = model.step(tokens[:, 0], state)
    model.step(tokens[:, 1], state)
    again, _ = model.step(tokens[:, 0], kept)
    assert torch.equal(first, again)


def test_wrong_prompts_are_named(shape):
    model = build(shape, seed=0)
    tokens = torch.zeros(2, 5, dtype=torch.int64)
    with pytest.raises(InputError, match="lengths must be 1 to 5, got 0 to 6"):
        model.prefill(tokens, torch.tensor([0, 6]))
    with pytest.raises(InputError, match=r"lengths must be integers \(2,\)"):
        model.prefill(tokens, torch.tensor([1.0, 2.0]))
    _, state = model.prefill(tokens, max_length=9)
    with pytest.raises(InputError, match=r"token must be integers \(2,\)"):
        model.step(tokens, state)
