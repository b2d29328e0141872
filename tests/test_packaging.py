"""The top-level names are generic; from any folder they must be this project's."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("package", ["schemas", "curation", "dpo", "pairwright"])
def test_each_package_comes_from_this_project_in_any_folder(package, tmp_path):
    code = f"import {package}; print({package}.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()) == ROOT / package / "__init__.py"
