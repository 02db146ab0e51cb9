import pytest
from hypothesis import given
from hypothesis import strategies as st

from allometry.accounting import TransformerShape, XLSTMShape, count_params, preset


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("transformer-160m", 162_220_800),
        ("transformer-400m", 406_635_520),
        ("transformer-7b", 6_863_196_160),
        ("transformer-1.4b", 1_420_396_544),
        ("xlstm-160m", 164_110_224),
        ("xlstm-400m", 406_856_896),
        ("xlstm-d2048-n24", 1_421_232_512),
        ("xlstm-7b", 6_865_424_896),
        ("xlstm-d4096-n32", 6_867_522_560),
        ("transformer-tiny", 234_816),
        ("xlstm-tiny", 235_984),
    ],
)
def test_total_is_the_published_count(name, published):
    assert count_params(preset(name)).total == published


def test_terms_of_the_tiny_xlstm_are_those_counted_by_hand():
    terms = count_params(preset("xlstm-tiny")).terms
    assert dict(terms) == {
        "query_key_value": 2 * 8192,
        "gate": 2 * 512,
        "gate_bias": 2 * 8,
        "output_gate": 2 * 4096,
        "head_norm": 2 * 64,
        "output_projection": 2 * 4096,
        "mixer_norm": 2 * 64,
        "feed_forward_norm": 2 * 64,
        "feed_forward": 2 * 36864,
        "embedding": 64_000,
        "head": 64_000,
        "final_norm": 64,
    }


def test_terms_cannot_be_changed():
    with pytest.raises(TypeError):
        count_params(preset("xlstm-tiny")).terms["head"] = 0


def test_the_three_counts_differ_by_embedding_and_head():
    counts = count_params(preset("transformer-tiny"))
    assert counts.total - counts.without_embedding == 64_000
    assert counts.without_embedding - counts.without_embedding_and_head == 64_000


def test_params_of_every_run_of_the_study_are_exact(study_runs, shape_from):
    counted = [count_params(shape_from(run)).total for run in study_runs.to_dict("records")]
    assert counted == study_runs.params.tolist()


def test_params_agree_with_the_vectors(vectors, shape_from):
    for case in vectors:
        assert count_params(shape_from(case["config"])).total == case["params"], case["config"]


def test_grouped_queries_shrink_keys_and_values_but_not_the_output_projection():
    full = count_params(TransformerShape(d_model=512, n_layers=1, n_heads=8)).terms
    grouped = count_params(TransformerShape(d_model=512, n_layers=1, n_heads=8, n_kv_heads=2)).terms
    assert grouped["output_projection"] == full["output_projection"] == 512 * 512
    assert grouped["query_key_value"] == 512 * (8 * 64 + 2 * 2 * 64)


@given(
    heads=st.integers(1, 8),
    head_dim=st.integers(1, 32).map(lambda half: 2 * half),
    n_layers=st.integers(1, 40),
    vocab_size=st.integers(1, 60_000),
)
def test_params_are_affine_in_depth_and_in_vocabulary(heads, head_dim, n_layers, vocab_size):
    for kind in (TransformerShape, XLSTMShape):

        def total(n, V, kind=kind):
            shape = kind(d_model=heads * head_dim, n_heads=heads, n_layers=n, vocab_size=V)
            return count_params(shape).total

        block = total(2, 7) - total(1, 7)
        rest = total(1, 7) - block - 2 * 7 * heads * head_dim
        assert rest == heads * head_dim  # the final norm
        expected = n_layers * block + 2 * vocab_size * heads * head_dim + rest
        assert total(n_layers, vocab_size) == expected
