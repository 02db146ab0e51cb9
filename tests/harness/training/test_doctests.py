import doctest

import pytest

from allometry.harness.training import config, schedule


@pytest.mark.parametrize("module", [config, schedule])
def test_examples_in_docstrings_are_right(module):
    failed, tried = doctest.testmod(module)
    assert failed == 0
    assert tried > 0
