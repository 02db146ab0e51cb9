import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allometry.errors import InputError
from allometry.harness.sweep import (
    LocalExecutor,
    Optima,
    PlanningLaw,
    PlanWarning,
    RayExecutor,
    Recipe,
    SlurmExecutor,
    check_plan,
    device_named,
    join_plans,
    plan_isoflop,
    plan_token_param,
    price_plan,
    read_optima,
    read_plan,
    write_plan,
)
from allometry.harness.sweep.placement import MIN_STEPS, rule_batch_tokens


def valleys(**changes):
    asked = {
        "architectures": ["transformer", "xlstm"],
        "context_lengths": [2048, 8192],
        "budgets": [6e18, 1e20],
    }
    return plan_isoflop(**(asked | changes))


def priced(price_per_hour):
    return price_plan(valleys(), device_named("h100"), price_per_hour=price_per_hour)


@settings(max_examples=15)
@given(
    log_budget=st.floats(14, 20.5),
    context_length=st.sampled_from([128, 512, 2048]),
    architecture=st.sampled_from(["transformer", "xlstm"]),
)
def test_flops_of_every_run_are_within_two_per_cent_of_its_budget(
    log_budget, context_length, architecture
):
    vocab_size = 256 if log_budget < 17 else 50_304
    plan = plan_isoflop(
        architectures=[architecture],
        context_lengths=[context_length],
        budgets=[10**log_budget],
        recipe=Recipe(vocab_size=vocab_size),
    )
    assert len(plan) == 7
    assert (plan.flops / plan.budget - 1).abs().max() <= 0.02
    assert plan.steps.min() >= MIN_STEPS
    assert plan.batch_size.nunique() == 1


def test_sizes_lie_on_both_sides_of_the_expected_optimum():
    for (architecture, context_length, budget), valley in valleys().groupby(
        ["architecture", "context_length", "budget"]
    ):
        optimum = Optima().params(architecture, context_length, budget, vocab_size=50_304)
        assert (valley.params < optimum / 1.25).sum() >= 2
        assert (valley.params > optimum * 1.25).sum() >= 2
        assert valley.params.max() <= 6 * optimum


def test_the_optimum_is_that_of_the_law_in_closed_form_where_flops_are_near_6nd():
    # Short context and small vocabulary: the cost is 6 N D but for some per cent, and so is N*.
    law = PlanningLaw()
    ratio = (law.alpha * law.A / (law.beta * law.B)) ** (1 / (law.alpha + law.beta))
    for budget in (1e15, 1e18):
        closed = ratio * (budget / 6) ** (law.beta / (law.alpha + law.beta))
        found = Optima().params("transformer", 128, budget, vocab_size=256)
        assert found == pytest.approx(closed, rel=0.1)


def test_optima_of_a_table_are_interpolated_in_log_log(tmp_path):
    path = tmp_path / "optima.csv"
    path.write_text(
        "architecture,context_length,flops,params_median\n"
        "transformer,128,1e12,1e5\ntransformer,128,1e14,1e6\nxlstm,128,1e12,2e5\n"
    )
    optima = Optima(table=read_optima(path))
    assert optima.params("transformer", 128, 1e13, vocab_size=256) == pytest.approx(1e5 * 10**0.5)
    assert optima.params("transformer", 128, 1e16, vocab_size=256) == pytest.approx(1e7)
    assert optima.params("xlstm", 128, 1e14, vocab_size=256) == pytest.approx(2e6)  # slope 1/2
    law = Optima().params("xlstm", 512, 1e14, vocab_size=256)
    assert optima.params("xlstm", 512, 1e14, vocab_size=256) == law


def test_a_one_sided_valley_is_warned_of():
    with pytest.warns(PlanWarning, match="0 sizes below and .* expected optimum"):
        plan_isoflop(
            architectures=["transformer"],
            context_lengths=[128],
            budgets=[1e12],
            recipe=Recipe(vocab_size=16_384),
        )


def test_seeds_after_the_first_are_only_where_asked_for():
    recipe = Recipe(seeds=(0, 1), seeds_at=(6e18,))
    plan = valleys(recipe=recipe)
    assert plan[plan.budget == 6e18].groupby("seed").size().tolist() == [28, 28]
    assert set(plan[plan.budget == 1e20].seed) == {0}


def test_token_param_runs_have_their_ratio_of_tokens():
    plan = plan_token_param(
        architectures=["xlstm"], context_lengths=[256], sizes=[1e6, 4e6], ratios=[20, 100],
        recipe=Recipe(vocab_size=256),
    )  # fmt: skip
    wanted = [20, 100, 20, 100]
    # Half a step of at least MIN_STEPS is the only difference.
    np.testing.assert_allclose(plan.tokens / plan.params, wanted, rtol=0.5 / MIN_STEPS)


def test_sizes_that_no_shape_comes_near_are_warned_of():
    with pytest.warns(PlanWarning, match="nearest to 2,000 params has 5,912"):
        plan_token_param(
            architectures=["transformer"], context_lengths=[16], sizes=[2e3], ratios=[20],
            recipe=Recipe(vocab_size=256),
        )  # fmt: skip


