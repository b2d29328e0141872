"""What a PPO step leaves in the log."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from dpo.online import OnlineStep, Rollout
from dpo.ppo_rollouts import Sampled, TokenScores, Worth
from dpo.ppo_update import Experience, Learned
from dpo.rollouts import Scored, means_of


def step_record(
    before: Sequence[OnlineStep],
    answers: Sequence[Sampled],
    worths: Sequence[Worth],
    said: Sequence[TokenScores],
    gained: Experience,
    learned: Learned,
    *,
    held_out_reward: float | None,
    learning_rate: float,
    kl_coef: float,
) -> OnlineStep:
    """The step that comes after those before it."""
    tokens = sum(len(row.logps) for row in said)
    worth = _columns(worths)
    updated = learned.updates > 0
    return OnlineStep(
        step=len(before) + 1,
        tokens=tokens + (before[-1].tokens if before else 0),
        prompt_ids=tuple(answer.prompt.id for answer in answers),
        reward=worth.reward,
        reward_std=worth.reward_std,
        components=means_of(worth.components),
        held_out_rewards=means_of(worth.held_out),
        held_out_reward=held_out_reward,
        abstained=worth.abstained,
        kl=sum(row.kl for row in said) / tokens,
        entropy=sum(sum(row.entropies) for row in said) / tokens,
        length=tokens / len(said),
        unfinished=fmean(answer.completion.finish_reason == "length" for answer in answers),
        loss=learned.loss,
        learning_rate=learning_rate,
        grad_norm=learned.grad_norm,
        policy_loss=learned.policy_loss if updated else None,
        value_loss=learned.value_loss if updated else None,
        clip_fraction=learned.clip_fraction if updated else None,
        explained_variance=gained.explained_variance,
        kl_coef=kl_coef,
    )


def rollout_records(
    step: int,
    answers: Sequence[Sampled],
    worths: Sequence[Worth],
    said: Sequence[TokenScores],
    gained: Experience,
) -> Iterator[Rollout]:
    for at, (answer, worth, tokens) in enumerate(zip(answers, worths, said, strict=True)):
        advantages = gained.advantages[at][gained.mask[at]]
        yield Rollout(
            step=step,
            prompt_id=answer.prompt.id,
            text=answer.completion.text,
            tokens=len(tokens.logps),
            finished=answer.completion.finish_reason == "stop",
            reward=worth.reward,
            components=worth.components,
            held_out_rewards=worth.held_out,
            advantage=advantages.mean().item() if len(advantages) else None,
            kl=tokens.kl,
        )


def _columns(worths: Sequence[Worth]) -> Scored:
    return Scored(
        [worth.reward for worth in worths],
        {name: [worth.components[name] for worth in worths] for name in worths[0].components},
        {name: [worth.held_out[name] for worth in worths] for name in worths[0].held_out},
    )
