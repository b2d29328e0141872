"""Runs with fine-tuning, a reward model and online training, as their stages would store them."""

import math
from collections.abc import Callable
from random import Random
from typing import Any

from dpo.online import OnlineStep, Rollout
from dpo.reward_accuracy import LabelAgreement, ScoredPair, measure
from dpo.rollouts import OnlineLog
from dpo.sft_step import SftStep
from dpo.step_log import StepRecord
from dpo.watch import Watch, alarms
from schemas.configs import WatchConfig
from schemas.records import Prompt
from tests.pairwright.fake_run import FakeRun

METHOD = {
    "method": "lora",
    "trainable_parameters": 4_884_480,
    "parameters": 139_399_488,
    "precision": "float32",
    "device": "cpu",
    "train_seconds": 161.8,
}
Value = Callable[[int, Random], Any]


def online_steps(count: int, **values: Value) -> list[OnlineStep]:
    """16 rollouts a step to 4 of 10 prompts each; values are functions of the step from 0."""
    rng = Random(0)
    usual: dict[str, Value] = {
        "reward": lambda n, rng: 0.3 + 0.4 * n / count + rng.gauss(0, 0.05),
        "reward_std": lambda n, rng: 0.3 + rng.gauss(0, 0.03),
        "kl": lambda n, rng: 0.06 * n / count + rng.gauss(0, 0.003),
        "entropy": lambda n, rng: 1.9 - 0.4 * n / count + rng.gauss(0, 0.04),
        "length": lambda n, rng: 41 - 4 * n / count + rng.gauss(0, 1.5),
        "unfinished": lambda n, rng: max(0.0, round(0.06 + rng.gauss(0, 0.04), 3)),
        "loss": lambda n, rng: rng.gauss(0, 0.02),
        "grad_norm": lambda n, rng: 0.6 + rng.random() / 5,
        "clip_fraction": lambda n, rng: 0.02 + rng.random() / 50,
    }
    return [
        OnlineStep(
            step=number + 1,
            tokens=640 * (number + 1),
            prompt_ids=tuple(f"prompt-{(4 * number + slot // 4) % 10}" for slot in range(16)),
            learning_rate=1e-4,
            **{name: value(number, rng) for name, value in {**usual, **values}.items()},
        )
        for number in range(count)
    ]


def gamed_steps(count: int) -> list[OnlineStep]:
    """The training reward rises on; a watched reward rises and falls; answers degenerate."""
    return online_steps(
        count,
        reward=lambda n, rng: 0.2 + 3 * (1 - math.exp(-3 * n / count)) + rng.gauss(0, 0.1),
        held_out_reward=lambda n, rng: (
            0.25 + 2.5 * (1 - math.exp(-3 * n / count)) if n == 0 or (n + 1) % 4 == 0 else None
        ),
        held_out_rewards=lambda n, rng: {
            "distinct": 0.6 + 0.8 * n / count - 1.4 * (n / count) ** 2 + rng.gauss(0, 0.02),
            "ends": 0.9 + rng.gauss(0, 0.03),
        },
        components=lambda n, rng: {
            "words": 4 * n / count + rng.gauss(0, 0.1),
            "brevity": 0.5 + rng.gauss(0, 0.05),
        },
        kl=lambda n, rng: 0.9 * (n / count) ** 2 + rng.gauss(0, 0.004),
        entropy=lambda n, rng: 2 * math.exp(-4 * n / count),
        equal_groups=lambda n, rng: min(1.0, 0.1 + n / (2 * count)),
    )


def ppo_steps(count: int) -> list[OnlineStep]:
    """A training that goes well, with the figures of PPO alone."""
    return online_steps(
        count,
        value_loss=lambda n, rng: 0.5 * math.exp(-3 * n / count) + 0.05 + rng.random() / 50,
        policy_loss=lambda n, rng: rng.gauss(0, 0.02),
        explained_variance=lambda n, rng: 0.8 - math.exp(-3 * n / count) + rng.gauss(0, 0.05),
        kl_coef=lambda n, rng: 0.05,
        abstained=lambda n, rng: int(n == 3),
    )


