"""PPO's and GRPO's losses once more, in loops over floats, for a test that compares.

Written from the papers, and sharing nothing with the code under test: no tensors, no masks (a
rollout is a list as long as its answer), no import of ours. Gradients are central differences of
the whole way from logits to total loss.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean, variance
from typing import NamedTuple

Floats = list[float]
TokenLogits = list[Floats]
"""The logits that predict each token of an answer."""


@dataclass(frozen=True)
class LoopRollout:
    """A sampled answer, and what was known of it when it was sampled; lists of equal length."""

    tokens: list[int]
    old_logps: Floats
    ref_logps: Floats
    old_values: Floats
    score: float | None
    """None where nobody judged: the answer teaches nothing."""


@dataclass(frozen=True)
class LoopSettings:
    clip: float = 0.2
    value_clip: float | None = 0.2
    value_coef: float = 0.1
    gamma: float = 1.0
    lam: float = 0.95
    kl_coef: float = 0.05
    whiten: bool = True


def log_softmax(logits: Floats) -> Floats:
    highest = max(logits)
    total = math.log(sum(math.exp(logit - highest) for logit in logits)) + highest
    return [logit - total for logit in logits]


def token_entropy(logits: Floats) -> float:
    return -sum(math.exp(logp) * logp for logp in log_softmax(logits))


def rewards_of(rollout: LoopRollout, kl_coef: float) -> Floats:
    """What each token earns: the KL's share, and the score at the end."""
    assert rollout.score is not None
    rewards = []
    for t in range(len(rollout.tokens)):
        reward = -kl_coef * (rollout.old_logps[t] - rollout.ref_logps[t])
        if t == len(rollout.tokens) - 1:
            reward += rollout.score
        rewards.append(reward)
    return rewards


def advantages_of(rewards: Floats, values: Floats, gamma: float, lam: float) -> Floats:
    """The sum of all discounted TD errors to come, written out rather than carried back."""
    length = len(rewards)
    errors = []
    for t in range(length):
        after = values[t + 1] if t + 1 < length else 0.0
        errors.append(rewards[t] + gamma * after - values[t])
    return [
        sum((gamma * lam) ** (later - t) * errors[later] for later in range(t, length))
        for t in range(length)
    ]


def returns_of(advantages: Floats, values: Floats) -> Floats:
    return [advantage + value for advantage, value in zip(advantages, values, strict=True)]


def whitened(rows: Sequence[Floats]) -> list[Floats]:
    """The rows with mean 0 and variance 1 over all of them."""
    everything = [value for row in rows for value in row]
    mean = fmean(everything)
    scale = math.sqrt(variance(everything) + 1e-8)
    return [[(value - mean) / scale for value in row] for row in rows]


def policy_loss(logp: float, old_logp: float, advantage: float, clip: float) -> float:
    ratio = math.exp(logp - old_logp)
    if advantage >= 0:
        return -advantage * min(ratio, 1 + clip)
    return -advantage * max(ratio, 1 - clip)


def value_loss(value: float, old: float, aim: float, clip: float | None) -> float:
    loss = 0.5 * (value - aim) ** 2
    if clip is not None:
        held = min(max(value, old - clip), old + clip)
        loss = max(loss, 0.5 * (held - aim) ** 2)
    return loss


def learned_from(
    rollouts: Sequence[LoopRollout], settings: LoopSettings
) -> tuple[list[Floats], list[Floats]]:
    """Advantages and returns of the rollouts' tokens; empty where nobody judged."""
    judged = [rollout for rollout in rollouts if rollout.score is not None]
    advantages = [
        advantages_of(
            rewards_of(rollout, settings.kl_coef), rollout.old_values, settings.gamma, settings.lam
        )
        for rollout in judged
    ]
    returns = [
        returns_of(row, rollout.old_values) for row, rollout in zip(advantages, judged, strict=True)
    ]
    if settings.whiten:
        advantages = whitened(advantages)
    of_judged = iter(zip(advantages, returns, strict=True))
    both = [next(of_judged) if rollout.score is not None else ([], []) for rollout in rollouts]
    return [row for row, _ in both], [row for _, row in both]


def total_loss(
    rollouts: Sequence[LoopRollout],
    logits: Sequence[TokenLogits],
    values: Sequence[Floats],
    settings: LoopSettings,
) -> float:
    """The mean over tokens of policy loss + value_coef * value loss."""
    advantages, returns = learned_from(rollouts, settings)
    losses = []
    for row, rollout in enumerate(rollouts):
        if rollout.score is None:
            continue
        for t, token in enumerate(rollout.tokens):
            logp = log_softmax(logits[row][t])[token]
            losses.append(
                policy_loss(logp, rollout.old_logps[t], advantages[row][t], settings.clip)
                + settings.value_coef
                * value_loss(
                    values[row][t], rollout.old_values[t], returns[row][t], settings.value_clip
                )
            )
    return fmean(losses)


def slopes(loss: Callable[[], float], row: Floats, step: float = 1e-6) -> Floats:
    """The central difference of the loss in each entry of the row, which is put back."""
    found = []
    for index, value in enumerate(row):
        row[index] = value + step
        above = loss()
        row[index] = value - step
        below = loss()
        row[index] = value
        found.append((above - below) / (2 * step))
    return found


def group_advantages_of(rewards: Sequence[float | None], eps: float = 1e-4) -> Floats:
    """GRPO's advantages of one group; None is left out of mean and deviation."""
    judged = [reward for reward in rewards if reward is not None]
    if len(judged) < 2 or len(set(judged)) == 1:
        return [0.0] * len(rewards)
    mean, deviation = fmean(judged), math.sqrt(variance(judged))
    return [0.0 if reward is None else (reward - mean) / (deviation + eps) for reward in rewards]


# The rollouts that both are given

VOCABULARY = 5
LENGTHS = (1, 3, 7, 2, 5, 1, 4, 6, 2, 3, 5, 4)
ABSTAINED = (3, 8)


class Fixed(NamedTuple):
    """A dozen rollouts, and the policy and values that are updated on them, as lists."""

    rollouts: list[LoopRollout]
    logits: list[TokenLogits]
    values: list[Floats]


def fixed_rollouts() -> Fixed:
    rng = Random(4)
    rollouts, all_logits, all_values = [], [], []
    for row, length in enumerate(LENGTHS):
        logits = [[rng.gauss(0, 1.5) for _ in range(VOCABULARY)] for _ in range(length)]
        tokens = [rng.randrange(VOCABULARY) for _ in range(length)]
        logps = [log_softmax(logits[t])[tokens[t]] for t in range(length)]
        old_values = [rng.gauss(0, 0.5) for _ in range(length)]
        rollouts.append(
            LoopRollout(
                tokens=tokens,
                # The policy has moved by up to half a nat, so that many ratios are clipped.
                old_logps=[logp + rng.uniform(-0.5, 0.5) for logp in logps],
                ref_logps=[logp + rng.uniform(-1, 1) for logp in logps],
                old_values=old_values,
                score=None if row in ABSTAINED else rng.gauss(0, 1),
            )
        )
        all_logits.append(logits)
        all_values.append([value + rng.uniform(-0.4, 0.4) for value in old_values])
    return Fixed(rollouts, all_logits, all_values)
