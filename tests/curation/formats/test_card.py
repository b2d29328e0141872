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


def test_the_front_matter_names_a_file_for_each_split() -> None:
    assert front_matter(card())["configs"] == [
        {
            "config_name": "default",
            "data_files": [
                {"split": "train", "path": "train.parquet"},
                {"split": "test", "path": "test.parquet"},
            ],
        }
    ]


def test_an_empty_test_split_is_not_named() -> None:
    files = front_matter(card(rows={"train": 9, "test": 0}))["configs"][0]["data_files"]
    assert files == [{"split": "train", "path": "train.parquet"}]


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
