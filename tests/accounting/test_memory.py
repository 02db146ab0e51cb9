import pytest
from hypothesis import given
from hypothesis import strategies as st

from allometry.accounting import (
    NumberBytes,
    TransformerShape,
    break_even_context,
    cache_bytes,
    count_params,
    decode_bytes,
    kv_cache_bytes,
    kv_cache_bytes_per_token,
    mlstm_bytes_per_token,
    prefill_bytes,
    preset,
    state_bytes,
)
from allometry.errors import InputError


def test_cache_and_state_are_the_published_ones():
    assert kv_cache_bytes_per_token(preset("transformer-7b")) == 524_288
    assert kv_cache_bytes_per_token(preset("transformer-160m")) == 36_864
    assert state_bytes(preset("xlstm-7b")) == 134_480_896


def test_cache_and_state_agree_with_the_vectors(vectors, shape_from):
    for case in vectors:
        shape, T, B = shape_from(case["config"]), case["context"], case["batch_size"]
        expected = case.get("kv_cache_bytes", case.get("state_bytes"))
        assert cache_bytes(shape, T, batch_size=B) == expected


def test_decode_bytes_are_what_was_counted_by_hand():
    tiny = decode_bytes(preset("transformer-tiny"), 129, batch_size=2)
    assert tiny.weights + tiny.cache_read == 473_088
    large = decode_bytes(preset("transformer-7b"), 2049, batch_size=8)
    assert large.weights + large.cache_read == pytest.approx(2.19079e10, rel=5e-6)  # six digits
    xlstm = decode_bytes(preset("xlstm-tiny"), 129, batch_size=2)
    assert xlstm.total == 380_224
    assert xlstm.embedding == 256
    cell = 2 * 2 * 2 * 4 * (2 * 8 + 2 * 16 + 2)  # q, k, v, h and two gates of 2 bytes
    assert xlstm.cache + cell == 19_136


def test_decode_bytes_agree_with_the_vectors(vectors, shape_from):
    for case in vectors:
        shape, B = shape_from(case["config"]), case["batch_size"]
        moved = decode_bytes(shape, case["context"] + 1, batch_size=B)
        # The vectors do not read back the key and value that the step has just written.
        reread = moved.cache_write if isinstance(shape, TransformerShape) else 0
        assert moved.total - reread == case["decode_bytes_next_token"]


def test_prefill_bytes_agree_with_the_vectors(vectors, shape_from):
    for case in vectors:
        shape = shape_from(case["config"])
        moved = prefill_bytes(shape, case["context"], batch_size=case["batch_size"])
        assert moved.total == case["prefill_bytes"]


@given(B=st.integers(1, 256), t=st.integers(1, 20_000))
def test_weights_are_read_once_a_step_whatever_the_batch(B, t):
    # Upstream's Transformer step reads a hundredth of the weights.
    for name in ("transformer-7b", "xlstm-7b"):
        shape = preset(name)
        moved = decode_bytes(shape, t, batch_size=B)
        assert moved.weights == 2 * count_params(shape).multiplied_per_token
        alone = decode_bytes(shape, t)
        assert moved.cache == B * alone.cache
        assert moved.activations == B * alone.activations
        parts = moved.weights + moved.scales + moved.embedding + moved.cache + moved.activations
        assert moved.total == parts


def test_a_cache_grows_by_one_token_and_a_state_does_not():
    shape = preset("transformer-160m")
    assert kv_cache_bytes(shape, 11) - kv_cache_bytes(shape, 10) == kv_cache_bytes_per_token(shape)
    assert cache_bytes(preset("xlstm-160m"), 10) == cache_bytes(preset("xlstm-160m"), 100_000)
    assert decode_bytes(preset("xlstm-160m"), 10) == decode_bytes(preset("xlstm-160m"), 100_000)


def test_grouped_queries_shrink_the_cache_in_proportion():
    full = TransformerShape(d_model=512, n_layers=2, n_heads=8)
    grouped = TransformerShape(d_model=512, n_layers=2, n_heads=8, n_kv_heads=2)
    assert kv_cache_bytes(full, 100) == 4 * kv_cache_bytes(grouped, 100)


def test_break_even_contexts_at_7b():
    pair = preset("transformer-7b"), preset("xlstm-7b")
    assert round(break_even_context(*pair)) == 257
    assert round(break_even_context(*pair, quantity="traffic")) == 513
    at = break_even_context(*pair)
    assert cache_bytes(pair[0], int(at)) < state_bytes(pair[1]) < cache_bytes(pair[0], int(at) + 1)


def test_number_widths_scale_what_they_name():
    shape, half = preset("xlstm-tiny"), NumberBytes(weight=1, activation=2, state=2)
    assert state_bytes(shape, numbers=half) * 2 == state_bytes(shape)
    assert 2 * decode_bytes(shape, 1, numbers=half).weights == decode_bytes(shape, 1).weights
    with pytest.raises(InputError, match="must be positive"):
        NumberBytes(weight=0)


def test_cell_bytes_without_states_leave_the_states_out():
    whole, part = mlstm_bytes_per_token(128, 256, 64), mlstm_bytes_per_token(128, 256, None)
    assert whole - part == 2 * 4 * (128 * 256 + 128 + 1) / 64


def test_empty_batches_and_unknown_quantities_are_refused():
    with pytest.raises(InputError, match="batch_size must be at least 1"):
        decode_bytes(preset("xlstm-tiny"), 1, batch_size=0)
    with pytest.raises(InputError, match="quantity must be size or traffic"):
        break_even_context(preset("transformer-7b"), preset("xlstm-7b"), quantity="speed")
