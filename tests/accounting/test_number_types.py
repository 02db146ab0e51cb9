"""Bytes of the types that tables of timings name."""

import pytest

from allometry.accounting import (
    BF16,
    decode_bytes,
    find_number_type,
    kv_cache_bytes,
    number_type,
    preset,
    state_bytes,
)
from allometry.errors import InputError


@pytest.mark.parametrize(
    ("text", "name", "bits"),
    [
        ("bfloat16", "16-bit", 16),
        ("torch.float16", "16-bit", 16),
        ("llama 7B F16", "16-bit", 16),
        ("16-bit", "16-bit", 16),
        ("float32", "float32", 32),
        ("all F32", "float32", 32),
        ("fp8_e4m3fn", "fp8", 8),
        ("float8", "fp8", 8),
        ("int8", "int8", 8),
        ("compressed-tensors w8a8", "int8", 8),
        ("w4a16", "int4", 4),
        ("AWQ", "int4", 4),
        ("int4 weights, bfloat16 activations", "int4", 4),
        ("nf4", "nf4", 4.5),
        # Bytes of a block in ggml: 34 for 32 weights, 18 for 32, 144 for 256, 210 for 256.
        ("llama 7B Q8_0", "q8_0", 34 * 8 / 32),
        ("llama 13B mostly Q4_0", "q4_0", 18 * 8 / 32),
        ("llama 8B Q4_K - Medium", "q4_k", 144 * 8 / 256),
        ("Q4_K_M", "q4_k", 144 * 8 / 256),
        ("qwen2 1.5B Q6_K", "q6_k", 210 * 8 / 256),
        ("gpt-oss 20B MXFP4 MoE", "mxfp4", 4.25),
        ("llama 7B IQ2_M - 2.7 bpw", "2.7bpw", 2.7),
    ],
)
def test_a_text_names_the_type_of_the_weights(text, name, bits):
    found = number_type(text)
    assert (found.name, found.weight_bits) == (name, pytest.approx(bits))
    assert number_type(found.name) == found  # the short name is one of its own names


@pytest.mark.parametrize("text", ["", "posit", "q9_z", "llama 7B", "9 bits", "f1632"])
def test_what_names_no_type_is_refused(text):
    assert find_number_type(text) is None
    with pytest.raises(InputError, match="no dtype"):
        number_type(text)


def test_narrow_weights_leave_cache_and_activations_their_width():
    shape, whole = preset("transformer-160m"), decode_bytes(preset("transformer-160m"), 100)
    narrow = decode_bytes(shape, 100, numbers=number_type("q8_0").numbers)
    assert narrow.weights == whole.weights * 8.5 / 16
    assert (narrow.cache, narrow.activations) == (whole.cache, whole.activations)


def test_float32_widens_all_but_a_recurrent_state():
    wide = number_type("float32").numbers
    transformer, xlstm = preset("transformer-160m"), preset("xlstm-160m")
    assert kv_cache_bytes(transformer, 9, numbers=wide) == 2 * kv_cache_bytes(transformer, 9)
    assert state_bytes(xlstm, numbers=wide) == state_bytes(xlstm)
    one, two = decode_bytes(transformer, 9, numbers=wide), decode_bytes(transformer, 9)
    assert (one.weights, one.activations) == (2 * two.weights, 2 * two.activations)


def test_sixteen_bits_are_what_is_meant_where_nothing_is_said():
    assert number_type("bf16").numbers == number_type("float16").numbers == BF16
