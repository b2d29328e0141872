"""The card of an exported dataset."""

from typing import Any

import yaml

from curation.formats.card import dataset_card
from schemas import SCHEMA_VERSION


def card(**changes: Any) -> str:
    arguments: dict[str, Any] = {
        "run": "runs/demo",
        "rows": {"train": 9, "test": 1},
        "hashes": {"weights": "abc123", "template": "def456"},
        "funnel": {"prompts": 12, "candidates": 48, "pairs": 10},
        "reasons": {"TIE": 2},
    }
    return dataset_card(**{**arguments, **changes})


def front_matter(text: str) -> Any:
    return yaml.safe_load(text.split("---\n")[1])


def test_the_front_matter_names_no_files() -> None:
    assert set(front_matter(card())) == {"tags"}


def test_the_card_tells_version_run_hashes_funnel_and_reasons() -> None:
    text = card(licences=["MIT", "Apache-2.0", "MIT"])
    assert f"schema version {SCHEMA_VERSION}" in text
    assert "# Preference pairs of run runs/demo" in text
    for line in (
        "| train | 9 |",
        "| weights | abc123 |",
        "| candidates | 48 |",
        "| TIE | 2 |",
        "Apache-2.0, MIT",
    ):
        assert line in text.splitlines()


def test_equal_arguments_give_equal_text() -> None:
    assert card() == card()


def test_a_name_cannot_break_out_of_its_table() -> None:
    text = card(funnel={"a | b\n\n# Title": 1})
    assert "| a \\| b # Title | 1 |" in text.splitlines()
