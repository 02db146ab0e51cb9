import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allometry.accounting import (
    TransformerShape,
    XLSTMShape,
    causal_factor,
    count_params,
    mlstm_bytes_per_token,
    mlstm_flops_per_token,
    mlstm_forward_flops,
    mlstm_step_flops,
    optimal_chunk_size,
    preset,
    training_flops,
    training_flops_per_sequence,
    training_flops_per_token,
)
from allometry.errors import InputError

TINY_T = 128


def xlstm_tiny(chunk_size):
    return XLSTMShape(d_model=64, n_layers=2, n_heads=4, vocab_size=1000, chunk_size=chunk_size)


def test_tiny_transformer_is_what_was_counted_by_hand():
    flops = training_flops_per_sequence(preset("transformer-tiny"), TINY_T)
    forward = (flops.linear / 3, flops.sequence_mixing / 3, flops.other / 3)
    assert forward == (43_646_976, 4_521_984, 98_304)
    assert flops.total == 144_801_792
    full = training_flops_per_sequence(preset("transformer-tiny"), TINY_T, attention="chinchilla")
    assert full.sequence_mixing / 3 == 8_781_824


@pytest.mark.parametrize(
    ("count", "chunk_size", "forward"),
    [
        ("first", 64, 48_526_672),
        ("first", 128, 52_391_080),
        ("tfla", 64, 48_385_360),
        ("tfla", 128, 50_283_176),
    ],
)
def test_tiny_xlstm_is_what_was_counted_by_hand(count, chunk_size, forward):
    flops = training_flops_per_sequence(xlstm_tiny(chunk_size), TINY_T, mlstm=count)
    assert flops.linear / 3 == 43_925_504
    assert flops.total / 3 == forward


@pytest.mark.parametrize(
    ("name", "total", "parts"),
    [
        ("transformer-160m", 9_858_157_903_872, (6_073_620_627_456, 3_783_329_316_864)),
        ("xlstm-160m", 6_271_948_495_872, (6_166_256_025_600, 104_446_761_984)),
        ("transformer-7b", 380_508_366_176_256, None),
        ("xlstm-7b", 331_287_796_088_832, None),
    ],
)
def test_training_flops_at_8192_are_the_published_ones(name, total, parts):
    flops = training_flops_per_sequence(preset(name), 8192)
    assert flops.total == total
    assert parts is None or (flops.linear, flops.sequence_mixing) == parts


def test_training_flops_agree_with_the_vectors_in_every_mode(vectors, shape_from):
    for case in vectors:
        shape, T = shape_from(case["config"]), case["context"]
        flops = training_flops_per_sequence(shape, T)
        assert flops.linear == case["train_flops_linear"]
        assert flops.sequence_mixing == case["train_flops_sequence_mixing"]
        assert flops.other == case["train_flops_other"]
        assert flops.total == case["train_flops_per_sequence"]
        other = training_flops_per_sequence(shape, T, attention="chinchilla", mlstm="tfla").total
        if "train_flops_per_sequence_no_causality" in case:
            assert other == case["train_flops_per_sequence_no_causality"]
        else:
            assert other == case["train_flops_per_sequence_tfla_count"]


def test_training_flops_of_all_640_runs_follow_from_shape_and_context(study_runs, shape_from):
    assert len(study_runs) == 640
    for run in study_runs.to_dict("records"):
        # Every run, those whose chunk length is not in the logs included, used chunks of 64.
        counted = training_flops(
            shape_from(run), context_length=run["context_length"], tokens=run["tokens"]
        )
        # Three roundings here (product, quotient, product) and the table's own: 4 ulp.
        assert math.isclose(counted, run["flops"], rel_tol=4 * 2.3e-16), run["run_id"]


def test_mlstm_cell_is_what_was_counted_by_hand():
    assert mlstm_step_flops(8, 16) == 9 + 512 + 67 + 264 == 852
    assert TINY_T * 4 * mlstm_flops_per_token(8, 16, 64, causal_factor=0.75) == 1_721_768


@pytest.mark.parametrize(
    ("chunk_size", "flops", "moved"),
    [
        (16, 145_807, 18_768),
        (32, 153_079, 10_544),
        (64, 170_707, 6_432),
        (128, 207_505, 4_376),
        (256, 281_872, 3_348),
        (512, 430_991, 2_834),
        (1024, 729_423, 2_577),
    ],
)
def test_mlstm_flops_and_bytes_by_chunk_size(chunk_size, flops, moved):
    # The reference values are printed as whole numbers.
    assert mlstm_flops_per_token(128, 256, chunk_size) == pytest.approx(flops, abs=0.51)
    assert mlstm_bytes_per_token(128, 256, chunk_size) == pytest.approx(moved, abs=0.51)


@pytest.mark.parametrize(
    ("qk", "v", "half", "three_quarters", "one"),
    [(64, 128, 9, 7, 7), (128, 256, 13, 11, 9), (256, 512, 18, 15, 13)],
)
def test_optimal_chunk_size_is_the_best_whole_number(qk, v, half, three_quarters, one):
    for phi, expected in ((0.5, half), (0.75, three_quarters), (1.0, one)):
        best = min(range(1, 200), key=lambda L: mlstm_flops_per_token(qk, v, L, causal_factor=phi))
        assert best == expected
        assert abs(optimal_chunk_size(qk, v, causal_factor=phi) - best) < 1


def test_causal_factor_counts_the_tiles_on_and_below_the_diagonal():
    for tiles in (1, 2, 3, 8):
        below = sum(row + 1 for row in range(tiles))
        assert causal_factor(64 * tiles) == pytest.approx(below / tiles**2, rel=1e-15)
    assert causal_factor(16) == 1.0


