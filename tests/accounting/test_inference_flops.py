import pytest
from hypothesis import given
from hypothesis import strategies as st

from allometry.accounting import (
    TransformerShape,
    count_params,
    decode_flops,
    prefill_flops,
    preset,
)
from allometry.errors import InputError


def test_decode_of_a_transformer_is_what_was_counted_by_hand():
    assert decode_flops(preset("transformer-tiny"), 129, batch_size=2).total == 814_080
    # Printed to six digits.
    large = decode_flops(preset("transformer-7b"), 2049, batch_size=8).total
    assert large == pytest.approx(1.15104e11, rel=5e-6)


def test_prefill_agrees_with_the_vectors_after_their_stated_factors(vectors, shape_from):
    for case in vectors:
        shape, T, B = shape_from(case["config"]), case["context"], case["batch_size"]
        ours = prefill_flops(shape, T, batch_size=B, mlstm_causal_factor=0.75)
        final_norm = 3 * B * shape.d_model  # not counted upstream in a prefill
        expected = case["prefill_flops"] + final_norm
        if case["config"]["architecture"] == "transformer":
            # Upstream counts 0.65 T^2 scores; a causal mask leaves T (T + 1) / 2.
            per_score = B * shape.n_layers * shape.n_heads * (4 * shape.head_dim + 5)
            expected += per_score * (T * (T + 1) / 2 - 0.65 * T * T)
        # Sums of a few numbers below 2^50, one of them rounded by 0.65: a few ulp.
        assert ours.with_elementwise == pytest.approx(expected, rel=1e-14)


def test_decode_agrees_with_the_vectors(vectors, shape_from):
    for case in vectors:
        shape, B = shape_from(case["config"]), case["batch_size"]
        ours = decode_flops(shape, case["context"] + 1, batch_size=B)
        # Upstream counts the final norm of an xLSTM and not that of a Transformer.
        transformer = case["config"]["architecture"] == "transformer"
        final_norm = 3 * B * shape.d_model if transformer else 0
        assert ours.with_elementwise - final_norm == case["decode_flops_next_token"]


def test_a_prompt_read_at_once_costs_what_its_steps_cost_less_their_heads():
    # Attention over exact pairs: no factor on the square, and none in generation.
    shape, T = preset("transformer-tiny"), 37
    steps = sum(decode_flops(shape, t).total for t in range(1, T + 1))
    spared = 2 * (T - 1) * count_params(shape).terms["head"]
    assert prefill_flops(shape, T).total == steps - spared


def test_a_decode_step_is_one_token_whatever_came_before():
    # Upstream's step is the whole generation undivided: a second token would double it.
    shape = preset("transformer-160m")
    first, second = decode_flops(shape, 2049).total, decode_flops(shape, 2050).total
    assert second - first == 4 * shape.n_layers * shape.n_heads * shape.head_dim


def test_grouped_queries_do_not_change_attention_flops():
    full = TransformerShape(d_model=512, n_layers=2, n_heads=8)
    grouped = TransformerShape(d_model=512, n_layers=2, n_heads=8, n_kv_heads=1)
    at = 300
    assert decode_flops(full, at).sequence_mixing == decode_flops(grouped, at).sequence_mixing
    saved = decode_flops(full, at).linear - decode_flops(grouped, at).linear
    assert saved == 2 * 2 * 512 * 2 * 7 * 64


@given(T=st.integers(1, 5_000), B=st.integers(1, 64))
def test_inference_flops_are_proportional_to_the_batch(T, B):
    for name in ("transformer-tiny", "xlstm-tiny"):
        shape = preset(name)
        for count in (prefill_flops, decode_flops):
            assert count(shape, T, batch_size=B).linear == B * count(shape, T).linear
            assert count(shape, T, batch_size=B).total == pytest.approx(
                B * count(shape, T).total, rel=1e-14
            )


@pytest.mark.parametrize("count", [prefill_flops, decode_flops])
def test_empty_prompt_or_batch_is_refused(count):
    with pytest.raises(InputError, match="context_length must be at least 1"):
        count(preset("xlstm-tiny"), 0)
    with pytest.raises(InputError, match="batch_size must be at least 1"):
        count(preset("xlstm-tiny"), 1, batch_size=0)
