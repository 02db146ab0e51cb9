import hashlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allometry.errors import InputError
from allometry.observations import TABLES, count_groups, read_runs


def test_a_clean_table_passes_without_a_word(clean_runs):
    runs = read_runs(clean_runs)
    pd.testing.assert_frame_equal(runs.table, clean_runs, check_dtype=False)
    assert runs.warnings == ()
    assert runs.excluded == ()
    assert runs.mapped == {}
    assert runs.by == ("architecture", "context_length")
    types = {name: str(dtype) for name, dtype in runs.table.dtypes.items()}
    assert types["context_length"] == "int64"
    assert {types[name] for name in ("params", "tokens", "flops", "loss")} == {"float64"}


def test_the_frame_of_the_caller_is_not_changed(clean_runs):
    before = clean_runs.copy(deep=True)
    read_runs(clean_runs.rename(columns={"params": "N"}), exclude="loss > 3")
    pd.testing.assert_frame_equal(clean_runs, before)


def test_foreign_names_and_texts_are_mapped_and_said():
    table = pd.DataFrame(
        {
            "Params (B)": ["2.8", "7"],
            "Tokens": ["300B", "1.4T"],
            "val/loss": [2.3, 2.1],
            "seq_len": ["2k", "4096"],
            "arch": ["Transformer", "transformer "],
            "colour": ["red", "blue"],
        }
    )
    runs = read_runs(table)
    assert runs.mapped == {
        "Params (B)": "params",
        "Tokens": "tokens",
        "val/loss": "loss",
        "seq_len": "context_length",
        "arch": "architecture",
    }
    assert runs.table["params"].tolist() == [2.8e9, 7e9]
    assert runs.table["tokens"].tolist() == [3e11, 1.4e12]
    assert runs.table["context_length"].tolist() == [2048, 4096]
    assert runs.table["architecture"].tolist() == ["transformer", "transformer"]
    assert runs.table["colour"].tolist() == ["red", "blue"]
    said = "\n".join(runs.warnings)
    assert "'Params (B)' multiplied by 1e+09 to give params" in said
    assert "tokens: text read as numbers, such as '300B' as 3e+11" in said
    assert "architecture 'Transformer' read as 'transformer' (1 rows)" in said
    assert "no column flops" in said
    assert "flops" not in runs.table


def test_params_times_tokens_does_not_overflow():
    # 1e11 * 1e13 passes 2**63, where whole numbers of 64 bits wrap round.
    table = pd.DataFrame({"params": [10**11], "tokens": [10**13], "loss": [2.0]})
    runs = read_runs(table)
    assert (runs.table["params"] * runs.table["tokens"]).tolist() == [1e24]


def test_all_broken_rules_are_in_one_error():
    table = pd.DataFrame(
        {
            "params": [1e8, "abc", -1, 1e8, 4e8, 5e8, 6e8],
            "tokens": [1e9, 1e9, 1e9, None, 1e9, 1e9, 1e9],
            "loss": [-1, 0, float("inf"), float("nan"), -2, -3, -4],
            "ctx": [2048, 2048, 2048.5, 2048, None, 2048, 2048],
        }
    )
    with pytest.raises(InputError) as error:
        read_runs(table)
    assert str(error.value) == (
        "table: params is not a number, got 'abc' (row 1); "
        "params must be positive and finite, got -1 (row 2); tokens is missing (row 3); "
        "loss is missing (row 3); "
        "loss must be positive and finite, got -1, 0, inf ... (row 0, 1, 2, 4, 5 and 1 more); "
        "context_length is missing (row 4); "
        "context_length must be a whole number of tokens, 1 or more, got 2048.5 (row 2)"
    )
    assert "log-likelihood" in error.value.hint


@settings(max_examples=30)
@given(
    row=st.integers(0, 29),
    column=st.sampled_from(["params", "tokens", "loss", "flops"]),
    value=st.sampled_from([0.0, -1.0, float("nan"), float("inf"), "n/a", "?"]),
)
def test_one_bad_cell_is_named_wherever_it_is(row, column, value, simulate):
    table = simulate().astype({column: object})
    table.loc[row, column] = value
    with pytest.raises(InputError, match=rf"{column} .*\(row {row}\)"):
        read_runs(table)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"N": 1e8, "D": 1e9}, "no column loss; found N, D"),
        ({"N": 1e8, "D": 1e9, "train_loss": 3.0}, "'train_loss' is the training loss"),
        ({"N": 1e8, "D": 1e9, "ppl": 20.0}, "'ppl' is a perplexity: its natural log"),
        (
            {"non_embedding_params": 1e8, "D": 1e9, "loss": 3.0},
            "'non_embedding_params' is a count that lacks the embeddings",
        ),
        ({"N": 1e8, "D": 1e9, "loss": 3.0, "eval/loss": 3.1}, "'loss' or 'eval/loss'"),
    ],
)
def test_a_missing_or_unclear_column_is_asked_for(columns, message):
    with pytest.raises(InputError, match=message) as error:
        read_runs(pd.DataFrame({name: [value] for name, value in columns.items()}))
    assert "alias" in error.value.hint


