"""Rounds that people label: they wait, and the same command goes on, against a live Argilla."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from curation.argilla.server.background import start_background
from curation.argilla.server.environment import ensure_environment
from tests.pairwright.conftest import Command
from tests.pairwright.fake_run import Page
from tests.pairwright.rounds_inputs import write_rounds

SCRIPTS = ("simulated-ann", "simulated-ben")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A config of rounds that asks people, with a server that runs as long as the test."""
    try:
        ensure_environment(print)
    except OSError as error:
        pytest.skip(f"no Argilla server on this machine: {error}")
    file = write_rounds(tmp_path)
    data = yaml.safe_load(file.read_text())
    data["label"] = {
        "dataset": "Prefs",
        "workspaces": {"team": {"annotators": list(SCRIPTS)}},
        "overlap": 2,
        "pairs_a_prompt": 1,
        "annotations": str(tmp_path / "annotations"),
    }
    file.write_text(yaml.safe_dump(data))
    monkeypatch.setenv("PAIRWRIGHT_ARGILLA_HOME", str(tmp_path / "home"))
    with start_background(tmp_path / "home"):
        yield file


def test_rounds_wait_for_people_and_go_on_when_they_are_done(
    config: Path, pairwright: Command
) -> None:
    everyone = ", ".join(f"{{name: {name}, accuracy: 0.9}}" for name in SCRIPTS)

    waiting = pairwright("rounds", config)
    assert waiting.code == 1
    assert "round 1: 0 of 24 answers are in; people go on at http" in waiting.err

    # The first round's people answer, by script; the second round's have not.
    answered = pairwright("rounds", config, f"label.simulated=[{everyone}]", "rounds.count=1")
    assert answered.code == 0, answered.err
    waiting = pairwright("rounds", config)
    assert waiting.code == 1
    assert "generate: unchanged, reused" in waiting.err
    assert "round 2: 0 of 24 answers are in" in waiting.err
    asked = config.parent / "rounds" / "round-2" / "config.yaml"
    assert yaml.safe_load(asked.read_text())["label"]["dataset"] == "Prefs round 2"
    assert _json(pairwright("label", "status", asked, "--json"))

    done = _json(pairwright("rounds", config, f"label.simulated=[{everyone}]", "--json"))
    assert [row["labels"] for row in done["rounds"]] == [24, 24]
    assert all(row["simulated"] for row in done["rounds"])
    assert all(-1 <= row["agreement"]["value"] <= 1 for row in done["rounds"])
    page = Page((config.parent / "rounds" / "report.html").read_text(encoding="utf-8"))
    assert "Krippendorff's alpha" in page.text
    assert page.tags.count("svg") == 8
    assert not any(name in page.text for name in SCRIPTS), "what is forgotten must not stay here"
    assert "labels" in pairwright("show", config.parent / "rounds").out


def _json(outcome: Any) -> Any:
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)
