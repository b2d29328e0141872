"""The config that `init` writes: it parses, as it is and with what it leaves commented out."""

import re
from pathlib import Path

import pytest
import yaml

from pairwright.init import write_config
from schemas.config_files import load_config
from schemas.configs import AggregateConfig, Config, LabelConfig


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


def test_each_config_has_a_run_folder_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "a: b.yaml"
    write_config(file)
    assert load_config(file, as_=Config).run == Path("runs/a: b")


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


@pytest.mark.parametrize("section", ["sft", "reward", "grpo", "ppo"])
def test_config_parses_with_each_training_taken_out_of_its_comment(
    written: Path, section: str
) -> None:
    text = written.read_text()
    start = text.index(f"# {section}:")
    end = text.index("\n\n", start)
    written.write_text(text[:start] + re.sub(r"(?m)^# ?", "", text[start:end]) + text[end:])
    config = load_config(written, as_=Config)
    assert getattr(config, section) is not None
    if section in ("grpo", "ppo"):
        keys = yaml.safe_load(written.read_text())[section]
        defaults = type(getattr(config, section)).model_validate({})
        given = getattr(config, section).model_dump(exclude={"trainer", "max_new_tokens"})
        assert {key: given[key] for key in keys if key in given} == {
            key: defaults.model_dump()[key] for key in keys if key in given
        }


def test_what_is_there_already_is_left_alone(written: Path) -> None:
    with pytest.raises(ValueError, match="exists already"):
        write_config(written)