def add_rollouts(fake: FakeRun, stage: str, steps: list[OnlineStep], prompts: list[Prompt]) -> None:
    """The rollouts of these steps, each a little better than the one before."""
    log = OnlineLog(fake.run.stage(stage).folder)
    for step in steps:
        log.append(
            step,
            [
                Rollout(
                    step=step.step,
                    prompt_id=prompts[slot % len(prompts)].id,
                    text=f"rollout {slot} of step {step.step}: " + "the " * (1 + step.step // 2),
                    tokens=40,
                    finished=slot != 15,
                    reward=None if slot == 0 else slot / 16,
                    held_out_rewards={"distinct": 1 / (1 + step.step)},
                    kl=0.4 * step.step,
                )
                for slot, _ in enumerate(step.prompt_ids)
            ],
        )


def add_online(fake: FakeRun, stage: str, steps: list[OnlineStep], **facts: Any) -> None:
    """The stage `grpo` or `ppo`, of 12 prompts of which two are refused."""
    told = {
        **METHOD,
        "rewards": {"words": 1.0, "brevity": 0.5},
        "stopped": Watch(WatchConfig(stop_kl=2.0), None, ()).stop(steps),
        "health": alarms(steps, WatchConfig().window),
        "seconds": {"rollouts": 12.3},
        **facts,
    }
    fake.write(
        stage,
        OnlineStep,
        steps,
        counts={
            "prompts": 10,
            "quarantined": 2,
            "steps": len(steps),
            "rollouts": 16 * len(steps),
            "abstained": sum(step.abstained for step in steps),
            "tokens": steps[-1].tokens if steps else 0,
        },
        reasons={"PROMPT_TOO_LONG": 2},
        facts=told,
        watch={"window": WatchConfig().window},
    )


def add_sft(fake: FakeRun, **facts: Any) -> None:
    """60 steps in two epochs; the loss on held-out conversations falls."""
    rng = Random(1)
    steps = [
        SftStep(
            step=step,
            epoch=step / 30,
            loss=1.3 + math.exp(-step / 15) + rng.gauss(0, 0.05),
            tokens=500,
            row_ids=("row",),
        )
        for step in range(1, 61)
    ]
    told = {
        **METHOD,
        "rows": {"read": 250, "trained": 230, "held_out": 14, "quarantined": 6},
        "reasons": {"NO_ASSISTANT_TURN": 6},
        "tokens": {"all": 52_000, "trained": 31_000},
        "held_out": {"tokens": 1900, "loss_before": 2.31, "loss_after": 1.62},
        "health": [],
        **facts,
    }
    fake.write("sft", SftStep, steps, counts={"steps": 60}, facts=told)


def add_reward_model(fake: FakeRun, pairs: int = 120, **facts: Any) -> None:
    """A model that is right on three of four held-out pairs, and too sure of it."""
    rng = Random(2)
    held_out = [
        ScoredPair(
            prompt_id=f"prompt-{pair // 2}",
            chosen=rng.gauss(1.2, 1.8),
            rejected=0.0 if pair else None,
            chosen_length=rng.randrange(20, 90),
            rejected_length=rng.randrange(20, 80),
        )
        for pair in range(pairs)
    ]
    steps = [
        StepRecord(
            step=step,
            epoch=step / 20,
            loss=0.45 + 0.25 * math.exp(-step / 8) + rng.gauss(0, 0.02),
            pair_ids=("pair-1",),
        )
        for step in range(1, 41)
    ]
    measured = measure(held_out, LabelAgreement(agreement=0.82, votes=3))
    told = {
        **METHOD,
        "pairs": 6,
        "too_long_pairs": 0,
        "held_out": measured.model_dump(mode="json") if held_out else None,
        "health": measured.alarms(),
        **facts,
    }
    fake.write("reward", StepRecord, steps, counts={"steps": 40}, facts=told)
