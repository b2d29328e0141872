import math

import pytest

from schemas.resolve import resolve


def test_a_path_becomes_its_object():
    assert resolve("math:pi") is math.pi


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("math.pi", "not of the form package.module:name"),
        ("no_such_module:x", "cannot import 'no_such_module'"),
        ("math:tau_squared", "module 'math' has no 'tau_squared'"),
        ("schemas.configs:Sectoin", r"has no 'Sectoin'; did you mean 'Section'\?"),
        # Only what the module makes itself is listed, and not what it imports.
        ("schemas.resolve:xyz", "has no 'xyz'; it has resolve$"),
    ],
)
def test_a_wrong_path_is_explained(path, complaint):
    with pytest.raises(ValueError, match=complaint):
        resolve(path)
