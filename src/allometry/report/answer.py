"""The answer in words: who wins, what to train, how sure, and whether to believe it."""

from typing import Any

import numpy as np
import pandas as pd

from allometry.inference import Posterior
from allometry.inference.reach import times_words
from allometry.report.planner import Planner, group_labels
from allometry.report.words import (
    CERTAIN,
    LIKELY,
    count_words,
    joined,
    percent_words,
    plural,
    power_words,
    range_words,
)

MULTIPLES = (1.0, 10.0, 100.0)
"""Budgets of the answer, in units of the largest trained one."""


def answer_budgets(planner: Planner) -> list[float]:
    """Nodes of the planner nearest to `MULTIPLES` of the largest trained budget."""
    logs = np.log(planner.flops)
    wanted = (np.log(m * planner.largest) for m in MULTIPLES)
    return [float(planner.flops[np.abs(logs - x).argmin()]) for x in wanted]


def budget_names(planner: Planner) -> list[tuple[str, str]]:
    """The budgets of the answer: in FLOPs, and what they are."""
    words = ["largest trained", *(f"{m:g} times that" for m in MULTIPLES[1:])]
    return [(power_words(f), w) for f, w in zip(answer_budgets(planner), words, strict=True)]


def group_phrase(columns: list[str], labels: list[str]) -> str:
    """A group as a person says it.

    Examples
    --------
    >>> group_phrase(["architecture", "context_length"], ["xlstm", "8192"])
    'xlstm at context 8192'
    >>> group_phrase(["group"], ["all runs"])
    'all runs'
    """
    first, *others = zip(columns, labels, strict=True)
    words = [f"context {v}" if c == "context_length" else f"{c} {v}" for c, v in others]
    head = f"context {first[1]}" if first[0] == "context_length" else first[1]
    return f"{head} at {joined(words)}" if words else head


def winner_table(planner: Planner) -> pd.DataFrame:
    """The likeliest winner of each place and budget of the answer, and its probability.

    Columns: the group columns of the place, ``flops``, ``architecture``, ``probability_best``, and
    ``contestants``. Empty where no place has two architectures.
    """
    rows = planner.winners[planner.winners["flops"].isin(answer_budgets(planner))]
    if rows.empty:
        return rows
    place = [n for n in rows.columns if n not in ("architecture", "probability_best")]
    best = rows.loc[rows.groupby(place, sort=False)["probability_best"].idxmax()]
    counts = rows.groupby(place, sort=False).size().rename("contestants").reset_index()
    return best.merge(counts, on=place).reset_index(drop=True)


def winner_sentences(planner: Planner) -> list[str]:
    """Who wins, from the clearest to the open cases."""
    found = winner_table(planner)
    if found.empty:
        return ["No two architectures were run at the same place, so the page names no winner."]
    sure = found[found["probability_best"] >= CERTAIN]
    likely = found[found["probability_best"].between(LIKELY, CERTAIN, inclusive="left")]
    open_ = found[found["probability_best"] < LIKELY]
    said = []
    for rows, verb in (
        (sure, "clearly has the lower loss"),
        (likely, "probably has the lower loss"),
    ):
        for name, part in rows.groupby("architecture", sort=False):
            least = percent_words(float(part["probability_best"].min()))
            if len(part) == len(found):
                said.append(f"{name} {verb} in every case below (probability {least} or more).")
            else:
                of = f"{len(part)} of the {len(found)} cases below"
                said.append(f"{name} {verb} in {of} (probability {least} or more).")
    if len(open_) == len(found):
        said.append("The runs do not decide between the architectures in any case below.")
    elif len(open_):
        many = "1 case is" if len(open_) == 1 else f"{len(open_)} cases are"
        said.append(f"{many} open: neither has more than {percent_words(LIKELY)}.")
    return said


def allocation_sentences(posterior: Posterior, planner: Planner) -> list[str]:
    """What to train at ten times the largest budget: who is likeliest to win, and how large."""
    row = _headline(posterior, planner)
    columns = [str(name) for name in posterior.groups.columns]
    who = group_phrase(columns, group_labels(posterior)[int(row["_group"])])
    unit = posterior.record.loss_unit
    inside = f" {unit}" if unit else ""
    chance = row["_chance"]
    told = who
    if chance is not None:
        likely = f", the better one there with a probability of {percent_words(chance)}"
        told += likely if chance >= LIKELY else "; which one is better there is open"
    size = range_words(row["params_q5"], row["params_q95"])
    tokens = range_words(row["tokens_q5"], row["tokens_q95"])
    loss = f"{row['run_loss_q5']:.3f} to {row['run_loss_q95']:.3f}"
    said = [
        f"With {power_words(row['flops'])} training FLOPs, ten times the largest trained budget, "
        f"the best use is a model of {count_words(row['params_median'])} params trained on "
        f"{count_words(row['tokens_median'])} tokens ({told}).",
        f"With 90 % probability the best size is {size} params, the best number of tokens "
        f"{tokens}, and the loss of such a run {loss}{inside}.",
    ]
    if np.isfinite(row["band_low_median"]):
        flat = range_words(row["band_low_median"], row["band_high_median"])
        said.append(f"The exact size matters little: at {flat} params a run loses less than 0.1 %.")
    return said