def test_first_and_tfla_counts_of_the_cell_differ_by_3_percent_on_the_tiny_shape():
    first = mlstm_forward_flops(xlstm_tiny(64), TINY_T, count="first")
    tfla = mlstm_forward_flops(xlstm_tiny(64), TINY_T, count="tfla")
    assert first / tfla - 1 == pytest.approx(0.0324, abs=0.0005)


def test_a_last_short_chunk_is_counted_at_its_own_length():
    whole = mlstm_forward_flops(xlstm_tiny(64), 64)
    rest = mlstm_forward_flops(xlstm_tiny(32), 32)
    assert mlstm_forward_flops(xlstm_tiny(64), 2 * 64 + 32) == 2 * whole + rest


def test_exact_causal_attention_counts_the_diagonal_that_half_the_square_misses():
    shape = preset("transformer-tiny")
    exact = training_flops_per_sequence(shape, TINY_T, attention="exact_causal")
    study = training_flops_per_sequence(shape, TINY_T)
    ratio = exact.sequence_mixing / study.sequence_mixing
    assert ratio == pytest.approx(1 + 1 / TINY_T, rel=1e-12)


def test_exact_backward_of_the_cell_runs_and_keeps_the_forward():
    # Upstream's exact mode raises, and behind that drops the forward pass.
    shape = preset("xlstm-7b")
    twice = training_flops_per_sequence(shape, 8192)
    exact = training_flops_per_sequence(shape, 8192, backward="exact_cell")
    assert exact.linear == twice.linear
    # Matrix products: 4ac + 10Lac + L^2(6a + 4c) back, 2ac + 4Lac + 2L^2(a + c) forward.
    a, c, L = 256, 512, 64
    back = 4 * a * c + 10 * L * a * c + L * L * (6 * a + 4 * c)
    forward = twice.sequence_mixing / 3 / (32 * 8 * 8192 / L)
    measured = exact.sequence_mixing / (32 * 8 * 8192 / L)
    assert measured == pytest.approx(forward + back, rel=1e-12)
    assert 2.0 < back / forward < 2.5
    flat = training_flops_per_sequence(preset("transformer-7b"), 8192)
    assert flat == training_flops_per_sequence(
        preset("transformer-7b"), 8192, backward="exact_cell"
    )


def test_output_projection_flops_use_query_heads():
    # Upstream takes the key/value heads here.
    full = TransformerShape(d_model=512, n_layers=3, n_heads=8)
    grouped = TransformerShape(d_model=512, n_layers=3, n_heads=8, n_kv_heads=2)
    fewer = full.n_layers * full.d_model * 2 * (8 - 2) * 64  # keys and values only
    difference = training_flops_per_sequence(full, 100).linear
    difference -= training_flops_per_sequence(grouped, 100).linear
    assert difference == 3 * 2 * 100 * fewer
    mixing = [training_flops_per_sequence(s, 100).sequence_mixing for s in (full, grouped)]
    assert mixing[0] == mixing[1]


def test_head_flops_use_d_model_even_where_the_heads_are_narrower():
    # Upstream takes n_heads * head_dim for d_model at the output head.
    narrow = TransformerShape(d_model=512, n_layers=1, n_heads=4, head_dim=64)
    more = TransformerShape(d_model=512, n_layers=1, n_heads=4, head_dim=64, vocab_size=50_305)
    extra = training_flops_per_sequence(more, 10).linear
    extra -= training_flops_per_sequence(narrow, 10).linear
    assert extra == 3 * 2 * 10 * 512


def test_gate_projections_cost_a_multiply_and_an_add():
    # Upstream's inference count has half of it: 4dH a token and block is right.
    counts = count_params(preset("xlstm-tiny"))
    assert counts.terms["gate"] == 2 * 2 * 64 * 4  # 2 blocks, 2dH weights
    assert counts.multiplied_per_token >= counts.terms["gate"]


sizes = st.sampled_from(["transformer-160m", "xlstm-160m", "transformer-tiny", "xlstm-tiny"])


@given(name=sizes, T=st.integers(1, 20_000))
def test_per_token_times_context_is_per_sequence(name, T):
    shape = preset(name)
    per_token = training_flops_per_token(shape, T).total
    # One division and two additions away from the sum.
    assert per_token * T == pytest.approx(training_flops_per_sequence(shape, T).total, rel=1e-15)


@given(T=st.integers(1, 20_000))
def test_a_transformer_token_costs_more_in_a_longer_context_an_xlstm_token_does_not(T):
    attention = [training_flops_per_token(preset("transformer-160m"), t).total for t in (T, T + 64)]
    assert attention[0] < attention[1]
    whole = 64 * -(-T // 64)
    cell = [training_flops_per_token(preset("xlstm-160m"), t).total for t in (whole, whole + 64)]
    assert cell[0] == pytest.approx(cell[1], rel=1e-15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "flash"}, "attention must be one of distill_scaling"),
        ({"backward": "thrice"}, "backward must be one of twice"),
        ({"context_length": 0}, "context_length must be at least 1, got 0"),
    ],
)
def test_unknown_modes_and_empty_contexts_are_refused(options, message):
    arguments = {"context_length": 128} | options
    with pytest.raises(InputError, match=message):
        training_flops_per_sequence(preset("transformer-tiny"), **arguments)


def test_unknown_cell_count_and_negative_tokens_are_refused():
    with pytest.raises(InputError, match="mlstm must be one of first, tfla, got 'third'"):
        training_flops_per_sequence(preset("xlstm-tiny"), 128, mlstm="third")
    with pytest.raises(InputError, match="tokens must be positive"):
        training_flops(preset("xlstm-tiny"), context_length=128, tokens=0)
