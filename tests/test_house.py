"""The house: rooms import only what they may, and importing the package is cheap."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.api import use_cases  # noqa: F401  (fails here, not later, where it is missing)

ROOT = Path(__file__).parent.parent


def test_rooms_import_only_rooms_below_them():
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    done = subprocess.run(
        [*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_the_package_loads_no_heavy_library():
    heavy = "{'numpy', 'pandas', 'jax', 'torch', 'matplotlib'}"
    program = f"import sys, allometry, allometry.cli; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("room", ["kernels", "models"])
def test_top_level_rooms_refuse_a_second_name(room):
    spec = importlib.util.spec_from_file_location(room, ROOT / room / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.raises(ImportError, match=f"import allometry.{room} instead"):
        spec.loader.exec_module(module)
