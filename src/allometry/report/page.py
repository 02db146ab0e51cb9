"""The page: one HTML file with everything in it."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import allometry
from allometry.errors import InputError
from allometry.files import check_writable, writing
from allometry.inference import Posterior
from allometry.inference.sampling import Stage, tell
from allometry.report import answer, tables
from allometry.report.controls import planner_section
from allometry.report.html import (
    Html,
    items,
    policy,
    script,
    section,
    style,
    tag,
)
from allometry.report.pictures import pictures
from allometry.report.planner import Planner, plan
from allometry.report.repeats import LAW, repeat_sentences, repeat_table, repeats

SCRIPTS = ("numbers.js", "chart.js", "planner.js")
SUFFIXES = (".html", ".htm")


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A page, and what is in it.

    Attributes
    ----------
    html : str
        The whole document: no part of it is fetched from anywhere.
    budgets : tuple of float
        Training FLOPs of the planner's nodes; empty where the law allows no planner.
    left_out : tuple of str
        What the page lacks, each with its reason.
    """

    html: str
    budgets: tuple[float, ...]
    left_out: tuple[str, ...]


def report(
    posterior: Posterior,
    *,
    title: str = "",
    command: str = "",
    force: bool = False,
    progress: Stage | None = None,
) -> Report:
    """The planner's page of a posterior.

    Parameters
    ----------
    posterior : Posterior
        Its groups are what the page offers; add some that were never run with
        `Posterior.with_groups`.
    title : str
        Heading; by default from the posterior's source.
    command : str
        How the page was made, for its provenance.
    force : bool
        Make a page although the fit did not converge; it then opens with a warning.
    progress : callable, optional
        Told each stage.

    Returns
    -------
    Report
        The document as text, and what it lacks.

    Raises
    ------
    NotConvergedError
        If the fit did not converge and `force` is not set.
    """
    posterior.require_converged(force=force)
    left: list[str] = []
    planner = None
    if posterior.law.columns:
        needs = ", ".join(posterior.law.columns)
        asks = "allometry repeat, or " if posterior.law.name == LAW else ""
        left.append(
            f"Planner, allocations and growth laws: the law {posterior.law.name} needs {needs} "
            f"beside a budget. Ask {asks}allometry predict --at TABLE with {needs} in the table."
        )
    else:
        planner = plan(posterior, force=force, progress=progress)
    figures, undrawn = pictures(posterior, force=force, progress=progress)
    left += undrawn
    tell(progress, "writing the page", 0, 0)
    sections = [
        _banner(posterior),
        _answer(posterior, planner, force=force),
        planner_section(posterior, planner) if planner else Html(""),
        _figures(figures),
        _tables(posterior, force=force),
        _provenance(posterior, command or "allometry.report.report(posterior)", left),
    ]
    name = title or f"What to train: {posterior.record.source or 'a study'}"
    return Report(
        html=_document(name, _introduction(posterior), sections, with_script=planner is not None),
        budgets=() if planner is None else tuple(float(f) for f in planner.flops),
        left_out=tuple(left),
    )


def write_report(page: Report, path: str | Path) -> Path:
    """Write a page, whole or not at all.

    Raises
    ------
    InputError
        If the file cannot be written, or its suffix is not .html.
    """
    target = check_page(Path(path))
    with writing(target) as partial:
        partial.write_text(page.html, encoding="utf-8")
    return target