def test_batches_follow_the_sources():
    assert rule_batch_tokens(6e18) == 2**20
    assert rule_batch_tokens(6e20) == 2**21
    # DeepSeek LLM, table of its section 3.1: about 0.3 M tokens at 1e18 by the formula.
    assert rule_batch_tokens(1e18) == pytest.approx(0.2920 * 1e18**0.3271)


def test_a_plan_survives_its_file(tmp_path, small_plan):
    for name in ("plan.csv", "plan.parquet", "plan.jsonl"):
        again = read_plan(write_plan(small_plan, tmp_path / name))
        pd.testing.assert_frame_equal(
            again.astype({"budget": float}), small_plan.astype({"budget": float}), check_dtype=False
        )


def test_joined_plans_have_each_run_once(small_plan):
    pd.testing.assert_frame_equal(join_plans(small_plan, small_plan[::-1]), small_plan)


def test_hours_and_money_follow_from_flops():
    plan = valleys()
    priced = price_plan(plan, device_named("h100", mfu=0.5), price_per_hour=2.0)
    # 989 TFLOP/s dense bfloat16 is the data sheet's.
    assert priced.hours.sum() == pytest.approx(plan.flops.sum() / (0.5 * 989e12) / 3600)
    assert priced.cost.sum() == pytest.approx(2 * priced.hours.sum())
    assert device_named("cpu").flops_per_second > 1e8
    assert device_named("abacus", flops_per_second=3.0).flops_per_second == 3.0


def test_every_row_that_cannot_be_built_is_named_in_one_error(tmp_path, small_plan):
    broken = small_plan.copy()
    broken.loc[0, "n_heads"] = 0
    broken.loc[1, "architecture"] = "gru"
    broken.loc[2, "params"] += 1
    broken.loc[3, "learning_rate"] = -1.0
    with pytest.raises(InputError) as caught:
        read_plan(write_plan(broken, tmp_path / "plan.csv"))
    said = str(caught.value)
    assert re.search(r"plan\.csv: row 0 .*n_heads 0; row 1 .*gru.*; row 2 .*its shape", said)
    assert "learning_rate must be between 0 and 1" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("run_id", "../../elsewhere", "run_id '../../elsewhere' must be"),
        ("run_id", "a/b", "run_id 'a/b' must be"),
        ("run_id", ".hidden", "run_id '.hidden' must be"),
        ("run_id", math.nan, "run_id nan must be"),
        ("learning_rate", "fast", "between 0 and 1, got fast"),
        ("learning_rate", math.nan, "between 0 and 1, got nan"),
        ("flops", math.nan, "flops is nan, its shape and steps give"),
        ("flops", "many", "flops is many, its shape and steps give"),
        ("budget", "much", "budget must be a number or empty, got 'much'"),
        ("steps", math.nan, "steps must be a whole number, got nan"),
        ("seed", 0.5, "seed must be a whole number, got 0.5"),
    ],
)
def test_a_value_edited_into_a_plan_is_named(tmp_path, small_plan, column, value, message):
    edited = small_plan.astype(object)
    edited.loc[2, column] = value
    edited.to_csv(tmp_path / "plan.csv", index=False)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read_plan(tmp_path / "plan.csv")
    assert "plan.csv: row 2 " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_table_is_one_line(tmp_path):
    path = tmp_path / "plan.csv"
    path.write_bytes(bytes(range(256)) * 20)
    with pytest.raises(InputError, match=r"plan\.csv: cannot be read as a table: \S") as caught:
        read_plan(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: valleys(architectures=["gru"]), "no architecture named 'gru'"),
        (lambda: valleys(budgets=[]), "none given of budgets"),
        (lambda: valleys(budgets=[-1e18]), "budgets must be positive"),
        (lambda: valleys(budgets=[math.inf]), "budgets must be positive numbers, got inf"),
        (lambda: valleys(budgets=[math.nan]), "budgets must be positive numbers, got nan"),
        (lambda: Recipe(batch_tokens=-4), "batch_tokens must be a positive number"),
        (lambda: Recipe(learning_rates={"xlstm": math.nan}), "between 0 and 1, got nan"),
        (lambda: device_named("cpu", threads=0), "threads must be at least 1, got 0"),
        (
            lambda: device_named("x", flops_per_second=math.inf),
            "must be a positive number, got inf",
        ),
        (lambda: priced(-3.0), "price_per_hour must be a number and not negative, got -3.0"),
        (lambda: priced(math.nan), "price_per_hour must be a number and not negative, got nan"),
        (lambda: LocalExecutor(workers=-1), "workers must be 0 or more, got -1"),
        (lambda: RayExecutor(workers=-1), "workers must be 0 or more, got -1"),
        (lambda: SlurmExecutor(workers=0), "workers must be 1 or more, got 0"),
        (lambda: valleys(sizes_per_budget=2), "at least 3 sizes"),
        (lambda: valleys(spread=(1.5, 5.0)), "one number below 1 and one above"),
        (lambda: valleys(budgets=[1e9]), "can be trained for"),
        (lambda: Recipe(seeds=(0, 0)), "seeds must be different"),
        (lambda: device_named("abacus"), "no device named 'abacus'"),
        (lambda: device_named("h100", mfu=1.5), "mfu must be above 0"),
        (lambda: check_plan(valleys().drop(columns="steps")), "no column steps"),
        (lambda: PlanningLaw(alpha=-0.3), "must be positive"),
    ],
)
def test_impossible_plans_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
