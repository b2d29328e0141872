"""The README's table of files names every module, and nothing that is not there."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.docs.pages import ROOT

_PACKAGES = ("schemas", "curation", "dpo", "pairwright")
_FILE = re.compile(r"`([\w./*-]+(?:\.py|/))`")


def test_every_module_is_named_or_lies_in_a_folder_that_is() -> None:
    named = set(_named())
    modules = [file for package in _PACKAGES for file in (ROOT / package).rglob("*.py")]
    assert len(modules) > 100
    unnamed = [
        str(file.relative_to(ROOT))
        for file in modules
        if file.name != "__init__.py" and named.isdisjoint((file, *file.parents))
    ]
    assert not unnamed


def _named() -> Iterator[Path]:
    """The files and folders of the table; one without a folder lies beside the one before it."""
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("## What is where")[2]
    for row in table.splitlines():
        beside = ROOT
        for name in _FILE.findall(row) if row.startswith("|") else ():
            places = (ROOT, beside, beside.parent)
            found = next((hits for place in places if (hits := list(place.glob(name)))), [])
            assert found, f"the README names '{name}', which is not there"
            yield from found
            beside = found[0] if found[0].is_dir() else found[0].parent
