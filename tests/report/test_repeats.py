"""The page under the law of repeated data."""

import html
import re

import numpy as np
import pandas as pd
import pytest

from allometry.decisions.repeats import repeated
from allometry.report import report
from allometry.report.words import count_words, two_digits


@pytest.fixture(scope="module")
def repetition():
    """A posterior under the law of repeated data, of 48 simulated runs with 1 to 16 epochs."""
    from allometry.inference import Sampler, fit

    rng = np.random.default_rng(5)
    params, epochs = 10 ** rng.uniform(7.5, 9, 48), 2.0 ** rng.integers(0, 5, 48)
    unique = params * 10 ** rng.uniform(0, 1, 48)
    worth = unique * (1 + 15 * -np.expm1(-(epochs - 1) / 15))
    loss = 1.9 + 500 * params**-0.35 + 1500 * worth**-0.37
    table = pd.DataFrame(
        {"params": params, "tokens": unique * epochs, "epochs": epochs,
         "loss": loss * np.exp(rng.normal(0, 0.003, 48))}
    )  # fmt: skip
    sampler = Sampler(method="laplace", draws=100, starts=2)
    return fit(table, law="repetition", sampler=sampler, seed=3)


def plain(page):
    return html.unescape(re.sub(r"<[^>]*>", "", page))


def test_under_the_law_of_repeated_data_the_page_says_how_often_to_repeat(repetition):
    made = report(repetition, force=True)
    words = plain(made.html)
    budget = two_digits(float(repetition.largest_flops().max()))
    found = repeated(repetition, [1e10], [10 * budget], force=True).iloc[0]
    assert f"a model of {count_words(found['params_median'])} params that sees them" in words
    assert f"{count_words(found['epochs_median'])} epochs" in words
    assert "allometry repeat" in made.left_out[0]
    assert "R_D" in words
    assert "of all runs" not in words
