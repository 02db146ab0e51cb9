import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allometry.errors import InputError
from allometry.observations.cells import parse_number, parse_numbers
from allometry.observations.columns import map_columns, recognise

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


@pytest.mark.parametrize(
    "name", ["params_b", "Params (B)", "num_params_billions", "params in bn", "Parameter (Mrd.)"]
)
def test_a_unit_in_the_name_scales(name):
    assert recognise(name) == ("params", 1e9)


@pytest.mark.parametrize(
    ("name", "target", "multiplier"),
    [
        ("N (B)", "params", 1e9),
        ("D [tokens]", "tokens", 1.0),
        ("Tokens (1e9)", "tokens", 1e9),
        ("FLOPs (EFLOPs)", "flops", 1e18),
        ("C (10^18)", "flops", 1e18),
        ("C (FLOPs)", "flops", 1.0),
        ("compute (PF-days)", "flops", 8.64e19),
        ("Loss (nats/token)", "loss", 1.0),
        ("val loss [bits]", "loss", math.log(2)),
        ("throughput/total_gflops", "flops", 1e9),
    ],
)
def test_a_unit_in_brackets_scales(name, target, multiplier):
    assert recognise(name) == (target, pytest.approx(multiplier, rel=1e-15))


@pytest.mark.parametrize("name", ["loss (train)", "tflops", "D (model B)", "flops (s)"])
def test_what_stands_in_brackets_must_be_a_unit(name):
    assert recognise(name) is None


def test_settings_are_found_at_the_end_of_a_path():
    columns = ["run/config/num_parameters", "train/num_input_tokens_seen", "train.total_flos"]
    table = pd.DataFrame({name: [1.0] for name in [*columns, "train/loss", "eval/num_tokens"]})
    assert map_columns(table).canonical == dict(
        zip(columns, ("params", "tokens", "flops"), strict=True)
    )


def test_a_column_by_its_own_name_comes_before_a_path():
    table = pd.DataFrame({"config/params": [1.0], "N": [2.0]})
    assert map_columns(table).canonical == {"N": "params"}


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


@pytest.mark.parametrize(
    ("kind", "cells", "numbers"),
    [
        ("params", ["39.528.471", "1.234"], [39528471, 1234]),  # one cell tells for the column
        ("params", ["39,53 M", "7 B"], [39.53e6, 7e9]),
        ("tokens", ["1.234,5", "12,25"], [1234.5, 12.25]),
        ("tokens", ["25\u202f298\u202f221", "6\xa0324"], [25298221, 6324]),
        ("tokens", ["25'298'221", "6’324"], [25298221, 6324]),
        ("tokens", ["25,298,221", "6,324"], [25298221, 6324]),
        ("tokens", ["6,324", "7,125"], [6324, 7125]),  # thousands, as a count is read in English
        ("loss", ["3,016", "2,951"], [3.016, 2.951]),  # which a loss does not have
        ("loss", ["3,0160", "2,9"], [3.016, 2.9]),
    ],
)
def test_marks_of_other_countries_are_read(kind, cells, numbers):
    found, read = parse_numbers(pd.Series(cells), kind=kind)
    assert found.tolist() == pytest.approx(numbers, rel=1e-15)
    assert set(read) >= {cell for cell in cells if not cell.isdigit()}


@pytest.mark.parametrize("cells", [["1.5", "2,5"], ["1,000,000", "2,5"], ["12,34,567"]])
def test_marks_that_contradict_each_other_are_not_read(cells):
    assert parse_numbers(pd.Series(cells), kind="params")[0].isna().any()


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
