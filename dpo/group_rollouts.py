"""What a step of GRPO sampled, over all processes, and what the log says of it."""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from dpo.losses import group_advantages
from dpo.online import OnlineStep, Rollout
from dpo.rollouts import Scored, means_of
from schemas.records import Completion

_EPSILON = 1e-4
_ROUNDING = 1e-9
"""Advantages up to this come of rewards that differ by rounding alone."""


class Sample(NamedTuple):
    """An answer as it was sampled."""

    prompt_id: str
    completion: Completion
    tokens: int
    kl: float
    """Sum over its tokens, nats."""
    entropy: float
    """Sum over its tokens, nats."""


class Sampled(NamedTuple):
    """The rollouts of a step, over all processes, whole groups in order."""

    step: int
    samples: list[Sample]
    scored: Scored
    advantages_PG: Tensor  # noqa: N815 (axes are capitals)
    held_out_reward: float | None


class Update(NamedTuple):
    """What the trainer says of one optimiser update."""

    loss: float
    grad_norm: float
    learning_rate: float
    clip_fraction: float | None


def advantages(rewards_PG: Tensor, scale_rewards: str) -> Tensor:  # noqa: N803
    """How much better each answer is than its group, (P, G); NaN is an answer nobody judged.

    `batch` divides by the standard deviation of all rewards (Hu et al., 2025), `group` by the
    group's, `none` by nothing.
    """
    if scale_rewards != "batch":
        return group_advantages(rewards_PG, scale=scale_rewards == "group", eps=_EPSILON)
    judged = rewards_PG[~rewards_PG.isnan()]
    deviations = group_advantages(rewards_PG, scale=False)
    return deviations / (judged.std() + _EPSILON) if judged.numel() > 1 else deviations


def in_order(parts: Sequence[tuple[list[int], Scored]]) -> Scored:
    """The parts' scores as one, each at the row it belongs to."""
    order = [row for rows, _ in parts for row in rows]
    places = sorted(range(len(order)), key=order.__getitem__)

    def joined(columns: Sequence[Sequence[float | None]]) -> list[float | None]:
        flat = [score for column in columns for score in column]
        return [flat[place] for place in places]

    scores = [scored for _, scored in parts]
    return Scored(
        totals=joined([part.totals for part in scores]),
        components={
            name: joined([part.components[name] for part in scores])
            for name in scores[0].components
        },
        held_out={
            name: joined([part.held_out[name] for part in scores]) for name in scores[0].held_out
        },
    )


def step_of(sampled: Sampled, updates: Sequence[Update], tokens: int) -> OnlineStep:
    samples, scored = sampled.samples, sampled.scored
    count = sum(sample.tokens for sample in samples)
    clipped = [update.clip_fraction for update in updates if update.clip_fraction is not None]
    unfinished = [sample.completion.finish_reason == "length" for sample in samples]
    return OnlineStep(
        step=sampled.step,
        tokens=tokens,
        prompt_ids=tuple(sample.prompt_id for sample in samples),
        reward=scored.reward,
        reward_std=scored.reward_std,
        components=means_of(scored.components),
        held_out_rewards=means_of(scored.held_out),
        held_out_reward=sampled.held_out_reward,
        abstained=scored.abstained,
        equal_groups=_equal_groups(sampled),
        kl=sum(sample.kl for sample in samples) / count,
        entropy=sum(sample.entropy for sample in samples) / count,
        length=count / len(samples),
        unfinished=fmean(unfinished),
        loss=fmean(update.loss for update in updates),
        learning_rate=updates[-1].learning_rate,
        grad_norm=fmean(update.grad_norm for update in updates),
        clip_fraction=fmean(clipped) if clipped else None,
    )


def _equal_groups(sampled: Sampled) -> float | None:
    """The share of groups whose rewards are all equal; None where no group has two to compare."""
    advantages_PG = sampled.advantages_PG  # noqa: N806
    judged = torch.tensor([score is not None for score in sampled.scored.totals])
    compared = judged.view(advantages_PG.shape).sum(dim=1) > 1
    equal = (advantages_PG.abs() <= _ROUNDING).all(dim=1)[compared]
    return equal.double().mean().item() if len(equal) else None


def rollouts_of(sampled: Sampled) -> list[Rollout]:
    scored = sampled.scored
    return [
        Rollout(
            step=sampled.step,
            prompt_id=sample.prompt_id,
            text=sample.completion.text,
            tokens=sample.tokens,
            finished=sample.completion.finish_reason != "length",
            reward=scored.totals[row],
            components={name: scores[row] for name, scores in scored.components.items()},
            held_out_rewards={name: scores[row] for name, scores in scored.held_out.items()},
            advantage=advantage,
            kl=sample.kl,
        )
        for row, (sample, advantage) in enumerate(
            zip(sampled.samples, sampled.advantages_PG.flatten().tolist(), strict=True)
        )
    ]