def check_page(path: Path) -> Path:
    """Refuse a place that cannot be written before anything is computed.

    Raises
    ------
    InputError
        If the suffix is not .html, the path is a folder, or its folder cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        what = f"suffix {path.suffix or 'none'}"
        raise InputError(what, where=str(path), hint=f"Use {', '.join(SUFFIXES)}.")
    check_writable(path)
    return path


def _asset(name: str) -> str:
    return (resources.files("allometry.report") / "assets" / name).read_text(encoding="utf-8")


def _document(title: str, introduction: Html, sections: list[Html], *, with_script: bool) -> str:
    source = "".join(_asset(name) for name in SCRIPTS)
    program = '"use strict";\n(() => {\n' + source + "})();\n"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        policy(program),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="generator", content=f"allometry {allometry.__version__}"),
        tag("title", title),
        style(_asset("page.css")),
    )
    body = tag(
        "body",
        tag("header", tag("h1", title), introduction),
        tag("main", *sections),
        tag(
            "footer",
            tag("p", f"Made by allometry {allometry.__version__} from finished runs alone."),
        ),
        script(program) if with_script else Html(""),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _introduction(posterior: Posterior) -> Html:
    links = [("#answer", "The answer"), ("#planner", "Planner"), ("#fit", "The fit"),
             ("#tables", "Tables"), ("#provenance", "Where it comes from")]  # fmt: skip
    shown = [link for link in links if link[0] != "#planner" or not posterior.law.columns]
    return tag("nav", items(tag("a", words, href=place) for place, words in shown))


def _banner(posterior: Posterior) -> Html:
    verdict = posterior.record.convergence
    if verdict.converged:
        return Html("")
    return tag(
        "div",
        tag("h2", "Do not decide on this page: the fit did not converge"),
        tag("p", f"Reasons: {'; '.join(verdict.reasons)}."),
        tag("p", f"What to do: {'; '.join(verdict.advice)}.") if verdict.advice else Html(""),
        class_="banner",
        role="alert",
    )


def _paragraphs(sentences: list[str]) -> Html:
    return tag("p", " ".join(sentences))


def _answer(posterior: Posterior, planner: Planner | None, *, force: bool) -> Html:
    if posterior.law.name == LAW:
        found = repeats(posterior, force=force)
        parts: list[str] = [
            tag("p", " ".join(repeat_sentences(posterior, found)), class_="lead"),
            tag("h3", "Which size, and how often the text is seen"),
            repeat_table(posterior, found),
        ]
    elif planner is None:
        needs = ", ".join(posterior.law.columns)
        words = (
            f"This page cannot say what to train from a budget alone: the law {posterior.law.name} "
            f"also asks for {needs}. The command allometry predict answers for runs whose {needs} "
            f"are given: allometry predict FILE --at TABLE."
        )
        parts = [tag("p", words, class_="lead")]
    else:
        sentences = answer.allocation_sentences(posterior, planner)
        parts = [tag("p", " ".join(sentences), class_="lead")]
        if note := answer.extrapolation_note(posterior, planner):
            parts.append(tag("p", note))
        if len(posterior.groups) > 1:
            parts += [
                tag("h3", "Which architecture"),
                _paragraphs(answer.winner_sentences(planner)),
                tables.winners(posterior, planner),
            ]
        parts += [
            tag("h3", "Which size, on how many tokens"),
            tables.allocations(posterior, planner),
            tag("h3", "How sure"),
            items(answer.certainty_sentences(posterior, planner)),
        ]
    return section(
        "answer",
        "The answer",
        *parts,
        tag("h3", "Can it be believed"),
        _paragraphs(answer.belief_sentences(posterior)),
        tables.record_lists(posterior),
    )


def _figures(figures: list[Html]) -> Html:
    return section("fit", "The fit", *figures) if figures else Html("")


def _tables(posterior: Posterior, *, force: bool) -> Html:
    grown = Html("") if posterior.law.columns else tables.growth(posterior, force=force)
    return section(
        "tables",
        "Tables",
        tag("h3", "Growth laws") if grown else Html(""),
        grown,
        tag("h3", "Coefficients"),
        tables.coefficients(posterior),
        tag("h3", "How far such predictions have been right"),
        tables.reach_rows(),
        tag("h3", "Diagnostics of the fit"),
        tables.diagnostics(posterior),
    )


def _provenance(posterior: Posterior, command: str, left: list[str]) -> Html:
    lacking = [tag("h3", "Left out of this page"), items(left)] if left else []
    return section(
        "provenance", "Where it comes from", tables.provenance(posterior, command), *lacking
    )
