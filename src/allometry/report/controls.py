"""The planner on the page: its controls, its cards, and the numbers behind them."""

from allometry.inference import Posterior
from allometry.report import answer, tables
from allometry.report.html import Html, join, json_block, section, tag
from allometry.report.planner import Planner, document
from allometry.report.words import power_words


def planner_section(posterior: Posterior, planner: Planner) -> Html:
    """The slider, what follows from it, and its numbers as tables and as data."""
    start = answer.answer_budgets(planner)[1]
    data = document(posterior, planner) | {
        "start": start,
        "first": answer.headline_group(posterior, planner),
    }
    return section(
        "planner",
        "Planner",
        tag(
            "p",
            "Move the budget; everything else follows. Numbers between the budgets of the tables "
            "below are interpolated on the log scale.",
            class_="needs-script",
            hidden=True,
        ),
        tag(
            "noscript", tag("p", "The slider needs JavaScript. The tables below hold its numbers.")
        ),
        _controls(posterior, planner),
        tag("div", *_cards(posterior), class_="needs-script", hidden=True),
        tag("h3", "The planner's numbers"),
        tables.nodes(posterior, planner),
        json_block(data, name="nodes"),
    )


def _controls(posterior: Posterior, planner: Planner) -> Html:
    selects = [
        tag(
            "div",
            tag("label", head, for_=f"choice-{i}"),
            tag("select", *(tag("option", v, value=v) for v in values), id=f"choice-{i}"),
        )
        for i, (head, values) in enumerate(tables.choices(posterior))
    ]
    typed = tag(
        "div",
        tag("label", "or type FLOPs, such as 1e22", for_="typed"),
        tag("input", type="text", id="typed", inputmode="text", autocomplete="off",
            aria_describedby="typed-note"),
        class_="typed",
    )  # fmt: skip
    named = zip(answer.answer_budgets(planner), answer.budget_names(planner), strict=True)
    jumps = [
        tag("button", f"{words}: {what}", type="button", data_flops=repr(flops))
        for flops, (words, what) in named
    ]
    low, high = (f"{power_words(f)} FLOPs" for f in planner.flops[[0, -1]])
    form = tag(
        "form",
        tag("div", *selects, typed, class_="choices"),
        tag(
            "p", f"Give a budget from {low} to {high}.", id="typed-note", hidden=True, role="alert"
        ),
        tag("p", "", id="unseen", class_="open"),
        tag("div", *jumps, class_="choices jumps", role="group", aria_label="Budgets"),
        id="controls",
        class_="needs-script",
        hidden=True,
    )
    slider = tag(
        "div",
        tag(
            "div",
            tag("label", "Training budget", for_="budget"),
            tag("output", "", id="budget-words", for_="budget"),
            class_="budget-line",
        ),
        tag("input", type="range", id="budget", min="0", max="400", value="0"),
        tag("div", tag("span", low), tag("span", high), class_="ends", aria_hidden="true"),
        class_="strip needs-script",
        hidden=True,
    )
    return join([form, slider])


def _cards(posterior: Posterior) -> list[Html]:
    unit = posterior.record.loss_unit
    inside = f", {unit}" if unit else ""
    shown = [
        ("params", "Best size (params)"),
        ("tokens", "Best number of training tokens"),
        ("tokens_per_param", "Tokens per param"),
        ("run_loss", f"Loss of a new run{inside}"),
        ("loss", f"Loss of the law, without a run's noise{inside}"),
    ]
    cards = [
        tag(
            "div",
            tag("h3", title),
            tag("p", "", id=f"{name}-value", class_="value"),
            tag("p", "50 %: ", tag("b", "", id=f"{name}-half")),
            tag("p", "90 %: ", tag("b", "", id=f"{name}-most")),
            class_="card",
        )
        for name, title in shown
    ]
    flat = tag(
        "div",
        tag("h3", "Sizes that lose less than 0.1 %"),
        tag("p", "", id="band-value", class_="value"),
        tag("p", "", id="band-safe"),
        class_="card",
    )
    reach = tag(
        "div",
        tag("h3", "How far beyond the runs"),
        tag("p", "", id="reach-value", class_="value"),
        tag("p", "", id="reach-words"),
        class_="card wide",
        id="reach",
    )
    rivals = tag(
        "div",
        tag("h3", "Probability of the least loss at this budget"),
        tag("ul", id="winner-list", class_="winners"),
        class_="card wide",
        id="winners",
        hidden=True,
    )
    charts = [
        tag("figure", tag("figcaption", words), tag("div", id=f"chart-{name}"))
        for name, words in (
            ("params", "Best size: median, 50 and 90 %; dashed beyond the group's runs"),
            ("loss", f"Loss of a new run{inside}: median, 50 and 90 %"),
        )
    ]
    return [
        tag("div", *cards, flat, rivals, reach, class_="cards"),
        tag("div", *charts, class_="charts"),
    ]
