import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allometry.errors import InputError
from allometry.observations.columns import map_columns, parse_number, recognise

NAMES = {
    "params": ["N", "num_params", "params_active_precise", "parameter_count", "Model Size"],
    "tokens": ["D", "train_tokens", "train_tokens_seen", "Training Tokens", "tokens_seen"],
    "flops": ["C", "budget", "Training FLOP", "total_flops"],
    "loss": ["val_loss", "eval/loss", "final_loss", "val/loss", "Validation Loss"],
    "context_length": ["ctx", "seq_len", "max_seq_len", "n_ctx"],
    "architecture": ["arch", "model_family"],
}


@pytest.mark.parametrize(("target", "name"), [(t, n) for t, names in NAMES.items() for n in names])
def test_names_people_use_are_known(target, name):
    assert recognise(name) == (target, 1.0)


@pytest.mark.parametrize("name", ["train_loss", "perplexity", "temperature", "loss_stddev", "nb"])
def test_other_names_are_not_guessed(name):
    assert recognise(name) is None


@pytest.mark.parametrize("name", ["params_b", "Params (B)", "num_params_billions", "params in bn"])
def test_a_unit_in_the_name_scales(name):
    assert recognise(name) == ("params", 1e9)


@given(
    mantissa=st.decimals("0.001", "999", places=3),
    unit=st.sampled_from([("K", 3), ("m", 6), ("B", 9), ("bn", 9), (" T", 12), (" million", 6)]),
)
def test_text_with_a_unit_is_the_exact_number(mantissa, unit):
    word, power = unit
    # Both sides round once or twice in float64: four ulps leave room for that and nothing else.
    expected = float(mantissa.scaleb(power))
    assert parse_number(f"{mantissa}{word}") == pytest.approx(expected, rel=4 * 2.0**-52)


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_a_printed_float_is_read_back_exactly(value):
    assert parse_number(repr(value)) == value


@given(text=st.text(max_size=12))
def test_any_text_gives_a_number_or_nan(text):
    assert isinstance(parse_number(text), float)


@pytest.mark.parametrize("text", ["2,8B", "about 7", "1.2.3", "B", "7 bananas", "", True, None, []])
def test_what_is_not_a_number_is_nan(text):
    assert math.isnan(parse_number(text))


def test_k_is_1024_in_context_lengths_only():
    assert parse_number("8k", kind="context_length") == 8192
    assert parse_number("8k", kind="params") == 8000


def test_flops_know_zetta():
    assert parse_number("3.2 ZFLOPs", kind="flops") == pytest.approx(3.2e21)
    assert math.isnan(parse_number("3.2Z", kind="params"))


def test_two_candidates_that_differ_are_asked_for():
    table = pd.DataFrame({"loss": [3.0], "eval/loss": [3.1]})
    with pytest.raises(
        InputError, match="loss could be 'loss' or 'eval/loss', and they differ"
    ) as e:
        map_columns(table)
    assert 'aliases={"eval/loss": "loss"}' in e.value.hint


def test_the_canonical_name_wins_with_a_warning():
    table = pd.DataFrame({"budget": [1e18, 3e18], "flops": [1.01e18, 2.98e18]})
    mapping = map_columns(table)
    assert mapping.canonical == {}
    assert mapping.warnings == ("'flops' is read as flops; 'budget' differs and is left as it is",)


def test_two_candidates_that_agree_are_not():
    table = pd.DataFrame({"params": [1e9, 2e9], "Params (B)": [1.0, 2.0]})
    assert map_columns(table).canonical == {}


def test_an_alias_decides():
    table = pd.DataFrame({"loss": [3.0], "eval/loss": [3.1]})
    assert map_columns(table, aliases={"eval/loss": "loss"}).canonical == {"eval/loss": "loss"}


def test_optional_columns_that_could_be_one_are_left_alone_and_said():
    table = pd.DataFrame({"name": ["a"], "id": ["b"]})
    mapping = map_columns(table)
    assert mapping.canonical == {}
    assert mapping.warnings == ("'name', 'id' could each be run_id and differ; left as they are",)


def test_an_alias_must_name_a_column():
    with pytest.raises(InputError, match="no column 'foo'; found loss"):
        map_columns(pd.DataFrame({"loss": [1.0]}), aliases={"foo": "loss"})
