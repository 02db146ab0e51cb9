"""The Triton kernels' arithmetic in triton's interpreter, against the float64 definition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from triton.runtime.interpreter import GridExecutor
from triton_cases import GUARD, SENTINEL, guarded_buffers, triton_form

from allometry.errors import InputError
from allometry.kernels import mlstm, mlstm_step, reference
from allometry.kernels.check import check_case
from allometry.kernels.check_cases import Case
from allometry.kernels.triton_ops import _forward_op, mlstm_step_triton
from allometry.kernels.triton_sizes import INTERPRETED

CPU = torch.device("cpu")
SHAPES = st.tuples(
    st.just(1), st.integers(1, 2), st.integers(1, 50), st.integers(16, 40), st.integers(16, 40)
)
pytestmark = pytest.mark.skipif(not INTERPRETED, reason="a GPU is here: allometry kernels check")


def faults(case: Case, dtype: str) -> list[str]:
    """Quantities of a case whose error is more than rounding explains (see kernels/check.py)."""
    found = check_case(case, backend="triton", dtype=dtype, device=CPU)
    return [f"{x.quantity}: {x.worst:.3g} x the bound" for x in found if not x.ok]


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    shape=SHAPES,
    chunk=st.sampled_from([16, 32, 64]),
    gates=st.sampled_from(["study", "wide", "resets", "input 20", "forget -120"]),
    dtype=st.sampled_from(["float32", "bfloat16", "float16"]),
)
def test_outputs_and_all_gradients_equal_the_float64_reference(shape, chunk, gates, dtype):
    batch, heads, time, d_qk, d_v = shape
    case = Case(
        name="", batch=batch, heads=heads, time=time, d_qk=d_qk, d_v=d_v, chunk=chunk, gates=gates
    )
    assert not faults(case, dtype)


@pytest.mark.parametrize(
    "case",
    [
        # More than one chunk of more than 128 tokens: the gates and m of the right chunk.
        Case(name="chunk 256", time=300, d_qk=16, d_v=16, chunk=256, heads=1, gates="wide"),
        Case(name="wide", time=17, d_qk=384, d_v=200, chunk=16, heads=1),
        Case(name="one token", time=1, d_qk=80, d_v=24, heads=1, gates="wide"),
        Case(name="step", time=1, d_qk=80, d_v=136, gates="wide", step=True),
    ],
    ids=lambda case: case.name,
)
def test_named_cases_equal_the_float64_reference(case):
    assert not faults(case, "float32")


def test_a_kernel_that_forgets_the_denominators_gradient_is_found(monkeypatch):
    monkeypatch.setattr(
        "allometry.kernels.check.mlstm",
        lambda *args, **kwargs: mlstm(*args, **kwargs | {"normalizer_gradient": False}),
    )
    case = Case(name="", time=40, d_qk=16, d_v=16, chunk=32, heads=1, gates="wide")
    wrong = {text.split(":")[0] for text in faults(case, "bfloat16")}
    assert {"dq", "dk"} <= wrong
    assert "dv" not in wrong  # it has no part in it


def test_without_the_normalizer_gradient_only_its_share_is_missing(draw, run_with_gradients, error):
    inputs, state = draw(1, (1, 1, 40, 16, 24))
    ours = [x.float() for x in inputs], tuple(x.float() for x in state)
    outputs, gradients = run_with_gradients(triton_form(32, normalizer_gradient=False), *ours)

    def chunkwise(q, k, v, i, f, state):
        return mlstm(q, k, v, i, f, state=state, backend="chunkwise", normalizer_gradient=False)

    # What the other backend computes in float64; float32 sums of 40 + 16 + 24 terms, with a factor
    # 10 for terms that cancel.
    rounding = 10 * 80 * torch.finfo(torch.float32).eps
    truth, true_gradients = run_with_gradients(chunkwise, inputs, state)
    assert error(outputs[0], truth[0]) < rounding
    for gradient, true in zip(gradients, true_gradients, strict=True):
        assert error(gradient, true) < rounding


def test_every_buffer_is_written_and_nothing_else(monkeypatch, draw, run_with_gradients):
    inputs, state = draw(2, (1, 2, 37, 24, 40), dtype=torch.float32)
    with guarded_buffers(monkeypatch) as buffers:
        outputs, gradients = run_with_gradients(triton_form(16), inputs, state)
    for value in (*outputs, *gradients):
        assert value.isfinite().all()
    assert len(buffers) > 20
    for memory, _ in buffers:
        guard = torch.cat([memory[:GUARD], memory[-GUARD:]])
        assert (guard == torch.tensor(SENTINEL, dtype=torch.float64).to(memory.dtype)).all()


def test_poisoned_buffers_change_no_bit(monkeypatch, draw, run_with_gradients):
    inputs, state = draw(3, (1, 1, 37, 24, 40), dtype=torch.float32)
    first = run_with_gradients(triton_form(16), inputs, state)
    with guarded_buffers(monkeypatch):
        second = run_with_gradients(triton_form(16), inputs, state)
    for x, y in zip((*first[0], *first[1]), (*second[0], *second[1]), strict=True):
        assert torch.equal(x, y)


def test_strides_of_inputs_and_gradients_do_not_matter(draw):
    inputs, state = draw(4, (2, 2, 20, 16, 24), dtype=torch.float32)
    contiguous = triton_form(16)(*inputs, state)[0]
    q, k, v, i, f = inputs
    # (batch, time, heads, width) seen as (batch, heads, time, width), and a width that is a slice.
    q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v))
    v = torch.cat([v, v], -1)[..., : v.shape[-1]]
    i, f = (torch.stack([x, x], -1)[..., 1] for x in (i, f))
    leaves = [x.detach().requires_grad_() for x in (q, k, v, i, f)]
    h, _ = triton_form(16)(*leaves, state)
    assert torch.equal(h, contiguous)
    (expanded,) = torch.autograd.grad(h.sum(), leaves[:1], retain_graph=True)  # stride 0
    (dense,) = torch.autograd.grad(h, leaves[:1], torch.ones_like(h).contiguous())
    assert torch.equal(expanded, dense)


def test_keys_of_zero_give_zero_and_finite_gradients(draw, run_with_gradients):
    inputs, state = draw(5, (1, 1, 20, 16, 16), dtype=torch.float32)
    empty = tuple(torch.zeros_like(x) for x in state)
    q, k, *rest = inputs
    (h, _, _), gradients = run_with_gradients(triton_form(16), (q, 0 * k, *rest), empty)
    assert (h == 0).all()
    assert all(x.isfinite().all() for x in gradients)


def test_the_input_gate_of_no_token_reaches_back(draw):
    inputs, state = draw(6, (1, 1, 40, 16, 16), dtype=torch.float32)
    moved = [x.clone() for x in inputs]
    for x in moved:
        x[:, :, 25:] += 1
    before, after = (triton_form(16)(*x, state)[0] for x in (inputs, moved))
    assert torch.equal(before[:, :, :25], after[:, :, :25])
    assert not torch.equal(before[:, :, 25:], after[:, :, 25:])


def test_a_reset_makes_a_fresh_start(draw, error):
    inputs, _ = draw(7, (1, 1, 40, 16, 16), dtype=torch.float32)
    q, k, v, i, f = inputs
    f[:, :, 20] = -25.0
    h, _ = triton_form(16)(q, k, v, i, f, None)
    fresh, _ = triton_form(16)(*(x[:, :, 20:] for x in inputs), None)
    # e^-25 of the old state is left, and float32 sums of 20 + 32 terms.
    assert error(h[:, :, 20:], fresh) < 10 * 52 * torch.finfo(torch.float32).eps


def test_a_row_does_not_know_its_batch(draw):
    inputs, state = draw(8, (3, 2, 20, 16, 16), dtype=torch.float32)
    whole, _ = triton_form(16)(*inputs, state)
    one, _ = triton_form(16)(*(x[1:2] for x in inputs), tuple(x[1:2] for x in state))
    assert torch.equal(whole[1:2], one)


def test_two_calls_with_a_passed_state_equal_one(draw, run_with_gradients, error):
    inputs, state = draw(9, (1, 1, 45, 16, 24))
    inputs, state = [x.float() for x in inputs], tuple(x.float() for x in state)

    def two_calls(q, k, v, i, f, state):
        parts = [[x[:, :, :19] for x in (q, k, v, i, f)], [x[:, :, 19:] for x in (q, k, v, i, f)]]
        first, state = triton_form(16)(*parts[0], state)
        second, state = triton_form(16)(*parts[1], state)
        return torch.cat([first, second], 2), state

    outputs, gradients = run_with_gradients(two_calls, inputs, state)
    truth, true_gradients = run_with_gradients(
        reference.chunkwise, [x.double() for x in inputs], tuple(x.double() for x in state)
    )
    rounding = 10 * 85 * torch.finfo(torch.float32).eps  # sums of 45 + 40 terms
    for x, y in zip((*outputs, *gradients), (*truth, *true_gradients), strict=True):
        assert error(x, y) < rounding


def test_inputs_and_given_states_are_never_changed(draw, run_with_gradients):
    inputs, state = draw(10, (1, 1, 20, 16, 16), dtype=torch.float32)
    copies = [x.clone() for x in (*inputs, *state)]
    run_with_gradients(triton_form(16), inputs, state)
    mlstm_step_triton(*(x[:, :, 0] for x in inputs), state, eps=1e-6)
    assert all(torch.equal(x, y) for x, y in zip((*inputs, *state), copies, strict=True))


def test_a_step_has_the_gradients_of_the_definition(draw, run_with_gradients, error):
    inputs, state = draw(11, (2, 1, 1, 16, 24))
    token = [x[:, :, 0].float() for x in inputs]
    state = tuple(x.float() for x in state)

    def step(q, k, v, i, f, state):
        return mlstm_step(q, k, v, i, f, state=state, backend="triton")

    outputs, gradients = run_with_gradients(step, token, state)
    truth, true_gradients = run_with_gradients(
        reference.step, [x.double() for x in token], tuple(x.double() for x in state)
    )
    rounding = 10 * 40 * torch.finfo(torch.float32).eps  # sums of 16 + 24 terms
    for x, y in zip(outputs, truth, strict=True):
        assert error(x, y) < rounding
    # The gradient of f is a difference of such sums, so as exact as the largest of them.
    largest = max(y.abs().max() for y in true_gradients)
    for x, y in zip(gradients, true_gradients, strict=True):
        assert (x.double() - y).abs().max() < rounding * largest


def test_the_operator_keeps_pytorchs_contract(draw):
    inputs, state = draw(12, (1, 1, 20, 16, 16), dtype=torch.float32)
    leaves = [x.requires_grad_() for x in (*inputs, *state)]
    torch.library.opcheck(_forward_op, (*leaves, 16, True, 1e-6))


def test_float64_is_turned_away_with_a_way_out(draw):
    inputs, state = draw(13, (1, 1, 4, 16, 16))
    with pytest.raises(InputError, match="float64") as caught:
        mlstm(*inputs, state=state, backend="triton")
    assert "chunkwise" in caught.value.hint


def test_every_grid_has_one_axis(monkeypatch):
    # CUDA allows 65,535 blocks on the second and third axis: batch x heads passes that in training.
    grids = []
    launch = GridExecutor.__call__

    def record(self, *arguments, **options):
        grid = self.grid(options) if callable(self.grid) else self.grid
        grids.append(grid)
        return launch(self, *arguments, **options)

    monkeypatch.setattr(GridExecutor, "__call__", record)
    q, k = (torch.randn(3, 2, 20, 16, requires_grad=True) for _ in range(2))
    v = torch.randn(3, 2, 20, 24, requires_grad=True)
    i, f = torch.randn(3, 2, 20), torch.randn(3, 2, 20)
    h, state = mlstm(q, k, v, i, f, backend="triton", chunk_size=16)  # two chunks
    h.sum().backward()
    mlstm_step_triton(*(x[:, :, 0].detach() for x in (q, k, v, i, f)), state=state, eps=1e-6)
    assert len(grids) >= 6  # gates, states, pairs; and the way back; and the step
    assert {len(grid) for grid in grids} == {1}


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_the_kernels_compile_without_a_break(backend):
    torch.manual_seed(0)
    inputs = [torch.randn(1, 2, 20, 16, requires_grad=True) for _ in range(3)]
    gates = [torch.randn(1, 2, 20, requires_grad=True) for _ in range(2)]

    def cell(q, k, v, i, f):
        h, (C, n, _) = mlstm(q, k, v, i, f, backend="triton", chunk_size=16)
        return h.square().sum() + C.sum() + n.sum()

    plain = torch.autograd.grad(cell(*inputs, *gates), [*inputs, *gates])
    compiled = torch.compile(cell, fullgraph=True, backend=backend)
    found = torch.autograd.grad(compiled(*inputs, *gates), [*inputs, *gates])
    for a, b in zip(plain, found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
