"""What the page answers under the law of repeated data: sizes and epochs of few unique tokens."""

from typing import Any

import numpy as np
import pandas as pd

from allometry.decisions.repeats import repeated
from allometry.inference import Posterior
from allometry.report.answer import MULTIPLES, group_phrase
from allometry.report.html import Html, join, table, tag
from allometry.report.planner import group_labels
from allometry.report.words import count_words, power_words, range_words, two_digits

LAW = "repetition"
"""The law that knows what tokens which are seen again are worth."""

SUPPLIES = (0.1, 1.0, 10.0)
"""Unique tokens of the answer, in units of a round number near the most that a run has seen."""


def repeats(posterior: Posterior, *, force: bool = False) -> pd.DataFrame:
    """Best params and epochs at the budgets of the answer, for three supplies of unique tokens.

    Columns as `allometry.decisions.repeats.repeated` gives them.
    """
    data = posterior.idata["constant_data"]
    most = 10.0 ** np.floor(np.log10(float(data["tokens"].max())))
    largest = two_digits(float(posterior.largest_flops().max()))
    budgets = [largest * multiple for multiple in MULTIPLES]
    return repeated(posterior, [most * s for s in SUPPLIES], budgets, force=force)


def repeat_sentences(posterior: Posterior, found: pd.DataFrame) -> list[str]:
    """What to train at ten times the largest budget on as many unique tokens as a run has seen."""
    budgets, supplies = found["flops"].unique(), found["unique_tokens"].unique()
    group = int(posterior.largest_flops().argmax())
    columns = [str(name) for name in posterior.groups.columns]
    labels = group_labels(posterior)[group]
    a_group = len(budgets) * len(supplies)
    own = found.iloc[group * a_group : (group + 1) * a_group]
    row = own[(own["flops"] == budgets[1]) & (own["unique_tokens"] == supplies[1])].iloc[0]
    unit = posterior.record.loss_unit or "units of loss"
    return [
        f"With {power_words(budgets[1])} training FLOPs, ten times the largest trained budget, and "
        f"{count_words(supplies[1])} unique tokens, the best use is a model of "
        f"{count_words(row['params_median'])} params that sees them "
        f"{_times(row['epochs_median'])} ({group_phrase(columns, labels)}).",
        f"With 90 % probability the best size is "
        f"{range_words(row['params_q5'], row['params_q95'])} params, the best number of epochs "
        f"{range_words(row['epochs_q5'], row['epochs_q95'])}, and the loss of such a run "
        f"{_ends(row, 'run_loss', '.3f')}.",
        f"As much new text would have brought the loss down by another "
        f"{_ends(row, 'price_of_repeating', '.2g')} {unit}.",
        "For other budgets and supplies of text ask allometry repeat: a slider would need both.",
    ]


def repeat_table(posterior: Posterior, found: pd.DataFrame) -> Html:
    """Best size and epochs of every group, supply and budget."""
    budgets, supplies = found["flops"].unique(), found["unique_tokens"].unique()
    columns = [str(name).replace("_", " ") for name in posterior.groups.columns]
    names = ["largest trained", *(f"{m:g} times that" for m in MULTIPLES[1:])]
    budget_heads = [
        join([f"{power_words(f)} FLOPs", tag("small", words)])
        for f, words in zip(budgets, names, strict=True)
    ]
    rows, at = [], 0
    for labels in group_labels(posterior):
        own = found.iloc[at : at + len(budgets) * len(supplies)]
        at += len(own)
        for supply in supplies:
            cells = own[own["unique_tokens"] == supply].to_dict("records")
            rows.append([*labels, count_words(supply), *map(_cell, cells)])
    caption = "Best params and epochs, with 90 % intervals, and what repeating costs"
    heads = [*columns, "unique tokens", *budget_heads]
    return table(heads, rows, caption=caption, labels=len(columns) + 1)


def _cell(row: Any) -> Html:
    price, epochs = row["price_of_repeating_median"], count_words(row["epochs_median"])
    return join(
        [
            f"{count_words(row['params_median'])} params",
            tag("small", range_words(row["params_q5"], row["params_q95"])),
            f"{epochs} epoch" + ("" if epochs == "1" else "s"),
            tag("small", range_words(row["epochs_q5"], row["epochs_q95"])),
            tag("small", f"costs {price:.2g} of loss" if price >= 0.0005 else "costs nothing"),
        ]
    )


def _times(epochs: float) -> str:
    words = count_words(epochs)
    return "once" if words == "1" else f"{words} times"


def _ends(row: Any, name: str, style: str) -> str:
    low, high = (format(float(row[f"{name}_{s}"]), style) for s in ("q5", "q95"))
    return low if low == high else f"{low} to {high}"
