"""The one door: what it refuses, which backend it takes, and that all answer alike."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allometry.errors import InputError
from allometry.kernels import empty_state, mlstm, mlstm_step, reference, which_backend


def test_says_which_backend_it_takes():
    here = torch.zeros(1)
    assert which_backend(here) == "chunkwise"
    assert which_backend(here, "reference") == "reference"
    assert which_backend(torch.zeros(1, device="meta"), "triton") == "triton"
    with pytest.raises(InputError, match="backend must be one of"):
        which_backend(here, "cuda")


@pytest.mark.parametrize("backend", ["auto", "reference", "chunkwise"])
def test_backends_agree(draw, error, backend):
    inputs, state = draw(1, (2, 2, 50, 8, 12))
    truth, (C, _, m) = reference.recurrent(*inputs, state)
    h, end = mlstm(*inputs, state=state, backend=backend)
    assert error(h, truth) < 1e-11
    assert error(end[0] * end[2].exp()[..., None, None], C * m.exp()[..., None, None]) < 1e-11


@settings(max_examples=10, derandomize=True, deadline=None)
@given(prompt=st.integers(1, 70), seed=st.integers(0, 100))
def test_steps_after_a_prompt_equal_the_whole_sequence(draw, error, prompt, seed):
    inputs, _ = draw(seed, (2, 2, prompt + 5, 8, 12))
    whole, (C, _, m) = mlstm(*inputs)
    h, state = mlstm(*(x[:, :, :prompt] for x in inputs))
    outputs = [h]
    for t in range(prompt, prompt + 5):
        h, state = mlstm_step(*(x[:, :, t] for x in inputs), state=state)
        outputs.append(h[:, :, None])
    assert error(torch.cat(outputs, 2), whole) < 1e-11
    assert error(state[0] * state[2].exp()[..., None, None], C * m.exp()[..., None, None]) < 1e-11


def test_a_step_has_the_gradients_of_the_definition(draw, run_with_gradients, error):
    inputs, state = draw(2, (2, 3, 1, 8, 12))
    one = [x[:, :, 0] for x in inputs]
    results = [
        run_with_gradients(form, one, state)
        for form in (reference.step, lambda *x: mlstm_step(*x[:5], state=x[5]))
    ]
    for truth, value in zip(*results, strict=True):
        assert max(map(error, value, truth)) < 1e-12


def test_a_step_leaves_its_inputs_and_starts_from_nothing(draw):
    inputs, state = draw(3, (1, 2, 1, 4, 6), dtype=torch.float32)
    one = [x[:, :, 0] for x in inputs]
    before = [x.clone() for x in (*one, *state)]
    mlstm_step(*one, state=state)
    assert all(map(torch.equal, before, (*one, *state)))
    h, _ = mlstm_step(*one)
    again, _ = mlstm_step(*one, state=empty_state(one[0], one[2]))
    assert torch.equal(h, again)


def test_autocast_leaves_gates_state_and_sums_in_float32(draw):
    (q, k, v, i, f), state = draw(4, (1, 2, 40, 8, 8), dtype=torch.float32)
    half = [x.bfloat16() for x in (q, k, v)]
    for backend in ("chunkwise", "reference"):
        plain, end = mlstm(*half, i, f, state=state, backend=backend)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast, cast_end = mlstm(*half, i, f, state=state, backend=backend)
        assert torch.equal(plain, cast)
        assert all(map(torch.equal, end, cast_end))
        assert {x.dtype for x in cast_end} == {torch.float32}
    plain, _ = mlstm_step(*(x[:, :, 0] for x in (*half, i, f)), state=state)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast, _ = mlstm_step(*(x[:, :, 0] for x in (*half, i, f)), state=state)
    assert torch.equal(plain, cast)


def test_one_error_names_every_broken_rule(draw):
    (q, k, v, i, f), (C, n, m) = draw(5, (2, 3, 10, 4, 6))
    with pytest.raises(InputError) as caught:
        mlstm(q, k[..., :3], v.float(), i[:, :2], f, state=(C, n, m[:1]))
    message = str(caught.value)
    for part in ("k must be (2, 3, 10, 4)", "share a dtype", "i must be (2, 3, 10)", "m must be"):
        assert part in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, k, v, i, f: (q[0], k, v, i, f), "q and v must be"),
        (lambda q, k, v, i, f: [x[:, :, :0] for x in (q, k, v, i, f)], "time and widths"),
        (lambda q, k, v, i, f: (q, k, v, i.int(), f), "i must be floating point"),
        (lambda q, k, v, i, f: (q, k, v, i, f.to("meta")), "f is on meta"),
    ],
)
def test_bad_inputs_are_named(draw, change, message):
    inputs, _ = draw(6, (1, 2, 10, 4, 6))
    with pytest.raises(InputError, match=message):
        mlstm(*change(*inputs))


def test_a_chunk_has_at_least_one_token(draw):
    inputs, _ = draw(7, (1, 2, 10, 4, 6))
    with pytest.raises(InputError, match="chunk_size must be at least 1, got 0"):
        mlstm(*inputs, chunk_size=0)