def _headline(posterior: Posterior, planner: Planner) -> "pd.Series[Any]":
    """The allocation that the words speak of: the group with the largest run, at ten times it.

    Where architectures compete at its place, the likeliest winner there.
    """
    nodes = len(planner.flops)
    at = int(np.abs(np.log(planner.flops / (10 * planner.largest))).argmin())
    seen = np.where(posterior.unseen, 0.0, posterior.largest_flops())
    group = int(seen.argmax())
    labels = posterior.groups.iloc[group]
    winners, chance = planner.winners, None
    if len(winners):
        keep = winners["flops"] == planner.flops[at]
        for name in posterior.groups.columns[1:]:
            keep &= winners[name] == labels[name]
        if keep.any():
            best = winners.loc[winners[keep]["probability_best"].idxmax()]
            same = (posterior.groups == best[posterior.groups.columns]).all(axis=1)
            group = int(np.flatnonzero(same.to_numpy())[0])
            chance = float(best["probability_best"])
    row = planner.allocations.iloc[group * nodes + at].copy()
    row["_group"], row["_chance"] = group, chance
    return row


def headline_group(posterior: Posterior, planner: Planner) -> int:
    """Index of the group that the words speak of."""
    return int(_headline(posterior, planner)["_group"])


def certainty_sentences(posterior: Posterior, planner: Planner) -> list[str]:
    """How the uncertainty grows with the budget, and what such distances have meant elsewhere."""
    group = headline_group(posterior, planner)
    nodes = len(planner.flops)
    rows = planner.allocations.iloc[group * nodes : (group + 1) * nodes].set_index("flops")
    own = rows.loc[answer_budgets(planner)]
    factors = [f"{f:.2g}" for f in np.sqrt(own["params_q95"] / own["params_q5"])]
    shares = [f"{s:.1f} %" for s in 50 * (own["run_loss_q95"] / own["run_loss_q5"] - 1)]
    where = joined(
        ["at the largest trained budget", *(f"at {m:g} times it" for m in MULTIPLES[1:])]
    )
    who = group_phrase(list(map(str, posterior.groups.columns)), group_labels(posterior)[group])
    return [
        f"The 90 % intervals of the best size reach a factor of {joined(factors)} up and down, "
        f"{where} ({who}).",
        f"Those of the loss of a new run reach {joined(shares)} up and down.",
        *(
            f"{power_words(flops)} FLOPs: {reach}"
            for flops, reach in zip(answer_budgets(planner), own["reach"], strict=True)
        ),
    ]


def extrapolation_note(posterior: Posterior, planner: Planner) -> str:
    """A sentence on groups whose own runs end far below the largest budget; or nothing."""
    own = posterior.largest_flops()
    run = np.flatnonzero(~posterior.unseen)
    near = [i for i in run if own[i] < planner.largest / 10]
    if not near:
        return ""
    least, most = planner.largest / own[near].max(), planner.largest / own[near].min()
    span = times_words(least)
    span = span if span == times_words(most) else f"{span} to {times_words(most)}"
    return (
        f"{plural(len(near), 'group')} of {len(run)} were run only at budgets {span} times smaller "
        f"than the largest trained one: for them even that budget is far beyond their own runs."
    )


def belief_sentences(posterior: Posterior) -> list[str]:
    """Whether the fit converged, how many runs it used, and what was left out."""
    record = posterior.record
    verdict = record.convergence
    runs = int(posterior.idata["constant_data"].sizes["run"])
    groups = int((~posterior.unseen).sum())
    source = f" of {record.source}" if record.source else ""
    said = [f"Fitted to {plural(runs, 'finished run')}{source} in {plural(groups, 'group')}."]
    if verdict.converged:
        said.append("The fit converged: its own checks found nothing against it.")
    else:
        said.append(f"The fit did NOT converge: {'; '.join(verdict.reasons)}.")
    left = len(record.excluded)
    said.append("No run was left out." if not left else f"{plural(left, 'run')} left out.")
    if not record.warnings:
        said.append("Reading the table gave no warning.")
    return said
