import doctest
import importlib
import pkgutil

import pytest

import allometry.cli.data
import allometry.observations

MODULES = [
    f"allometry.observations.{module.name}"
    for module in pkgutil.iter_modules(allometry.observations.__path__)
]


@pytest.mark.parametrize("name", [*MODULES, "allometry.cli.data"])
def test_examples_in_docstrings_are_right(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_examples_are_found_at_all():
    modules = [importlib.import_module(name) for name in MODULES]
    assert sum(doctest.testmod(module).attempted for module in modules) >= 4
