"""Text cannot become markup, whatever it holds."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from allometry.report.html import Html, json_block, policy, script, table, tag

NASTY = "<script>alert(1)</script> \" ' & </style> <!-- \u2028"


def test_children_and_attributes_are_escaped():
    made = tag("p", NASTY, title=NASTY)
    assert "<script" not in made
    assert made.count('"') == 2  # the two around the attribute
    assert tag("p", tag("b", "x")) == "<p><b>x</b></p>"


def test_names_that_python_keeps_are_written_as_html_has_them():
    assert tag("label", "n", for_="a", aria_label="b") == '<label for="a" aria-label="b">n</label>'
    assert tag("input", hidden=True, disabled=False, value=None) == "<input hidden>"


def test_a_tables_cells_are_escaped():
    assert "<script" not in table([NASTY], [[NASTY, NASTY]], caption=NASTY)


@given(st.text() | st.sampled_from(["</script>", "]]>", "<!--", "\u2029"]))
def test_data_for_the_script_cannot_end_its_element_and_comes_back_whole(label):
    made = json_block({"label": label, "values": np.array([1.0, np.nan, np.inf])}, name="nodes")
    inner = made.removeprefix('<script type="application/json" id="nodes">')
    inner = inner.removesuffix("</script>")
    assert "<" not in inner
    assert json.loads(inner) == {"label": label, "values": [1.0, None, None]}


def test_the_policy_allows_the_pages_own_script_and_nothing_else():
    import base64
    import hashlib

    digest = base64.b64encode(hashlib.sha256(b"let a = 1;").digest()).decode()
    made = policy("let a = 1;").replace("&#x27;", "'")
    assert f"script-src 'sha256-{digest}'" in made
    assert "default-src 'none'" in made
    assert script("let a = 1;") == Html("<script>let a = 1;</script>")
