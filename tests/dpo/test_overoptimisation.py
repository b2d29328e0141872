"""A reward that can be gamed is gamed, by GRPO and PPO alike, and the watch sees it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from curation.rewards.weighted import WeightedSum
from dpo.online import OnlineResult, OnlineStep
from dpo.train_grpo import train_grpo
from dpo.train_ppo import train_ppo
from dpo.watch import Watch, change
from schemas.configs import GrpoConfig, ModelConfig, PpoConfig, WatchConfig
from schemas.records import Completion, Message, Prompt

PROMPTS = [Prompt(messages=(Message(role="user", content=f"question {n}"),)) for n in range(8)]
STEPS, ROLLOUTS, LONGEST = 12, 32, 12
Train = Callable[[ModelConfig, Watch, Path], OnlineResult]


def letter_e(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
    """The reward that is gamed: how often the letter e stands in the answer, in tens."""
    return [completion.text.count("e") / 10 for completion in completions]


def distinct(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
    """What should not be lost: the share of different letters among the letters."""
    letters = [completion.text.replace(" ", "") for completion in completions]
    return [len(set(text)) / len(text) if text else None for text in letters]


def with_ppo(model: ModelConfig, watch: Watch, out: Path) -> OnlineResult:
    config = PpoConfig(
        lora=None,
        steps=STEPS,
        rollouts=ROLLOUTS,
        minibatch=16,
        microbatch=ROLLOUTS,
        max_new_tokens=LONGEST,
        learning_rate=3e-3,
        kl_coef=0.0,
    )
    reward = WeightedSum([(letter_e, 1.0, "letter_e")])
    return train_ppo(PROMPTS, model, config, reward, watch=watch, out=out, seed=0)


def with_grpo(model: ModelConfig, watch: Watch, out: Path) -> OnlineResult:
    trainer = {
        "per_device_train_batch_size": ROLLOUTS,
        "num_generations": 8,
        "max_completion_length": LONGEST,
        "max_steps": STEPS,
        "learning_rate": 2e-2,
        "lr_scheduler_type": "constant",
    }
    reward = WeightedSum([(letter_e, 1.0, "letter_e")])
    return train_grpo(
        PROMPTS,
        model,
        GrpoConfig(lora=None, trainer=trainer),
        reward,
        watch=watch,
        out=out,
        seed=0,
    )


@pytest.fixture
def model(tiny_model_folder: Path) -> ModelConfig:
    return ModelConfig(path=str(tiny_model_folder), device="cpu")


def watching(**rules: object) -> Watch:
    config = WatchConfig.model_validate({"window": 4, **rules})
    return Watch(config, WeightedSum([(distinct, 1.0, "distinct")]), ())


def _distinct(step: OnlineStep) -> float | None:
    return step.held_out_rewards["distinct"]


@pytest.mark.parametrize("train", [with_ppo, with_grpo], ids=["ppo", "grpo"])
def test_a_gameable_reward_sets_the_alarm_off(
    train: Train, model: ModelConfig, tmp_path: Path
) -> None:
    result = train(model, watching(), tmp_path)
    first, last = result.steps[0], result.steps[-1]
    assert last.reward is not None
    assert first.reward is not None
    assert last.reward > 2 * first.reward
    fall = change(result.steps, _distinct, 4)
    assert fall is not None
    assert fall.fell
    alarms = result.facts["health"]
    assert [text for text in alarms if text.startswith("OVEROPTIMISED") and "'distinct'" in text]
    assert [text for text in alarms if text.startswith("KL_HIGH")]


def test_a_rule_ends_the_training_before_the_answers_are_lost(
    model: ModelConfig, tmp_path: Path
) -> None:
    result = with_ppo(model, watching(stop_kl=0.2), tmp_path)
    assert 1 < len(result.steps) < STEPS
    *before, last = (step.kl for step in result.steps)
    assert max(before) <= 0.2 < last
    assert result.facts["stopped"].endswith("above watch.stop_kl = 0.2")
