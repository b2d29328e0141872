"""The config that `init` writes: it parses, as it is and with what it leaves commented out."""

import re
from pathlib import Path

import pytest
import yaml

from pairwright.init import write_config
from schemas.configs import AggregateConfig, Config, LabelConfig, load_config


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    write_config(path)
    return path


def with_people(text: str) -> str:
    """The text with its sections `label` and `aggregate` taken out of their comments."""
    start, end = text.index("# label:"), text.index("\npair:")
    return text[:start] + re.sub(r"(?m)^# ?", "", text[start:end]) + text[end:]


def test_config_as_written_asks_no_people(written: Path) -> None:
    assert load_config(written, as_=Config).label is None


def test_config_parses_with_people_asked(written: Path) -> None:
    written.write_text(with_people(written.read_text()))
    config = load_config(written, as_=Config)
    assert config.label is not None
    assert config.label.workspaces["everyday"].annotators == ("ann", "ben", "cem")
    assert config.aggregate.method == "majority"


def test_every_key_about_people_is_there_with_its_default(written: Path) -> None:
    data = yaml.safe_load(with_people(written.read_text()))
    assert data["label"].keys() == LabelConfig.model_fields.keys()
    assert data["aggregate"].keys() == AggregateConfig.model_fields.keys()
    chosen = {"dataset", "workspaces", "pairs_a_prompt"}
    asked = LabelConfig.model_validate(data["label"])
    for key, field in LabelConfig.model_fields.items():
        if key not in chosen:
            assert getattr(asked, key) == field.get_default(call_default_factory=True), key


def test_what_is_there_already_is_left_alone(written: Path) -> None:
    with pytest.raises(ValueError, match="exists already"):
        write_config(written)
