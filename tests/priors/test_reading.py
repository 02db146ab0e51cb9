"""A prior file is read back exactly; a damaged or tampered one is refused with one line."""

import copy
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prior_files import prior_file

from allometry.errors import InputError
from allometry.priors import parse_prior, read_prior
from allometry.priors.file import document_text
from allometry.priors.reading import MAX_BYTES

GROUPS = (
    {"architecture": "xlstm", "context_length": 2048},
    {"architecture": "xlstm", "context_length": 8192},
)
DOCUMENT = prior_file(kind="groups", groups=GROUPS, df=7.0).to_document()
TEXT = document_text(DOCUMENT)


@pytest.mark.parametrize("df", [None, 5.5])
@pytest.mark.parametrize("kind", ["groups", "new-group"])
def test_a_file_says_exactly_what_was_written(tmp_path, kind, df):
    file = prior_file(
        kind=kind, groups=GROUPS if kind == "groups" else (), df=df, worth_runs=12.5,
        drift={"scale": 0.02, "shared": 0.5}, fitted_over=((18.5, 1.0, 3.0), (19.0, -0.5, 1.0)),
        provenance={"source": "ümlaut.csv", "runs": 3},
    )  # fmt: skip
    found = read_prior(file.save(tmp_path / "a" / "prior.json"))
    assert found.to_document() == file.to_document()
    assert json.dumps(found.provenance) == json.dumps(file.provenance)  # 3 runs, not 3.0
    assert np.array_equal(found.mixture.scales, file.mixture.scales)
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["prior.json"]


def test_a_file_of_an_older_version_does_not_say_where_its_law_was_fitted():
    document = copy.deepcopy(DOCUMENT)
    del document["fitted_over"]
    assert parse_prior(json.dumps(document)).fitted_over == ()


def changed(*path, value=..., drop=False):
    document = copy.deepcopy(DOCUMENT)
    place = document
    for key in path[:-1]:
        place = place[key]
    if drop:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return document


COMPONENT = ("distribution", "components", 0)
NAN, INFINITY = float("nan"), float("inf")
BROKEN = {
    "no schema": (changed("allometry_prior", drop=True), "not a prior file"),
    "version": (changed("allometry_prior", value=2), "schema version 2"),
    "true version": (changed("allometry_prior", value=True), "schema version"),
    "missing": (changed("units", drop=True), "units is missing"),
    "unknown field": (changed("exec", value="rm"), "unknown field 'exec'"),
    "law": (changed("law", value="nonsense"), "no law named 'nonsense'"),
    "law without centre": (changed("law", value="kaplan"), "has no centre"),
    "another law": (changed("law", value="chinchilla"), "quantities must be"),
    "kind": (changed("kind", value="group"), "kind must be one of"),
    "discount": (changed("discount", value=0), "discount is 0"),
    "infinite": (changed("discount", value=INFINITY), "not a number that JSON knows"),
    "worth": (changed("worth_runs", value=-1), "worth_runs is -1"),
    "reference": (changed("reference", "params", value=0), "reference.params"),
    "text": (changed("name", value=7), "name must be text"),
    "escape": (changed("name", value="\u001b[2J"), "name must be"),
    "surrogate": (changed("description", value="\ud800"), "UTF-8"),
    "no groups": (changed("groups", value=[]), "groups has 0 entries"),
    "two new groups": (
        prior_file(kind="new-group").to_document() | {"groups": list(GROUPS)},
        "groups has 2 entries, must have 0 to 1",
    ),
    "same groups": (changed("groups", value=[GROUPS[0], GROUPS[0]]), "same labels"),
    "fewer quantities": (changed("quantities", 0, drop=True), "quantities must be"),
    "huge": (changed("reference", "tokens", value=10**400), "too large"),
    "df": (changed("distribution", "df", value=2), "distribution.df"),
    "family": (changed("distribution", "family", value="cauchy"), "family must be one of"),
    "normal with df": (changed("distribution", "family", value="normal"), "must be null"),
    "weight": (changed(*COMPONENT, "weight", value=0.9), "weights of the components"),
    "short mean": (changed(*COMPONENT, "mean", 0, drop=True), "mean has 14 entries"),
    "asymmetric": (changed(*COMPONENT, "scale", 0, 1, value=0.009), "not symmetric"),
    "not definite": (changed(*COMPONENT, "scale", 0, 0, value=1e-6), "symmetric|definite"),
    "negative": (changed(*COMPONENT, "scale", 0, 0, value=-1.0), "variance below"),
    "nan": (changed(*COMPONENT, "mean", 0, value=NAN), "not a number that JSON knows"),
    "drift": (changed("drift", value={"scale": 3.0, "shared": 0.5}), "drift.scale"),
    "cell": (changed("fitted_over", value=[[18.5, 1.0]]), r"fitted_over\[0\] has 2 entries"),
    "cell of no run": (changed("fitted_over", value=[[18.5, 1.0, 0]]), r"fitted_over\[0\] is 0"),
    "cells": (changed("fitted_over", value={"c": 18.5}), "fitted_over must be a list"),
    "provenance": (changed("provenance", value={"a": [[[[[[[[1]]]]]]]]}), "nested too deeply"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_rule_is_named(broken):
    document, message = BROKEN[broken]
    with pytest.raises(InputError, match=message) as caught:
        parse_prior(json.dumps(document), source="prior.json")
    assert str(caught.value).startswith("prior.json: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{", "[" * 100_000, '{"a": ' * 50_000, '"' + "9" * 5000, "9" * 5000,
     TEXT[: len(TEXT) // 2], TEXT.replace('"kind"', '"law"', 1)],
)  # fmt: skip
def test_text_that_is_no_prior_is_refused(text):
    with pytest.raises(InputError):
        parse_prior(text)


def test_a_file_that_is_not_there_not_text_or_too_large_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_prior(tmp_path / "nothing.json")
    with pytest.raises(InputError, match="no such file"):
        read_prior(tmp_path)
    (tmp_path / "binary.json").write_bytes(b"\x80\x04\x95cos\nsystem\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_prior(tmp_path / "binary.json")
    (tmp_path / "large.json").write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(InputError, match="at most"):
        read_prior(tmp_path / "large.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value, path=()):
    yield path
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, part in inner:
        yield from places(part, (*path, key))


PLACES = [path for path in places(DOCUMENT) if path]


def refusal(text):
    """The prior that a text holds, or the line that refuses it."""
    try:
        return parse_prior(text), ""
    except InputError as error:
        return None, str(error)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(place=st.sampled_from(PLACES), value=json_values, drop=st.booleans())
def test_a_tampered_file_gives_a_prior_or_one_clear_refusal(place, value, drop):
    file, line = refusal(json.dumps(changed(*place, value=value, drop=drop)))
    assert len(line) < 500
    assert "\n" not in line
    if file is not None:  # what is left is a prior: everything about it is finite
        assert np.isfinite(file.mixture.log_density(file.mixture.means)).all()
        assert refusal(document_text(file.to_document()))[1] == ""


@settings(max_examples=200)
@given(at=st.integers(0, len(TEXT) - 1), cut=st.integers(0, 40), put=st.text(max_size=6))
def test_damaged_text_gives_a_prior_or_one_clear_refusal(at, cut, put):
    assert len(refusal(TEXT[:at] + put + TEXT[at + cut :])[1]) < 500
