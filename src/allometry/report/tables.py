"""Tables of the page: what was fitted, how well, and from what."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from allometry.decisions import growth_law
from allometry.inference import Posterior
from allometry.inference.reach import known_reaches
from allometry.priors import library_line
from allometry.report.answer import answer_budgets, budget_names, winner_table
from allometry.report.html import Html, definitions, items, join, table, tag
from allometry.report.planner import Planner, group_labels
from allometry.report.words import (
    CERTAIN,
    LIKELY,
    count_words,
    percent_words,
    plural,
    power_words,
    range_words,
    short_number,
)

PUBLISHED = ("E", "A", "B", "alpha", "beta", "gamma", "R_D", "R_N", "v_slope", "beta_slope")

MOST_ROWS = 50
"""Excluded rows that are listed one by one."""


def winners(posterior: Posterior, planner: Planner) -> Html:
    """Who wins at which place and budget; empty where nothing competes."""
    found = winner_table(planner)
    if found.empty:
        return Html("")
    places = [str(n) for n in posterior.groups.columns[1:]]
    budgets = answer_budgets(planner)
    rows = []
    cells: Any = found.groupby(places, sort=False) if places else [((), found)]
    for key, part in cells:
        by_budget = part.set_index("flops")
        rows.append([*map(str, key), *(_winner(by_budget.loc[flops]) for flops in budgets)])
    heads = [*map(_head, places), *_budget_heads(planner)]
    caption = "The architecture with the lower loss, both trained compute-optimally"
    return table(heads, rows, caption=caption, labels=len(places))


def _budget_heads(planner: Planner) -> list[Html]:
    return [join([f"{f} FLOPs", tag("small", words)]) for f, words in budget_names(planner)]


def _winner(row: Any) -> Html:
    chance = float(row["probability_best"])
    if chance >= CERTAIN:
        how, name = "clear", "clear"
    elif chance >= LIKELY:
        how, name = "likely", "likely"
    else:
        how, name = "open", "open"
    shown = tag("span", str(row["architecture"]), class_=name)
    return join([shown, tag("small", f"{how}: {percent_words(chance)}")])


def allocations(posterior: Posterior, planner: Planner) -> Html:
    """Best size and tokens of every group at the budgets of the answer."""
    nodes, budgets = len(planner.flops), answer_budgets(planner)
    rows = []
    for g, labels in enumerate(group_labels(posterior)):
        own = planner.allocations.iloc[g * nodes : (g + 1) * nodes].set_index("flops")
        if own["unseen"].iloc[0]:
            labels = [*labels[:-1], join([labels[-1], tag("small", "never run")])]
        rows.append([*labels, *(_allocation(own.loc[flops]) for flops in budgets)])
    caption = "Best params and tokens, with 90 % intervals"
    return table([*_heads(posterior), *_budget_heads(planner)], rows, caption=caption,
                 labels=len(_heads(posterior)))  # fmt: skip


def _allocation(row: Any) -> Html:
    parts: list[str] = []
    for name in ("params", "tokens"):
        middle, low, high = (float(row[f"{name}_{s}"]) for s in ("median", "q5", "q95"))
        parts += [f"{count_words(middle)} {name}", tag("small", range_words(low, high))]
    return join(parts)


def nodes(posterior: Posterior, planner: Planner) -> Html:
    """Every node of the planner, group by group: what a reader without the script has."""
    heads = [
        "training FLOPs", "params", "90 %", "tokens", "90 %", "tokens per param",
        "loss of a new run", "90 %", "flat band of params", "best architecture",
        "times the largest run",
    ]  # fmt: skip
    count = len(planner.flops)
    keys = [str(name) for name in posterior.groups.columns]
    chances = planner.winners.set_index([*keys, "flops"])["probability_best"] if len(
        planner.winners
    ) else pd.Series(dtype=float)  # fmt: skip
    made = []
    for g, labels in enumerate(group_labels(posterior)):
        own = planner.allocations.iloc[g * count : (g + 1) * count]
        key = tuple(posterior.groups.iloc[g])
        rows = [_node(row, chances.get((*key, row["flops"]))) for _, row in own.iterrows()]
        name = " / ".join(labels)
        inner = table(heads, rows, caption=f"Nodes of {name}")
        made.append(
            tag("details", tag("summary", f"All budgets: {name}"), inner, class_="nodes", open=True)
        )
    return join(made)


def _node(row: "pd.Series[Any]", chance: float | None) -> list[str]:
    large = {
        name: short_number(float(row[name]))
        for name in ("flops", "params_median", "params_q5", "params_q95", "tokens_median",
                     "tokens_q5", "tokens_q95", "band_low_median", "band_high_median")
        if np.isfinite(row[name])
    }  # fmt: skip
    band = [large.get(f"band_{end}_median", "not known") for end in ("low", "high")]
    return [
        large["flops"],
        large["params_median"],
        f"{large['params_q5']} – {large['params_q95']}",
        large["tokens_median"],
        f"{large['tokens_q5']} – {large['tokens_q95']}",
        f"{row['tokens_per_param_median']:.3g}",
        f"{row['run_loss_median']:.4f}",
        f"{row['run_loss_q5']:.4f} – {row['run_loss_q95']:.4f}",
        " – ".join(dict.fromkeys(band)),
        "–" if chance is None else percent_words(float(chance)),
        f"{row['extrapolation_factor']:.3g}",
    ]


def growth(posterior: Posterior, *, force: bool) -> Html:
    """Exponents of the growth laws."""
    found = growth_law(posterior, force=force)
    rows = [
        [
            *labels,
            *(_interval(row, f"{name}_exponent", ".3f") for name in ("params", "tokens")),
            f"{power_words(row['flops_low'])} to {power_words(row['flops_high'])}",
        ]
        for labels, (_, row) in zip(group_labels(posterior), found.iterrows(), strict=True)
    ]
    heads = [
        *_heads(posterior),
        "params grow as C to the",
        "tokens grow as C to the",
        "between (FLOPs)",
    ]
    caption = "Growth laws: best params and tokens as powers of compute C, median and 90 % interval"
    return table(heads, rows, caption=caption, labels=len(_heads(posterior)))


def coefficients(posterior: Posterior) -> Html:
    """The law's coefficients in the published form, group by group."""
    summary = posterior.summary()
    names = [name for name in PUBLISHED if name in set(summary["parameter"])]
    own = summary[summary["parameter"].isin(names)]
    count = len(posterior.groups)
    rows = []
    for g, labels in enumerate(group_labels(posterior)):
        cells = [_interval(own.iloc[k * count + g], "", ".3g") for k in range(len(names))]
        rows.append([*labels, *cells])
    unit = posterior.record.loss_unit or "the table's unit of loss"
    caption = (
        f"Coefficients, params and tokens in units of one, loss in {unit}: median and 90 % interval"
    )
    return table([*_heads(posterior), *names], rows, caption=caption, labels=len(_heads(posterior)))