def test_a_table_of_many_columns_is_not_listed_whole():
    table = pd.DataFrame({f"metric_{index}": [1.0] for index in range(200)})
    with pytest.raises(InputError, match=r"metric_29 and 170 more$"):
        read_runs(table)


def test_a_gap_is_answered_with_the_condition_that_leaves_it_out(clean_runs):
    table = clean_runs.assign(loss=clean_runs["loss"].mask(clean_runs.index == 3))
    with pytest.raises(InputError) as error:
        read_runs(table)
    assert 'exclude="loss is None"' in error.value.hint
    assert len(read_runs(table, exclude="loss is None").table) == len(table) - 1


def test_aliases_answer_the_question(clean_runs):
    table = clean_runs.assign(**{"eval/loss": clean_runs["loss"] + 0.1})
    runs = read_runs(table, aliases={"eval/loss": "loss"})
    np.testing.assert_array_equal(runs.table["loss"], table["eval/loss"])
    np.testing.assert_array_equal(runs.table["loss_2"], table["loss"])  # kept, out of the way
    assert runs.mapped == {"eval/loss": "loss"}


def test_duplicated_runs_are_an_error_that_names_the_rows(clean_runs):
    table = pd.concat([clean_runs, clean_runs.iloc[[4, 4, 9]]], ignore_index=True)
    with pytest.raises(InputError, match=r"2 run\(s\) .*: row 4, 30, 31; row 9, 32") as refused:
        read_runs(table)
    assert "--exclude duplicates" in refused.value.hint
    table.loc[2, "loss"] = -1.0
    with pytest.raises(InputError, match=r"loss must .*row 2.*: row 4, 30, 31; row 9, 32"):
        read_runs(table)


def test_duplicated_runs_are_left_out_when_asked_and_recorded(clean_runs):
    table = pd.concat([clean_runs, clean_runs.iloc[[4, 4, 9]]], ignore_index=True)
    runs = read_runs(table, exclude=["duplicates", "loss < 0"])
    pd.testing.assert_frame_equal(runs.table, read_runs(clean_runs).table)
    assert [row.row for row in runs.excluded] == [30, 31, 32]
    assert all(row.reason.startswith("duplicate: equal to an earlier") for row in runs.excluded)


def test_a_seed_tells_repetitions_apart(clean_runs):
    table = pd.concat([clean_runs.assign(seed=0), clean_runs.assign(seed=1)])
    assert len(read_runs(table).table) == 60


def test_equal_runs_of_two_groups_are_two_runs(clean_runs):
    table = pd.concat([clean_runs, clean_runs.assign(architecture="other")])
    assert len(read_runs(table).table) == 60


def test_diverged_runs_are_left_out_and_said(clean_runs):
    table = clean_runs.assign(
        diverged=["yes", "no"] + ["no"] * 28, run_id=[f"r{i}" for i in range(30)]
    )
    table.loc[0, "loss"] = np.nan
    runs = read_runs(table)
    assert [(e.row, e.run_id, e.reason) for e in runs.excluded] == [(0, "r0", "diverged")]
    assert len(runs.table) == 29
    assert runs.table.index.tolist() == list(range(29))


def test_exclusions_come_before_the_rules_and_are_recorded(clean_runs):
    table = clean_runs.astype({"loss": object})
    table.loc[3, "loss"] = None
    table.loc[5, "loss"] = "crashed"
    runs = read_runs(table, exclude=["loss is None", "params > 4.9e9"])
    assert [(e.row, e.reason) for e in runs.excluded] == [
        (3, "loss is None"),
        (5, "loss is None"),
        (29, "params > 4.9e9"),
    ]


def test_conditions_may_use_the_names_of_the_source(clean_runs):
    table = clean_runs.rename(columns={"params": "N", "loss": "eval/loss"})
    runs = read_runs(table, exclude=["N > 4e9", "`eval/loss` > 3.5"])
    assert [e.reason for e in runs.excluded] == ["N > 4e9"] * 2
    scaled = clean_runs.assign(params=clean_runs["params"] / 1e9).rename(
        columns={"params": "params_b"}
    )
    with pytest.raises(InputError, match="no column 'params_b'"):  # in which unit?
        read_runs(scaled, exclude="params_b > 4")


