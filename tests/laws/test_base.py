from dataclasses import replace

import pytest

from allometry.errors import InputError
from allometry.laws import PNORM, get_law, law_names, register_law


def test_a_law_is_found_by_name_and_passes_through():
    assert get_law("pnorm") is PNORM
    assert get_law(PNORM) is PNORM


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"no law named 'pnrom'; known: .*chinchilla.*pnorm"):
        get_law("pnrom")


def test_a_name_is_taken_once():
    assert register_law(PNORM) is PNORM
    with pytest.raises(InputError, match="registered already"):
        register_law(replace(PNORM, formula="another"))
    assert "pnorm" in law_names()