def _interval(row: "pd.Series[Any]", name: str, style: str) -> Html:
    middle, low, high = (row[f"{name}_{s}".lstrip("_")] for s in ("median", "q5", "q95"))
    return join([f"{middle:{style}}", tag("small", f"{low:{style}} to {high:{style}}")])


def reach_rows() -> Html:
    """What predictions so far beyond the runs were worth in public studies."""
    rows = [
        [
            f"{r.low:g} to {r.high:g} times"
            if np.isfinite(r.high)
            else f"more than {r.low:g} times",
            f"{r.median_error:.1f} %",
            f"{r.high_error:.1f} %",
            f"{100 * r.coverage_50:.0f} %",
            f"{100 * r.coverage_90:.0f} %",
            f"{r.runs}, {plural(r.studies, 'study').replace('studys', 'studies')}",
        ]
        for r in known_reaches()
    ]
    heads = [
        "beyond the largest run", "median error of loss", "one in ten is worse than",
        "in the 50 % interval", "in the 90 % interval", "hidden runs",
    ]  # fmt: skip
    caption = (
        "Predictions of hidden runs of public studies, by how far beyond the fitted runs they were"
    )
    return table(heads, rows, caption=caption)


def diagnostics(posterior: Posterior) -> Html:
    """The sampler's own checks, and the verdict."""
    c = posterior.record.convergence
    pairs = [
        ("verdict", "converged" if c.converged else f"did NOT converge: {'; '.join(c.reasons)}"),
        ("divergences", f"{c.divergences}"),
        (
            "worst R-hat",
            f"{c.max_rhat:.4f} (at most 1.01)" if np.isfinite(c.max_rhat) else "not defined",
        ),
        ("effective draws", f"{c.min_ess_bulk:.0f} bulk, {c.min_ess_tail:.0f} tail (at least 400)"),
        ("draws cut off", f"{c.tree_depth_hits}"),
        ("starts that agree", f"{c.starts_agree} of {c.starts}"),
        ("draws", f"{posterior.n_draws:,}"),
        ("seconds of fit", f"{c.seconds:.1f}"),
    ]
    return definitions(pairs)


