"""The road from a reward to a policy that learns from its own answers: GRPO's and PPO's."""

from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from itertools import combinations
from math import isclose
from pathlib import Path
from statistics import fmean
from typing import Any

from dpo.online import OnlineStep, Rollout
from dpo.rollouts import OnlineLog
from pairwright.plan import Plan
from pairwright.progress import Progress, Silent
from pairwright.road import make
from pairwright.selftest.laws import Law, as_far_as_it_goes
from pairwright.selftest.planted_prompts import planted_pairs
from pairwright.selftest.planted_run import planted_plan
from pairwright.stages.pipeline import Road
from schemas.records import Completion, Prompt

_STEPS, _ROLLOUTS, _GROUP = 16, 32, 8
_REWARDS = [{"use": "pairwright.selftest.online:LetterReward"}]
_SECTIONS: dict[str, dict[str, Any]] = {
    "grpo": {
        "lora": None,
        "rewards": _REWARDS,
        "trainer": {
            "max_steps": _STEPS,
            "num_generations": _GROUP,
            "per_device_train_batch_size": _ROLLOUTS,
            "max_completion_length": 12,
            "learning_rate": 5e-3,
            "lr_scheduler_type": "constant",
            "save_strategy": "no",
        },
    },
    "ppo": {
        "lora": None,
        "rewards": _REWARDS,
        "steps": _STEPS,
        "rollouts": _ROLLOUTS,
        "n": _GROUP,
        "minibatch": 16,
        "microbatch": 16,
        "max_new_tokens": 12,
        "learning_rate": 5e-3,
        "kl_coef": 0.0,
        "save_steps": _STEPS,
    },
}


class LetterReward:
    """The share of plain letters in the answer, plus what the prompt adds; some it cannot judge."""

    name = "letters"
    kind = "rule"

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> list[float | None]:
        return [
            _worth(prompt, completion.text)
            for prompt, completion in zip(prompts, completions, strict=True)
        ]


def examine_online(
    folder: Path, progress: Progress, stages: Sequence[str] = ("grpo", "ppo")
) -> Iterator[Law]:
    """The laws of the online trainings, as far as the road goes."""
    return as_far_as_it_goes(_laws(folder, progress, stages), progress)


def _laws(folder: Path, progress: Progress, stages: Sequence[str]) -> Iterator[Law]:
    planted = planted_pairs()
    for stage in stages:
        progress.line(f"selftest: {stage}")
        plan = planted_plan(folder, folder / stage, {stage: _SECTIONS[stage]}, planted)
        plan.run.path.mkdir()
        for name in ("prompts", stage):
            make(Road(plan, Silent()), name)
        yield from _rollout_laws(plan)


def _rollout_laws(plan: Plan) -> Iterator[Law]:
    stage = plan.run.stage(plan.policy_stage)
    prompts = {prompt.id: prompt for prompt in plan.run.stage("prompts").read(Prompt)}
    rollouts = list(OnlineLog(stage.folder).read_rollouts())
    known = {id(one): _worth(prompts[one.prompt_id], one.text) for one in rollouts}
    judged = [one for one in rollouts if known[id(one)] is not None]
    same = sum(one.reward == known[id(one)] for one in judged)
    yield Law("a rollout's reward is what the reward says of its text", same, len(judged))
    silent = [one for one in rollouts if known[id(one)] is None]
    nothing = sum(one.reward is None and not one.advantage for one in silent)
    yield Law(
        "an answer that nobody judged has no reward and teaches nothing", nothing, len(silent)
    )

    steps = list(stage.read(OnlineStep))
    accounts = sum(
        _adds_up(step, [one for one in rollouts if one.step == step.step]) for step in steps
    )
    yield Law("each step's figures are those of its rollouts", accounts, len(steps))
    if plan.policy_stage == "grpo":
        yield _order_law(judged)
    before, after = _letters(judged, range(1, 5)), _letters(judged, range(_STEPS - 3, _STEPS + 1))
    yield Law("training online raises the reward that it is for", int(after > before), 1)


def _letters(judged: Sequence[Rollout], steps: Container[int]) -> float:
    """The mean share of letters in the answers of the steps, whatever their prompts add."""
    return fmean(_share(one.text) for one in judged if one.step in steps)


def _order_law(judged: Sequence[Rollout]) -> Law:
    groups: dict[tuple[int, str], list[Rollout]] = defaultdict(list)
    for one in judged:
        groups[one.step, one.prompt_id].append(one)
    twos = [two for group in groups.values() for two in combinations(group, 2)]
    ordered = sum(
        _sign(one.reward, other.reward) == _sign(one.advantage, other.advantage)
        for one, other in twos
    )
    return Law("the better answer of a group has the greater advantage", ordered, len(twos))


def _adds_up(step: OnlineStep, rollouts: Sequence[Rollout]) -> bool:
    rewards = [one.reward for one in rollouts if one.reward is not None]
    return (
        tuple(one.prompt_id for one in rollouts) == step.prompt_ids
        and step.abstained == len(rollouts) - len(rewards)
        and step.reward is not None
        and isclose(step.reward, fmean(rewards), rel_tol=1e-6)
    )


def _sign(one: float | None, other: float | None) -> int:
    difference = (one or 0) - (other or 0)
    return 0 if abs(difference) < 1e-6 else 1 if difference > 0 else -1


def _worth(prompt: Prompt, text: str) -> float | None:
    """Of the answer to this very prompt; None of every fifth length."""
    if len(text) % 5 == 0:
        return None
    asked = "".join(turn.content or "" for turn in prompt.messages)
    return _share(text) + len(asked) % 7 / 10


def _share(text: str) -> float:
    return sum(letter.isascii() and letter.isalpha() for letter in text) / len(text)
