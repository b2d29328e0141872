"""How much people would be asked at most, before there is a candidate."""

from pathlib import Path
from typing import Any

import pytest

from pairwright.dry_run import planned_steps
from pairwright.plan import Plan
from schemas.configs import Config
from schemas.run_folder import RunFolder


def work(inputs: Path, tmp_path: Path, **label: Any) -> str:
    """What a dry run says of the stage `label`: 24 prompts, 4 samples each, 3 answers a record."""
    asked = {
        "dataset": "Prefs",
        "workspaces": {"team": {"annotators": ["ann", "ben", "cem"]}},
        "annotations": str(tmp_path / "annotations"),
    }
    config = Config.model_validate(
        {
            "run": str(tmp_path / "run"),
            "model": {"path": str(inputs / "model")},
            "prompts": {"path": str(inputs / "prompts.jsonl")},
            "generate": {"n": 4},
            "label": {**asked, **label},
        }
    )
    (step,) = planned_steps(Plan(config, RunFolder(config.run)), ["label"])
    assert not (tmp_path / "annotations").exists()
    return step.amount


@pytest.mark.parametrize(
    ("label", "amount"),
    [
        # 24 prompts times 6 pairs of 4 samples, 3 answers of 40 s.
        ({}, "at most 144 records, 432 judgements, 4.8 hours"),
        ({"pairs_a_prompt": 1}, "at most 24 records, 72 judgements, 0.8 hours"),
        ({"pairs_a_prompt": 9, "mirror": True}, "at most 288 records, 864 judgements, 9.6 hours"),
        ({"kind": "ranking", "overlap": 1}, "at most 24 records, 24 judgements, 0.3 hours"),
        # 36 of 180 are the fifth.
        (
            {"gold": {"path": "gold.jsonl", "rate": 0.2}},
            "at most 180 records, 540 judgements, 6.0 hours",
        ),
        (
            {"workspaces": {"team": {"annotators": ["ann", "ben", "cem"], "quota": 30}}},
            "at most 30 records, 90 judgements, 1.0 hours",
        ),
    ],
)
def test_amount_is_what_the_config_can_ask(
    inputs: Path, tmp_path: Path, label: dict[str, Any], amount: str
) -> None:
    assert work(inputs, tmp_path, **label) == amount


def test_what_scripts_would_answer_takes_nobody_hours(inputs: Path, tmp_path: Path) -> None:
    team = {"team": {"annotators": ["simulated-ann"]}}
    scripts = [{"name": "simulated-ann"}]
    amount = work(inputs, tmp_path, workspaces=team, simulated=scripts, overlap=1)
    assert amount == "at most 144 records, 144 simulated judgements"
