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


def rollouts(inputs: Path, tmp_path: Path, **sections: Any) -> str:
    """What a dry run says of the training on 24 prompts."""
    config = Config.model_validate(
        {
            "run": str(tmp_path / "run"),
            "model": {"path": str(inputs / "model"), "device": "cpu"},
            "prompts": {"path": str(inputs / "prompts.jsonl")},
            **sections,
        }
    )
    plan = Plan(config, RunFolder(config.run))
    (step,) = planned_steps(plan, [plan.policy_stage])
    return step.amount


def test_tokens_of_ppo_are_those_of_its_rollouts_and_of_what_is_watched(
    inputs: Path, tmp_path: Path
) -> None:
    ppo = {"steps": 10, "rollouts": 16, "max_new_tokens": 20}
    assert rollouts(inputs, tmp_path, ppo=ppo) == (
        "10 steps of 16 rollouts, at most 3200 new tokens"
    )
    # Held-out prompts are answered at steps 1, 4 and 8.
    watched = {**ppo, "watch": {"every": 4, "prompts": 5}}
    assert rollouts(inputs, tmp_path, ppo=watched) == (
        "10 steps of 16 rollouts, 3 times held-out prompts, at most 3500 new tokens"
    )


def test_steps_of_grpo_are_counted_as_trl_counts_them(inputs: Path, tmp_path: Path) -> None:
    keys = {"num_generations": 4, "per_device_train_batch_size": 8, "max_completion_length": 10}
    # A step asks 2 of the 24 prompts.
    assert rollouts(inputs, tmp_path, grpo={"trainer": {**keys, "num_train_epochs": 2}}) == (
        "24 steps of 8 rollouts, at most 1920 new tokens"
    )
    assert rollouts(inputs, tmp_path, grpo={"trainer": {**keys, "max_steps": 3}}) == (
        "3 steps of 8 rollouts, at most 240 new tokens"
    )
