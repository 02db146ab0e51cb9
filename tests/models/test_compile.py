"""torch.compile takes both models whole, and autocast leaves the gates alone."""

import pytest
import torch

from allometry.accounting import TransformerShape, XLSTMShape
from allometry.models import build, next_token_loss
from allometry.models import mixer as mixer_module

SHAPES = {
    "transformer": TransformerShape(d_model=32, n_layers=1, n_heads=4, n_kv_heads=2, vocab_size=64),
    "xlstm": XLSTMShape(d_model=32, n_layers=1, n_heads=2, vocab_size=64),
}
# torch 2.13 uses what it deprecates: inductor script methods, dynamo instances of a Function.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated"),
    pytest.mark.filterwarnings("ignore:.*Function.* should not be instantiated"),
]


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("architecture", SHAPES)
def test_a_compiled_training_step_is_one_graph_with_the_same_gradients(
    architecture, backend, lively, tokens_of, generator
):
    shape = SHAPES[architecture]
    model = lively(shape)
    tokens = tokens_of(shape, 2, 40, generator)
    starts = torch.zeros(2, 40, dtype=torch.bool)
    starts[:, 0] = starts[0, 9] = True

    def loss_of(tokens, starts):
        return next_token_loss(model, tokens, tokens, document_starts=starts)

    gradients = []
    for function in (loss_of, torch.compile(loss_of, fullgraph=True, backend=backend)):
        model.zero_grad()
        function(tokens, starts).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("architecture", SHAPES)
def test_compiled_prefill_and_steps_are_one_graph_each(architecture, lively, tokens_of, generator):
    shape = SHAPES[architecture]
    model = lively(shape)
    tokens = tokens_of(shape, 2, 12, generator)
    lengths = torch.tensor([8, 3])
    results = []
    for compiled in (False, True):
        prefill, step = model.prefill, model.step
        if compiled:
            prefill = torch.compile(prefill, fullgraph=True, backend="eager")
            step = torch.compile(step, fullgraph=True, backend="eager")
        logits, state = prefill(tokens[:, :8], lengths, max_length=12)
        for place in range(3):
            logits, state = step(tokens[:, place], state)
        results.append(logits)
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)


def test_a_compiled_model_is_not_compiled_again_for_every_length(tokens_of, generator):
    from torch._dynamo.testing import CompileCounter

    for shape in SHAPES.values():
        torch.compiler.reset()
        counter = CompileCounter()
        model = torch.compile(build(shape, seed=0), fullgraph=True, backend=counter)
        with torch.no_grad():
            for time in (20, 33, 47, 61):
                model(tokens_of(shape, 2, time, generator))
        assert counter.frame_count <= 2  # one for the first length, one for any length


def test_gates_are_float32_under_bfloat16_autocast(monkeypatch, tokens_of, generator):
    seen = {}
    cell = mixer_module.mlstm

    def watched(q, k, v, i, f, **options):
        seen.update(q=q.dtype, v=v.dtype, i=i, f=f.dtype)
        return cell(q, k, v, i, f, **options)

    monkeypatch.setattr(mixer_module, "mlstm", watched)
    shape = SHAPES["xlstm"]
    model = build(shape, seed=0)
    tokens = tokens_of(shape, 2, 40, generator)
    with torch.no_grad():
        model.blocks[0].mixer.gates.weight.normal_(0, 1, generator=generator)
        model(tokens)
        exact = seen["i"]
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(tokens)
    assert (seen["q"], seen["v"]) == (torch.bfloat16, torch.bfloat16)
    assert (seen["i"].dtype, seen["f"]) == (torch.float32, torch.float32)
    # The first block's input is the float32 embedding: bit for bit what it is without autocast.
    assert torch.equal(seen["i"], exact)
    assert logits.isfinite().all()


@pytest.mark.parametrize("architecture", SHAPES)
def test_bfloat16_training_stays_near_float32(architecture, tokens_of, generator):
    shape = SHAPES[architecture]
    tokens = tokens_of(shape, 2, 40, generator)
    losses = []
    for half in (False, True):
        model = build(shape, seed=0)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = next_token_loss(model, tokens, tokens)
        loss.backward()
        assert all(p.grad.dtype == torch.float32 for p in model.parameters())
        losses.append(loss.item())
    # Logits of 0.3 with 8 bits: 1e-3 each, averaged over 80 positions; a tenth of that is seen.
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)