def provenance(posterior: Posterior, command: str) -> Html:
    """From what the posterior was made, and how to make this page again."""
    record = posterior.record
    runs = int(posterior.idata["constant_data"].sizes["run"])
    imported = [o.words for o in record.imported if not o.by_default]
    library = library_line(record.imported)
    cost = sorted({record.cost.to_dict().get("kind", "")} - {""})
    pairs = [
        ("law", record.law),
        ("method", record.method),
        ("grouped by", ", ".join(record.by) or "nothing: all runs are one group"),
        ("runs", f"{runs} of {record.source}"),
        ("sha256 of the runs", tag("code", record.sha256)),
        ("unit of loss", record.loss_unit or "not stated"),
        ("training FLOPs", ", ".join(map(str, cost)) or "the posterior's cost model"),
        ("drift beyond the runs", f"{100 * record.drift.scale:.2g} % of loss (prior)"),
        ("imported priors", "; ".join(filter(None, [library, *imported])) or "none"),
        ("settings", settings_words(record.settings)),
        ("seed", f"{record.seed}"),
        ("versions", ", ".join(f"{k} {v}" for k, v in record.versions.items())),
        ("this page", tag("code", command)),
    ]
    return definitions(pairs)


def settings_words(settings: Mapping[str, Any]) -> str:
    """Settings of a fit in a line; None and empty ones are left out."""
    said = {name: value for name, value in settings.items() if value not in (None, "", [], {})}
    parts = [
        f"{name.replace('_', ' ')} {', '.join(map(str, v)) if isinstance(v, list) else v}"
        for name, v in said.items()
    ]
    return "; ".join(parts) or "not kept by the version that made it"


def record_lists(posterior: Posterior) -> Html:
    """What was left out of the table, and what reading it warned of."""
    record = posterior.record
    parts = []
    if record.excluded:
        said = [f"row {e.get('row')}: {e.get('reason')}" for e in record.excluded[:MOST_ROWS]]
        if len(record.excluded) > MOST_ROWS:
            said.append(f"and {len(record.excluded) - MOST_ROWS} more")
        head = tag("summary", f"Left out: {plural(len(record.excluded), 'run')}")
        parts.append(tag("details", head, items(said)))
    if record.warnings:
        parts += [tag("p", "What stands but may surprise:"), items(record.warnings)]
    return join(parts)


def _heads(posterior: Posterior) -> list[str]:
    return [_head(str(name)) for name in posterior.groups.columns]


def _head(name: str) -> str:
    return name.replace("_", " ")


def choices(posterior: Posterior) -> Sequence[tuple[str, list[str]]]:
    """Each group column as a reader names it, and its values: numbers rise, names as they come."""
    labels = group_labels(posterior)
    found = []
    for i, head in enumerate(_heads(posterior)):
        values = list(dict.fromkeys(row[i] for row in labels))
        if all(value.isdecimal() for value in values):
            values.sort(key=int)
        found.append((head, values))
    return found
