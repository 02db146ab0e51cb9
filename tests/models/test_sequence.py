"""What a sequence model must keep, whichever of the two it is."""

from itertools import pairwise

import pytest
import torch

from allometry.accounting import TransformerShape
from allometry.errors import InputError
from allometry.models import build
from allometry.models.attention import attend, document_mask, flex_document_mask

# float64 with values of order 1 through at most 3 blocks and 100 tokens: rounding of 1e-16 grows
# by conditioning and sums, far below this; a wrong token, position or mask is 1e-2 and more.
EXACT = {"rtol": 1e-9, "atol": 1e-9}


@torch.no_grad()
def test_a_token_never_sees_a_later_one(shape, lively, tokens_of, generator):
    model = lively(shape)
    tokens = tokens_of(shape, 2, 70, generator)
    changed = tokens.clone()
    changed[:, 50] = (tokens[:, 50] + 1) % shape.vocab_size
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :50], after[:, :50])
    assert ((before - after)[:, 50:].abs().amax(-1) > 1e-6).all()  # and every later one does


@torch.no_grad()
def test_a_row_does_not_depend_on_the_rows_beside_it(shape, lively, tokens_of, generator):
    model = lively(shape)
    tokens = tokens_of(shape, 3, 33, generator)
    together = model(tokens)
    for row in range(3):
        torch.testing.assert_close(together[row], model(tokens[row : row + 1])[0], **EXACT)


@torch.no_grad()
def test_packed_documents_equal_the_documents_one_by_one(shape, lively, tokens_of, generator):
    model = lively(shape)
    cuts = ((0, 17, 18, 60), (0, 41, 60))
    tokens = tokens_of(shape, 2, 60, generator)
    starts = torch.zeros(2, 60, dtype=torch.bool)
    for row, places in enumerate(cuts):
        starts[row, list(places[:-1])] = True
    packed = model(tokens, document_starts=starts)
    # The study's reset scales the old state by e^-25; against a new token whose input gate is 8
    # lower than the loudest old one, e^-17 = 4e-8 is left, and 3 blocks add up. The mask is exact.
    tolerance = EXACT if isinstance(shape, TransformerShape) else {"rtol": 1e-6, "atol": 1e-6}
    for row, places in enumerate(cuts):
        for start, end in pairwise(places):
            alone = model(tokens[row : row + 1, start:end])[0]
            torch.testing.assert_close(packed[row, start:end], alone, **tolerance)
    assert (packed - model(tokens))[0, 18:].abs().max() > 1e-3  # without marks it is another text


@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
def test_query_heads_share_key_heads_in_runs(n_kv_heads, generator):
    q = torch.randn(2, 4, 9, 6, generator=generator, dtype=torch.float64)
    k, v = torch.randn(2, 2, n_kv_heads, 9, 6, generator=generator, dtype=torch.float64)
    grouped = attend(q, k, v, None)
    repeats = 4 // n_kv_heads
    full = attend(q, k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1), None)
    torch.testing.assert_close(grouped, full, **EXACT)


def test_attention_equals_its_definition(generator):
    q, k, v = torch.randn(3, 2, 4, 9, 6, generator=generator, dtype=torch.float64)
    scores = q @ k.transpose(-1, -2) / 6**0.5
    scores = scores.masked_fill(torch.ones(9, 9, dtype=torch.bool).triu(1), -torch.inf)
    torch.testing.assert_close(attend(q, k, v, None), scores.softmax(-1) @ v, **EXACT)


# FlexAttention warns that it is not compiled; compiling it would need a C++ compiler here.
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_mask_equals_the_dense_mask(generator):
    from torch.nn.attention.flex_attention import flex_attention

    starts = torch.zeros(2, 40, dtype=torch.bool)
    starts[0, [0, 7, 30]] = True
    starts[1, 0] = True
    q, k, v = torch.randn(3, 2, 4, 40, 8, generator=generator)
    dense = attend(q, k[:, :2], v[:, :2], document_mask(starts))
    flexed = flex_attention(
        q, k[:, :2], v[:, :2], block_mask=flex_document_mask(starts.cumsum(1)), enable_gqa=True
    )
    # float32: a softmax of 40 terms and a dot product of 8 in another order, a few ulps of 1.
    torch.testing.assert_close(flexed, dense, rtol=1e-5, atol=1e-5)


def test_rotary_attention_depends_on_distance_alone(generator):
    from allometry.models.layers import rotary_angles, rotate

    q, k = torch.randn(2, 16, generator=generator, dtype=torch.float64)

    def score(query_at, key_at):
        places = torch.tensor([query_at, key_at])
        cos, sin = rotary_angles(places, 16, 500_000.0, torch.float64)
        return rotate(q, cos[0], sin[0]) @ rotate(k, cos[1], sin[1])

    # An angle of 8005 has a rounding of 1e-12.
    torch.testing.assert_close(score(5, 2), score(8005, 8002), **EXACT)
    assert (score(5, 2) - score(5, 3)).abs() > 1e-2


def test_wrong_tokens_are_named(shape):
    model = build(shape, seed=0)
    with pytest.raises(InputError, match=r"\(batch, time\).*got \(3,\)"):
        model(torch.zeros(3, dtype=torch.int64))
    with pytest.raises(InputError, match=r"torch\.float32"):
        model(torch.zeros(1, 3))
    with pytest.raises(InputError, match=r"document_starts must be bool \(1, 3\)") as caught:
        model(torch.zeros(1, 3, dtype=torch.int64), document_starts=torch.zeros(1, 3))
    assert "first token of each document" in caught.value.hint
