import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import allometry.accounting

MODULES = [module.name for module in pkgutil.iter_modules(allometry.accounting.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_right(name):
    module = importlib.import_module(f"allometry.accounting.{name}")
    failed, tried = doctest.testmod(module)
    assert failed == 0
    assert tried > 0, "no example to run"


def test_examples_in_the_guide_are_right():
    guide = Path(__file__).parents[2] / "docs" / "accounting.md"
    failed, tried = doctest.testfile(str(guide), module_relative=False)
    assert failed == 0
    assert tried > 5
