"""The page: all in one file, for every kind of posterior, and nothing of a file runs in it."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import xarray as xr
from simulation import TRUTH, simulate_runs
from variants import relabelled

from allometry.errors import InputError, NotConvergedError
from allometry.report import Report, report, write_report
from allometry.report.words import short_number

EVIL = {"transformer": "<script>alert(1)</script>", "xlstm": "a\"'&</script><b onload=x> $x_{$"}


class Page(HTMLParser):
    """Elements, attributes and text of a document."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.words, self.scripts = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input", "link", "br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        (self.scripts if inside == "script" else self.words).append(data)


def nodes_of(html):
    return json.loads(re.search(r'id="nodes">(.*?)</script>', html).group(1))


@pytest.fixture(scope="module")
def parsed(page):
    return Page(page.html)


def test_elements_are_closed_and_ids_are_used_once(parsed):
    assert parsed.open == []
    ids = [a["id"] for _, a in parsed.elements if "id" in a]
    assert len(ids) == len(set(ids))
    labels = [a["for"] for tag, a in parsed.elements if tag == "label"]
    assert set(labels) <= set(ids)
    controls = [a["id"] for tag, a in parsed.elements if tag in ("input", "select")]
    assert set(controls) == set(labels)


def test_nothing_is_fetched(page, parsed):
    for _, attributes in parsed.elements:
        for name in ("src", "href", "action", "srcset", "data"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:image/svg+xml;base64,"))
    css = re.search(r"<style>(.*?)</style>", page.html, flags=re.S).group(1)
    assert "url(" not in css
    assert "@import" not in css
    program = parsed.scripts[-1]
    for word in ("fetch(", "XMLHttpRequest", "import(", "eval(", "innerHTML", "document.write"):
        assert word not in program


def test_every_element_that_the_script_asks_for_is_there(parsed):
    ids = {a["id"] for _, a in parsed.elements if "id" in a}
    program = parsed.scripts[-1]
    asked = set(re.findall(r'(?:byId|say)\("([a-z-]+)"', program))
    names = re.findall(r'interval\("([a-z_]+)"', program)
    asked |= {f"{name}-{part}" for name in names for part in ("value", "half", "most")}
    assert asked
    assert asked <= ids


def test_the_numbers_are_a_table_without_the_script(page, parsed):
    rows = page.html.count('<details class="nodes" open')
    assert rows == 4
    words = " ".join(parsed.words)
    for flops in page.budgets:
        assert short_number(flops) in words
    assert any(tag == "noscript" for tag, _ in parsed.elements)


def test_the_answer_says_who_wins_how_large_and_how_sure(parsed):
    words = " ".join(" ".join(parsed.words).split())
    for piece in (
        "ten times the largest trained budget",
        "clearly has the lower loss",
        "With 90 % probability the best size is",
        "Fitted to 72 finished runs",
        "The fit converged",
        "No run was left out",
        "hidden runs of",
        "allometry report fit.nc -o fit.html",
    ):
        assert piece in words


def test_labels_of_the_file_stay_text(small):
    html = report(relabelled(small, EVIL)).html
    parsed = Page(html)
    assert parsed.open == []
    assert [tag for tag, _ in parsed.elements].count("script") == 2  # the data and the program
    assert not any(name.startswith("on") for _, a in parsed.elements for name in a)
    assert not any(tag == "b" and "onload" in a for tag, a in parsed.elements)
    labels = {g["labels"][0] for g in nodes_of(html)["groups"]}
    assert labels == set(EVIL.values())
    options = [a["value"] for tag, a in parsed.elements if tag == "option"]
    assert set(options) >= labels


def test_a_fit_that_did_not_converge_is_refused_or_told_first(doubtful):
    with pytest.raises(NotConvergedError):
        report(doubtful)
    made = report(doubtful, force=True).html
    banner = made.index("Do not decide on this page")
    assert banner < made.index("The answer</h2>")
    assert "R-hat 1.300 above 1.01" in made
    assert "did NOT converge" in made


def test_a_law_that_needs_more_columns_leaves_out_the_planner_and_says_so(small, monkeypatch):
    law = replace(small.law, columns=("epochs",))
    monkeypatch.setattr("allometry.inference.posterior.get_law", lambda name: law)
    tree = small.idata.copy()
    data = tree["constant_data"].to_dataset()
    tree["constant_data"] = xr.DataTree(data.assign(epochs=xr.ones_like(data["flops"])))
    made = report(replace(small, idata=tree))
    assert made.budgets == ()
    assert "needs epochs beside a budget" in made.left_out[0]
    parsed = Page(made.html)
    assert parsed.open == []
    words = " ".join(parsed.words)
    assert made.left_out[0] in words
    assert "allometry predict FILE --at TABLE" in words
    assert "allometry repeat" not in words  # which answers for another law
    assert "Coefficients" in words
    assert "script" not in [tag for tag, _ in parsed.elements]


def test_a_table_of_one_group_has_a_page():
    from allometry.inference import Sampler, fit

    runs = simulate_runs(1, groups={("xlstm", 1024): TRUTH["xlstm", 1024]})
    runs = runs[["params", "tokens", "flops", "loss"]]
    sampler = Sampler(method="laplace", draws=100, starts=2)
    html = report(fit(runs, sampler=sampler, seed=3), force=True).html
    made = nodes_of(html)
    assert made["columns"] == ["group"]
    assert [g["labels"] for g in made["groups"]] == [["all runs"]]
    assert made["groups"][0]["best"] is None
    assert "Which architecture" not in html


def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    page = Report(html="<!DOCTYPE html>", budgets=(), left_out=())
    target = tmp_path / "new" / "page.html"
    assert write_report(page, target) == target
    assert [p.name for p in target.parent.iterdir()] == ["page.html"]
    for bad in (tmp_path / "page.txt", tmp_path / "new" / "page.html" / "x.html"):
        with pytest.raises(InputError):
            write_report(page, bad)
    assert target.read_text() == "<!DOCTYPE html>"
