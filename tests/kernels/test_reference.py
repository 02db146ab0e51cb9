"""The three plain forms are one function."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allometry.kernels import reference

KINDS = ("study", "wide", "input 20", "forget -120", "forget 50", "resets")


@pytest.mark.parametrize("gates", KINDS)
@pytest.mark.parametrize("chunk_size", [1, 16, 40, 64])
@pytest.mark.parametrize("from_state", [False, True])
def test_three_forms_agree(draw, run_with_gradients, error, gates, chunk_size, from_state):
    inputs, state = draw(1, (2, 2, 33, 5, 7), gates=gates)
    start = state if from_state else None
    truth, truth_grads = run_with_gradients(reference.recurrent, inputs, start)
    forms = (
        reference.parallel,
        lambda *x: reference.chunkwise(*x, chunk_size=chunk_size),
    )
    for form in forms:
        outputs, grads = run_with_gradients(form, inputs, start)
        # float64 rounding 1e-16, times the cancellation in s q . n (here below 1e4).
        assert max(map(error, outputs, truth)) < 1e-12
        # At i = 20 terms of e^20 cancel in the gates' gradients.
        assert max(map(error, grads, truth_grads)) < 1e-10


@settings(max_examples=20, derandomize=True, deadline=None)
@given(time=st.integers(1, 40), cut=st.integers(0, 40), seed=st.integers(0, 1000))
def test_a_sequence_equals_its_two_parts(draw, error, time, cut, seed):
    inputs, state = draw(seed, (1, 2, time, 4, 3))
    cut = min(cut, time - 1)
    whole, (C, n, m) = reference.recurrent(*inputs, state)
    if cut:
        first, state = reference.parallel(*(x[:, :, :cut] for x in inputs), state)
    second, (C2, n2, m2) = reference.parallel(*(x[:, :, cut:] for x in inputs), state)
    parts = torch.cat([first, second], 2) if cut else second
    assert error(parts, whole) < 1e-12
    assert error(C2 * m2.exp()[..., None, None], C * m.exp()[..., None, None]) < 1e-12
    assert error(n2 * m2.exp()[..., None], n * m.exp()[..., None]) < 1e-12


def test_one_token_by_hand():
    # a = 1, c = 1, empty state: m = max(log sigma(f), i) = 2, so C = n = k, times v.
    one = torch.ones((1, 1, 1), dtype=torch.float64)
    h, (C, n, m) = reference.step(2 * one, 3 * one, 5 * one, 2 * one[0], 0 * one[0])
    assert float(m) == 2.0
    assert float(n) == 3.0
    assert float(C) == 15.0
    assert float(h) == pytest.approx(30.0 / (6.0 + 1e-6), rel=1e-14)


def test_a_dot_product_below_the_floor_divides_by_the_floor():
    one = torch.ones((1, 1, 1), dtype=torch.float64)
    # i = -1: m = log sigma(50) = 0, written weight e^-1, floor e^0 = 1 > |q n|.
    h, _ = reference.step(0.5 * one, one, 4 * one, -1 * one[0], 50 * one[0])
    assert float(h) == pytest.approx(2.0 * torch.e**-1 / (1 + 1e-6), rel=1e-14)
