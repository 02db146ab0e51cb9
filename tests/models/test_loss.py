"""The chunked loss against plain cross-entropy of all logits."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from allometry.errors import InputError
from allometry.models import IGNORED, build, linear_cross_entropy, next_token_loss


@pytest.mark.parametrize("cap", [None, 3.0])
@pytest.mark.parametrize("chunk_size", [1, 7, 20, 1000, None])
def test_loss_and_gradients_equal_plain_cross_entropy(cap, chunk_size, generator):
    hidden = torch.randn(20, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(30, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 30, (20,), generator=generator)
    targets[[3, 11, 19]] = IGNORED
    logits = hidden @ weight.T
    plain = cross_entropy(logits if cap is None else cap * torch.tanh(logits / cap), targets)
    ours = linear_cross_entropy(hidden, weight, targets, cap=cap, chunk_size=chunk_size)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=0)
    wanted = torch.autograd.grad(3 * plain, (hidden, weight))
    found = torch.autograd.grad(3 * ours, (hidden, weight))
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-13)  # float64, sums of 30


def test_the_model_loss_is_that_of_its_logits(shape, lively, tokens_of, generator):
    model = lively(shape)
    tokens = tokens_of(shape, 2, 31, generator)
    starts = torch.zeros(2, 30, dtype=torch.bool)
    starts[:, 0] = starts[1, 12] = True
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    loss = next_token_loss(model, inputs, targets, document_starts=starts, chunk_size=16)
    loss.backward()
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    plain = cross_entropy(model(inputs, document_starts=starts).flatten(0, 1), targets.flatten())
    plain.backward()
    torch.testing.assert_close(loss, plain, rtol=1e-11, atol=0)
    for gradient, parameter in zip(found, model.parameters(), strict=True):
        assert gradient.abs().sum() > 0  # every parameter learns
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-8, atol=1e-12)


def test_float16_gradients_do_not_vanish_with_many_positions(generator):
    # 4096 positions: a share of 2.4e-4 times p = 1/512 is below float16's 6e-8 for most logits.
    hidden = torch.randn(4096, 4, generator=generator).half().requires_grad_()
    weight = torch.zeros(512, 4, dtype=torch.float16, requires_grad=True)
    targets = torch.randint(0, 512, (4096,), generator=generator)
    loss = linear_cross_entropy(hidden, weight, targets, chunk_size=512)
    (loss * 2**16).backward()  # as a gradient scaler does
    exact = hidden.detach().double(), weight.detach().double().requires_grad_()
    (cross_entropy(exact[0] @ exact[1].T, targets) * 2**16).backward()
    # One rounding to float16 (5e-4) for each of 8 chunk sums, which nearly cancel.
    error = (weight.grad.double() - exact[1].grad).abs().max()
    assert error < 0.01 * exact[1].grad.abs().max()


def test_without_gradients_none_are_computed(generator):
    weight = torch.randn(30, 8, generator=generator, requires_grad=True)
    hidden = torch.randn(5, 8, generator=generator)
    with torch.no_grad():
        loss = linear_cross_entropy(hidden, weight, torch.arange(5))
    assert not loss.requires_grad


def test_wrong_targets_and_chunks_are_named(shape):
    model = build(shape, seed=0)
    tokens = torch.zeros(1, 4, dtype=torch.int64)
    with pytest.raises(InputError, match=r"targets must be \(1, 4\) as tokens, got \(1, 3\)"):
        next_token_loss(model, tokens, tokens[:, 1:])
    with pytest.raises(InputError, match="chunk_size must be at least 1, got 0"):
        next_token_loss(model, tokens, tokens, chunk_size=0)
