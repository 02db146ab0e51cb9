"""The chunkwise path: exact gradients, and what a caller may rely on besides."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allometry.kernels import chunkwise_plan, mlstm, reference
from allometry.kernels.chunkwise_blocks import KeptSize
from allometry.kernels.gates import BlockGates, chunk_gates

KINDS = ("study", "wide", "input 20", "forget -120", "forget 50", "resets")
EPS32 = torch.finfo(torch.float32).eps


def chunkwise(chunk_size, normalizer_gradient=True):
    def form(q, k, v, i, f, state=None):
        return mlstm(
            q,
            k,
            v,
            i,
            f,
            state=state,
            backend="chunkwise",
            chunk_size=chunk_size,
            normalizer_gradient=normalizer_gradient,
        )

    return form


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    shape=st.tuples(
        st.integers(1, 3),
        st.integers(1, 6),
        st.integers(1, 90),
        st.sampled_from([1, 5, 16]),
        st.sampled_from([1, 7, 24]),
    ),
    chunk_size=st.sampled_from([1, 7, 16, 32, 64, 128]),
    gates=st.sampled_from(KINDS),
    from_state=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_gradients_are_those_of_the_float64_recurrence(
    draw, run_with_gradients, error, shape, chunk_size, gates, from_state, seed
):
    inputs, state = draw(seed, shape, gates=gates)
    start = state if from_state else None
    truth, truth_grads = run_with_gradients(reference.recurrent, inputs, start)
    outputs, grads = run_with_gradients(chunkwise(chunk_size), inputs, start)
    # float64 rounding (1e-16) times 90 tokens, times the cancellation in s q . n (up to 1e4).
    assert max(map(error, outputs, truth)) < 1e-10
    for name, grad, true in zip("q k v i f C n m".split(), grads, truth_grads, strict=False):
        # A gate that has no effect has gradients of rounding size: compare to v's as well.
        scale = max(float(true.abs().max()), 1e-3 * float(truth_grads[2].abs().max()))
        assert float((grad - true).abs().max()) < 1e-8 * scale, name


@pytest.mark.parametrize("time", [40, 43])
@pytest.mark.parametrize(("rows", "heads"), [(1, 2), (3, 3), (5, 2), (16, 4), (22, 6), (200, 6)])
@pytest.mark.parametrize("from_state", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_blocks_of_any_size_and_strides_are_exact(
    draw, run_with_gradients, error, monkeypatch, time, rows, heads, from_state, transposed
):
    # In order: one chunk; some chunks of a head; a head; whole batch rows; part of one; all.
    monkeypatch.setattr(chunkwise_plan, "BLOCK_ROWS", rows)
    monkeypatch.setattr(chunkwise_plan, "BLOCK_ELEMENTS", 0)
    inputs, state = draw(4, (3, heads, time, 5, 7))
    if transposed:  # as a model's projections are
        inputs = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in inputs]
    start = state if from_state else None
    truth, truth_grads = run_with_gradients(reference.recurrent, inputs, start)
    outputs, grads = run_with_gradients(chunkwise(8), inputs, start)
    assert max(map(error, outputs, truth)) < 1e-11
    assert max(map(error, grads, truth_grads)) < 1e-9
    with torch.no_grad():  # one block's room, used again
        h, (C, n, m) = chunkwise(8)(*inputs, start)
    scale = m.exp()[..., None]
    assert all(map(torch.equal, (h, C * scale[..., None], n * scale), outputs))


@pytest.mark.parametrize("backend", ["reference", "chunkwise"])
def test_hidden_states_do_not_depend_on_whether_the_state_is_asked_for(draw, backend):
    inputs, start = draw(6, (2, 3, 40, 5, 7))
    leaves = [x.requires_grad_() for x in (*inputs, *start)]
    results = []
    for return_state in (True, False):
        h, state = mlstm(
            *leaves[:5],
            state=tuple(leaves[5:]),
            backend=backend,
            chunk_size=8,
            return_state=return_state,
        )
        assert (state is None) is not return_state
        results.append((h, *torch.autograd.grad(h.square().sum(), leaves)))
    for with_state, without in zip(*results, strict=True):
        assert torch.equal(with_state, without)


@pytest.mark.parametrize("time", [300, 512, 700])
@pytest.mark.parametrize("chunk_size", [128, 256, 512])
def test_long_chunks_are_exact_too(draw, run_with_gradients, error, time, chunk_size):
    # Published kernels read the wrong chunk's gates above 128 tokens and one chunk.
    inputs, state = draw(3, (1, 2, time, 8, 12))
    truth, truth_grads = run_with_gradients(
        lambda *x: reference.chunkwise(*x, chunk_size=50), inputs, state
    )
    outputs, grads = run_with_gradients(chunkwise(chunk_size), inputs, state)
    assert max(map(error, outputs, truth)) < 1e-10
    assert max(map(error, grads, truth_grads)) < 1e-8


@pytest.mark.parametrize("behind_norm", [False, True])
def test_gradcheck_without_and_with_a_norm_behind(draw, behind_norm):
    inputs, state = draw(5, (1, 2, 7, 3, 4))
    leaves = [x.requires_grad_() for x in (*inputs, *state)]

    def outputs(*x):
        h, (C, n, m) = chunkwise(3)(*x[:5], tuple(x[5:]))
        return (torch.nn.functional.layer_norm(h, h.shape[-1:]) if behind_norm else h), C, n, m

    assert torch.autograd.gradcheck(outputs, leaves, eps=1e-6, atol=1e-6, rtol=1e-5)


def test_gradcheck_meets_both_sides_of_the_floor(draw):
    inputs, state = draw(5, (1, 2, 7, 3, 4))
    options = (3, True, 1e-6, False, True, True)
    *_, kept = torch.ops.allometry.mlstm_chunkwise(*inputs, *state, *options)
    dot = KeptSize(starts=2, rows=6, chunk=3, d_qk=3, d_v=4).fields(kept).dot
    vectors, _, _ = chunk_gates(inputs[3], inputs[4], state[2], 3, 1.0, torch.float64)
    floor = vectors[BlockGates._fields.index("floor")]
    above = (dot.view_as(floor).abs() > floor).float().mean()
    assert 0.2 < float(above) < 0.8


def rounding_bound(inputs, state, terms):
    """Largest error of a float32 h: EPS32 * terms * sum of magnitudes, over the denominator."""
    q, k, v, i, f = (x.double() for x in inputs)
    C, n, m_start = (x.double() for x in state)
    q = q * q.shape[-1] ** -0.5
    b = torch.nn.functional.logsigmoid(f).cumsum(-1)
    log_D = b[..., :, None] - b[..., None, :] + i[..., None, :]
    log_D = log_D.masked_fill(torch.ones_like(log_D).triu(1).bool(), -torch.inf)
    m = torch.maximum(log_D.amax(-1), b + m_start[..., None])[..., None]
    D, beta = torch.exp(log_D - m), torch.exp(b[..., None] + m_start[..., None, None] - m)
    h, size, dot, dot_size = (
        (D * (x @ y.mT)) @ z + beta * (x @ last)
        for x, y, z, last in (
            (q, k, v, C),
            (q.abs(), k.abs(), v.abs(), C.abs()),
            (q, k, torch.ones_like(v[..., :1]), n[..., None]),
            (q.abs(), k.abs(), torch.ones_like(v[..., :1]), n[..., None].abs()),
        )
    )
    denominator = torch.maximum(dot.abs(), torch.exp(-m)) + 1e-6
    return EPS32 * terms * (size + h.abs() / denominator * dot_size) / denominator


@pytest.mark.parametrize("gates", KINDS)
def test_float32_h_is_within_its_rounding(draw, gates):
    inputs, state = draw(7, (2, 2, 200, 64, 32), gates=gates, dtype=torch.float32)
    h, _ = chunkwise(64)(*inputs, state)
    truth, _ = reference.recurrent(*(x.double() for x in inputs), tuple(x.double() for x in state))
    # Terms: the sum over d_qk, the sum over a chunk, four chunks of state updates; the exponents'
    # own rounding is EPS32 * |b| with |b| the sum of the log gates in a chunk.
    log_forget = torch.nn.functional.logsigmoid(inputs[4].double())
    b = log_forget[..., :192].unflatten(-1, (3, 64)).sum(-1).abs().max()
    bound = rounding_bound(inputs, state, 64 + 64 + 4 + 2 * float(b))
    assert ((h.double() - truth).abs() <= bound).all()


@pytest.mark.parametrize("gates", KINDS)
def test_float32_gradients_are_as_good_as_a_float32_recurrence(draw, run_with_gradients, gates):
    inputs, state = draw(8, (1, 2, 150, 32, 48), gates=gates, dtype=torch.float32)
    exact = [x.double() for x in inputs], tuple(x.double() for x in state)
    _, truth = run_with_gradients(reference.recurrent, *exact)
    _, plain = run_with_gradients(reference.recurrent, inputs, state)
    _, grads = run_with_gradients(chunkwise(64), inputs, state)
    for name, grad, rounded, true in zip(
        "q k v i f C n m".split(), grads, plain, truth, strict=True
    ):
        assert grad.dtype == torch.float32
        # Where s q . n nearly cancels every float32 form loses the same digits: allow four times
        # the plain one's error, and one hundred roundings where that one happens to be exact.
        allowed = 4 * (rounded.double() - true).norm() + 100 * EPS32 * true.norm()
        floor = EPS32 * truth[2].norm()  # a gate without effect has gradients of rounding size
        assert float((grad.double() - true).norm()) < float(allowed + floor), name


@pytest.mark.parametrize("gates", ["study", "wide"])
def test_behind_a_norm_the_normaliser_may_be_dropped(draw, run_with_gradients, error, gates):
    inputs, _ = draw(9, (1, 2, 50, 8, 16), gates=gates)

    def normed(form):
        def run(*x):
            h, state = form(*x)
            h = torch.nn.functional.layer_norm(h, h.shape[-1:], eps=0.0)
            return h, tuple(x.detach() for x in state)

        return run

    leaves = [x.requires_grad_() for x in inputs]
    weight = torch.randn(50, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact, dropped, bare, bare_dropped = (
        torch.autograd.grad((form(*leaves)[0] * weight).sum(), leaves)
        for form in (
            normed(chunkwise(16)),
            normed(chunkwise(16, normalizer_gradient=False)),
            chunkwise(16),
            chunkwise(16, normalizer_gradient=False),
        )
    )
    # What is dropped is proportional to h . (gradient of h), zero behind a scale-invariant norm.
    assert max(map(error, dropped, exact)) < 1e-9
    assert error(bare_dropped[2], bare[2]) < 1e-12  # values never see the normaliser
    if gates == "wide":  # at i = -10 the floor divides, and nothing is dropped
        assert error(bare_dropped[0], bare[0]) > 0.05  # without a norm it counts


def test_zero_keys_give_zero_and_finite_gradients(draw, run_with_gradients):
    (q, k, v, i, f), _ = draw(10, (1, 2, 40, 4, 4))
    (h, *_), grads = run_with_gradients(chunkwise(16), (q, 0 * k, v, i, f), None)
    assert not h.any()
    assert all(x.isfinite().all() for x in grads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("i", "f"), [(-1e3, 3.0), (50.0, 50.0), (0.0, -1e6), (15.0, -torch.inf), (-1e3, -1e3)]
)
def test_gates_far_out_of_range_stay_finite(draw, run_with_gradients, dtype, i, f):
    (q, k, v, zero, _), _ = draw(11, (1, 1, 40, 4, 4), dtype=dtype)
    inputs = (q, k, v, torch.full_like(zero, i), torch.full_like(zero, f))
    h, state = chunkwise(16)(*inputs)
    assert all(x.isfinite().all() for x in (h, *state))
    leaves = [x.requires_grad_() for x in inputs]
    h, _ = chunkwise(16)(*leaves)
    assert all(x.isfinite().all() for x in torch.autograd.grad(h.sum(), leaves))


@settings(max_examples=15, derandomize=True, deadline=None)
@given(cut=st.integers(1, 99), seed=st.integers(0, 100))
def test_two_calls_with_the_state_passed_equal_one(draw, run_with_gradients, error, cut, seed):
    inputs, state = draw(seed, (2, 2, 100, 6, 5))

    def in_two(q, k, v, i, f, start):
        first, middle = chunkwise(16)(*(x[:, :, :cut] for x in (q, k, v, i, f)), start)
        second, end = chunkwise(32)(*(x[:, :, cut:] for x in (q, k, v, i, f)), middle)
        return torch.cat([first, second], 2), end

    whole = run_with_gradients(chunkwise(32), inputs, state)
    parts = run_with_gradients(in_two, inputs, state)
    assert max(map(error, parts[0], whole[0])) < 1e-11
    assert max(map(error, parts[1], whole[1])) < 1e-10


def test_the_past_does_not_feel_the_future(draw):
    inputs, state = draw(12, (1, 2, 100, 8, 8), dtype=torch.float32)
    h, _ = chunkwise(32)(*inputs, state)
    for t in (1, 31, 32, 50, 97):
        changed = [x.clone() for x in inputs]
        for x in changed:
            x[:, :, t:] += 3.0
        again, _ = chunkwise(32)(*changed, state)
        assert torch.equal(again[:, :, :t], h[:, :, :t])
        assert not torch.equal(again[:, :, t], h[:, :, t])


def test_documents_in_one_row_equal_documents_one_by_one(draw, run_with_gradients, error):
    inputs, _ = draw(13, (1, 2, 90, 8, 8), gates="study")
    starts = (0, 13, 50, 64)
    for start in starts:
        inputs[4][:, :, start] = -25.0
    h, _ = chunkwise(32)(*inputs)
    for start, stop in zip(starts, (*starts[1:], 90), strict=True):
        alone, _ = chunkwise(32)(*(x[:, :, start:stop] for x in inputs))
        # f = -25 leaves e^-25 = 1.4e-11 of what was there, against inputs of like size.
        assert error(h[:, :, start:stop], alone) < 1e-8


def test_strides_do_not_matter(draw):
    (q, k, v, i, f), state = draw(14, (2, 3, 70, 8, 16), dtype=torch.float32)
    leaves = [x.requires_grad_() for x in (q, k, v, i, f, *state)]

    def grads(inputs, state, weight):
        h, end = chunkwise(32)(*inputs, state)
        return h, *torch.autograd.grad((h * weight).sum() + end[0].sum(), leaves)

    one = torch.ones(())  # an expanded gradient: every stride zero
    plain = grads((q, k, v, i, f), state, one)
    moved = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v, i, f)]
    C, n, m = state
    turned = (C.mT.contiguous().mT, n, m)
    assert all(map(torch.equal, plain, grads(moved, turned, one)))
    wide = torch.stack([q, k, v[..., :8]], -1)  # every other stride three
    strided = (*wide.unbind(-1)[:2], v, i, f)
    assert all(map(torch.equal, plain, grads(strided, state, one)))
    same = q[:1, :1].detach().expand(2, 3, 70, 8)
    h, _ = chunkwise(32)(same, same, v, i, f)
    assert torch.equal(h, chunkwise(32)(same.contiguous(), same.contiguous(), v, i, f)[0])


def test_a_row_alone_equals_the_row_in_a_batch(draw):
    inputs, state = draw(15, (5, 3, 70, 8, 16), dtype=torch.float32)
    h, (C, _, _) = chunkwise(32)(*inputs, state)
    for row in range(5):
        part = slice(row, row + 1)
        alone, end = chunkwise(32)(*(x[part] for x in inputs), tuple(x[part] for x in state))
        # One row takes the same products in the same order.
        torch.testing.assert_close(alone, h[part], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(end[0], C[part], rtol=1e-5, atol=1e-5)


def test_an_empty_batch_gives_empty_outputs_and_gradients(draw):
    inputs, state = draw(16, (0, 2, 40, 4, 6), dtype=torch.float32)
    leaves = [x.requires_grad_() for x in (*inputs, *state)]
    h, end = chunkwise(16)(*leaves[:5], tuple(leaves[5:]))
    assert h.shape == (0, 2, 40, 6)
    assert end[0].shape == (0, 2, 4, 6)
    grads = torch.autograd.grad(h.sum() + end[0].sum(), leaves, allow_unused=True)
    assert [x.shape for x in grads] == [x.shape for x in leaves]


def test_two_runs_are_bit_equal_and_inputs_unchanged(draw, run_with_gradients):
    inputs, state = draw(17, (2, 5, 100, 8, 16), dtype=torch.float32)
    before = [x.clone() for x in (*inputs, *state)]
    first = run_with_gradients(chunkwise(32), inputs, state)
    second = run_with_gradients(chunkwise(32), inputs, state)
    assert all(map(torch.equal, first[0] + list(first[1]), second[0] + list(second[1])))
    assert all(map(torch.equal, before, (*inputs, *state)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rounds_only_what_goes_in_and_out(draw, error, dtype):
    (q, k, v, i, f), state = draw(18, (1, 2, 100, 16, 16), gates="study", dtype=torch.float32)
    half = [x.to(dtype).requires_grad_() for x in (q, k, v)]
    whole = [x.detach().float().requires_grad_() for x in half]
    h, end = chunkwise(32)(*half, i, f, state)
    true_h, true_end = chunkwise(32)(*whole, i, f, state)
    assert (h.dtype, end[0].dtype) == (dtype, torch.float32)
    assert torch.equal(h, true_h.to(dtype))
    assert all(map(torch.equal, end, true_end))
    grads = torch.autograd.grad(h.float().sum(), half)
    true = torch.autograd.grad(true_h.sum(), whole)
    # h is kept in its own dtype, so r = h . dh carries one rounding of it, and so does the result.
    unit = torch.finfo(dtype).eps
    assert max(map(error, grads, true)) < 2 * unit


def test_kept_statistics_are_float32_for_half_inputs(draw):
    (q, k, v, i, f), state = draw(19, (1, 2, 40, 8, 8), dtype=torch.float32)
    outputs = torch.ops.allometry.mlstm_chunkwise(
        q.bfloat16(), k.bfloat16(), v.bfloat16(), i, f, *state, 16, True, 1e-6, False, True, True
    )
    floats = [x.dtype for x in outputs[1:] if x.is_floating_point()]  # all but `attained_at`
    assert floats == [torch.float32] * 5


@pytest.mark.slow
def test_32k_tokens_stay_within_their_rounding_of_the_float64_recurrence(draw):
    inputs, state = draw(20, (1, 1, 32_768, 16, 16), gates="study", dtype=torch.float32)
    h, (C, _, m) = mlstm(*inputs, state=state, backend="chunkwise")
    exact = [x.double() for x in inputs]
    truth, (true_C, _, true_m) = reference.recurrent(*exact, tuple(x.double() for x in state))
    # A token is forgotten after 1 / (1 - sigma(f)), about 100 tokens: the error does not grow with
    # T. Bound: EPS32 * (16 + 64 + 3 chunks) terms, times the cancellation in s q . n that the
    # median over tokens does not feel and the maximum does.
    difference = (h.double() - truth).abs().amax(-1) / truth.abs().amax(-1)
    assert float(difference.median()) < 83 * EPS32
    assert float(difference.max()) < 1e4 * EPS32
    scaled, true = C.double() * m.double().exp()[..., None, None], true_C * true_m.exp()
    assert float((scaled - true).abs().max() / true.abs().max()) < 200 * EPS32


@pytest.mark.parametrize(("f", "time"), [(6.0, 65_536), (0.0, 65_536)])
def test_65k_tokens_do_not_overflow(f, time):
    rng = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn((1, 1, time, 4), generator=rng) for _ in range(3))
    gate = torch.zeros((1, 1, time))
    leaves = [x.requires_grad_() for x in (q, k, v, gate, gate + f)]
    h, _ = mlstm(*leaves, backend="chunkwise")
    grads = torch.autograd.grad(h.square().sum(), leaves)
    assert all(x.isfinite().all() for x in (h, *grads))


def test_the_op_passes_torch_opcheck(draw):
    inputs, state = draw(21, (2, 2, 20, 4, 6), dtype=torch.float32)
    leaves = [x.requires_grad_() for x in (*inputs, *state)]
    op = torch.ops.allometry.mlstm_chunkwise
    torch.library.opcheck(op, (*leaves, 8, True, 1e-6, False, True, True))


def test_no_state_is_the_empty_state(draw):
    inputs, _ = draw(23, (2, 2, 37, 5, 7))
    leaves = [x.requires_grad_() for x in inputs]
    q, v = leaves[0], leaves[2]
    empty = tuple(q.new_zeros((2, 2, *w)) for w in ((5, v.shape[-1]), (5,), ()))
    results = []
    for state in (None, empty):
        h, end = chunkwise(8)(*leaves, state)
        grads = torch.autograd.grad(h.square().sum() + end[0].sum(), leaves)
        results.append((h, *end, *grads))
    for ours, theirs in zip(*results, strict=True):
        # The same sums without the terms that are zero: in another order.
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_compiles_whole_and_once_for_all_lengths(draw):
    compiled = torch.compile(chunkwise(16), fullgraph=True, backend="aot_eager", dynamic=True)
    for time in (20, 33, 70, 128):
        inputs, state = draw(time, (2, 2, time, 4, 6), dtype=torch.float32)
        leaves = [x.requires_grad_() for x in (*inputs, *state)]
        results = []
        for form in (compiled, chunkwise(16)):
            h, end = form(*leaves[:5], tuple(leaves[5:]))
            results.append((h, *end, *torch.autograd.grad(h.sum() + end[0].sum(), leaves)))
        assert all(map(torch.equal, *results))


def test_what_is_kept_is_no_more_than_the_inputs_and_hardly_any_without_a_backward_pass(draw):
    inputs, state = draw(22, (1, 4, 2048, 64, 128), dtype=torch.float32)
    total = sum(x.numel() for x in inputs)
    for keep, most in ((True, 1.1), (False, 0.2)):
        options = (64, True, 1e-6, False, keep, True)
        *_, kept = torch.ops.allometry.mlstm_chunkwise(*inputs, *state, *options)
        assert kept.numel() < most * total