def test_leaving_out_everything_is_an_error(clean_runs):
    with pytest.raises(InputError, match="all 30 rows are excluded"):
        read_runs(clean_runs, exclude="loss > 0")


def test_groups_may_be_other_columns(clean_runs):
    table = clean_runs.assign(dataset=["c4", "rpj"] * 15)
    runs = read_runs(table, by=["dataset"])
    assert count_groups(runs)[["dataset", "runs"]].to_dict("records") == [
        {"dataset": "c4", "runs": 15},
        {"dataset": "rpj", "runs": 15},
    ]
    with pytest.raises(InputError, match="no column corpus"):
        read_runs(table, by=["corpus"])


def test_the_fingerprint_is_of_the_file_or_of_the_values(clean_runs, tmp_path):
    path = tmp_path / "runs.csv"
    clean_runs.to_csv(path, index=False)
    assert read_runs(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_runs(clean_runs).sha256 == read_runs(clean_runs.copy()).sha256
    changed = clean_runs.assign(loss=clean_runs["loss"] * (1 + 2.0**-52))
    assert read_runs(clean_runs).sha256 != read_runs(changed).sha256


def test_a_name_that_is_neither_file_nor_table_lists_the_tables():
    with pytest.raises(InputError, match="no such file and no registered table") as error:
        read_runs("xlsmt")
    assert "chinchilla" in error.value.hint


EXPECTED = {  # rows ready for a fit, of those in the file
    "xlstm": (640, 640),
    "xlstm-extra": (81, 117),
    "chinchilla": (240, 245),
    "farseer": (407, 411),
    "overtraining": (104, 104),
    "repetition": (182, 182),
    "synthetic": (134, 134),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_registered_tables_are_ready_for_a_fit(name, public):
    public(name)
    runs = read_runs(name)
    kept, total = EXPECTED[name]
    assert len(runs.table) == kept
    assert len(runs.table) + len(runs.excluded) == total == TABLES[name].rows
    assert runs.sha256 == TABLES[name].sha256
    assert all(runs.table[column].notna().all() for column in runs.by)


def test_the_study_has_a_standard_error_where_its_loss_was_read_from_figures(public):
    public("xlstm")
    table = read_runs("xlstm").table
    bounded = table["loss_abs_err"] > 0
    # Uniform within its bounds: half width over the square root of 3.
    np.testing.assert_allclose(table["loss_stderr"], table["loss_abs_err"] / 3**0.5, rtol=1e-15)
    assert bounded.sum() > 100
    assert read_runs("xlstm").table.groupby(["architecture", "context_length"]).ngroups == 6


def test_units_and_groups_of_registered_tables_are_known(public):
    public("farseer")
    assert read_runs("farseer").loss_unit.startswith("unknown")
    assert read_runs("overtraining").by == ("dataset",)
    assert read_runs("chinchilla").loss_unit == "nats per token"


def test_what_holds_no_runs_says_what_it_holds():
    with pytest.raises(InputError, match="holds latency, not finished runs") as error:
        read_runs("latency")
    assert "read_latency" in error.value.hint


def test_decimals_and_enormous_integers_are_numbers():
    from decimal import Decimal

    table = pd.DataFrame({"params": [Decimal("1e8"), 2], "tokens": [1e9, 2e9], "loss": [3.0, 2.0]})
    assert read_runs(table).table["params"].tolist() == [1e8, 2.0]
    table = table.assign(params=pd.Series([10**400, 2], dtype=object))
    with pytest.raises(InputError, match="params must be positive and finite, got inf"):
        read_runs(table)


def test_what_would_overflow_a_fit_is_refused():
    table = pd.DataFrame({"params": [1e308, 1e8], "tokens": [1e9, 1e9], "loss": [3.0, 1e-300]})
    with pytest.raises(InputError, match=r"params must lie between 1e-09 and 1e\+30") as error:
        read_runs(table)
    assert "loss must lie between" in str(error.value)


def test_the_condition_that_a_refusal_names_leaves_out_every_row_it_lists(clean_runs):
    loss = clean_runs["loss"].to_numpy().copy()
    loss[[3, 10, 20]] = np.nan, 0.0, -1.0
    with pytest.raises(InputError) as error:
        read_runs(clean_runs.assign(loss=loss))
    assert 'exclude="loss is None or loss <= 0"' in error.value.hint
    kept = read_runs(clean_runs.assign(loss=loss), exclude="loss is None or loss <= 0").table
    assert len(kept) == len(clean_runs) - 3
