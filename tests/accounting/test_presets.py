import pytest

from allometry.accounting import preset, preset_names
from allometry.errors import InputError


def test_every_trained_shape_of_the_study_has_a_name(study_runs):
    columns = ["architecture", "d_model", "n_layers", "n_heads", "d_ff"]
    named = {tuple(getattr(preset(name), column) for column in columns) for name in preset_names()}
    trained = set(study_runs[columns].itertuples(index=False, name=None))
    assert trained <= named


def test_names_say_what_they_name():
    for name in preset_names():
        shape = preset(name)
        assert name.startswith(f"{shape.architecture}-")
        if "-d" in name:
            assert name == f"{shape.architecture}-d{shape.d_model}-n{shape.n_layers}"


def test_widths_of_the_measured_models_give_their_params():
    # Upstream's inference table lists other feed-forward widths for five models.
    assert preset("transformer-7b").d_ff == 10_944
    assert preset("transformer-400m").d_ff == 2_752
    assert preset("xlstm-160m").d_ff == 2_112


def test_an_unknown_name_lists_near_ones():
    with pytest.raises(InputError, match="no preset named 'xlstm-6b'") as caught:
        preset("xlstm-6b")
    assert "xlstm-7b" in caught.value.hint


def test_a_name_like_no_preset_is_answered_with_a_few_and_where_all_are():
    with pytest.raises(InputError) as caught:
        preset("nosuch")
    assert "xlstm-7b" in caught.value.hint
    assert "allometry account --list" in caught.value.hint
    assert len(caught.value.hint) < 400
