"""The example scripts, imported from their folder."""

import importlib.util
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture
def load(monkeypatch):
    """Import an example by name, as the shell would: its folder is on the path."""
    monkeypatch.syspath_prepend(EXAMPLES)

    def by_name(name):
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
            sys.modules[name] = module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        return sys.modules[name]

    return by_name
