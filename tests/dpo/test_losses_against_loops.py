"""PPO's and GRPO's losses and gradients against the loops of `loop_reference.py`."""

import math
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from dpo.logps import token_logps
from dpo.losses import (
    clipped_policy_loss,
    clipped_value_loss,
    entropy,
    gae,
    group_advantages,
    masked_mean,
    token_rewards,
    whiten,
)
from tests.dpo import loop_reference as loops

SETTINGS = {
    "as by default": loops.LoopSettings(),
    "discounted, values free": loops.LoopSettings(
        gamma=0.9, lam=0.7, value_clip=None, kl_coef=0.3, value_coef=0.5
    ),
    "Monte Carlo, raw advantages": loops.LoopSettings(lam=1.0, whiten=False, clip=0.1),
    "one step ahead": loops.LoopSettings(lam=0.0, kl_coef=0.0, value_clip=0.05),
}


class Padded(NamedTuple):
    """The same in tensors: float64, right-padded with NaN, abstained rows masked out."""

    ids: Tensor
    logits: Tensor
    values: Tensor
    old_logps: Tensor
    ref_logps: Tensor
    old_values: Tensor
    scores: Tensor
    mask: Tensor


def _padded(fixed: loops.Fixed, pad: int = 2) -> Padded:
    width = max(loops.LENGTHS) + pad

    def rows(of: Sequence[Sequence[float]]) -> Tensor:
        filled = [[*row, *[math.nan] * (width - len(row))] for row in of]
        return torch.tensor(filled, dtype=torch.float64)

    logits = torch.zeros(len(loops.LENGTHS), width, loops.VOCABULARY, dtype=torch.float64)
    ids = torch.zeros(len(loops.LENGTHS), width, dtype=torch.int64)
    mask = torch.zeros(len(loops.LENGTHS), width, dtype=torch.int64)
    for row, rollout in enumerate(fixed.rollouts):
        length = len(rollout.tokens)
        logits[row, :length] = torch.tensor(fixed.logits[row], dtype=torch.float64)
        ids[row, :length] = torch.tensor(rollout.tokens)
        mask[row, :length] = int(rollout.score is not None)
    scores = [math.nan if r.score is None else r.score for r in fixed.rollouts]
    return Padded(
        ids=ids,
        logits=logits.requires_grad_(),
        values=rows(fixed.values).requires_grad_(),
        old_logps=rows([rollout.old_logps for rollout in fixed.rollouts]),
        ref_logps=rows([rollout.ref_logps for rollout in fixed.rollouts]),
        old_values=rows([rollout.old_values for rollout in fixed.rollouts]),
        scores=torch.tensor(scores, dtype=torch.float64),
        mask=mask,
    )


def _logps(batch: Padded) -> Tensor:
    """Each token's log-prob; `token_logps` wants the logits one place before their token."""
    first = batch.ids.new_zeros(len(batch.ids), 1)
    ids = torch.cat([first, batch.ids], dim=1)
    after_last = torch.zeros_like(batch.logits[:, :1])
    return token_logps(torch.cat([batch.logits, after_last], dim=1), ids)


def _learned_from(batch: Padded, settings: loops.LoopSettings) -> tuple[Tensor, Tensor]:
    rewards = token_rewards(
        batch.scores, batch.old_logps, batch.ref_logps, batch.mask, settings.kl_coef
    )
    found = gae(rewards, batch.old_values, batch.mask, settings.gamma, settings.lam)
    advantages = whiten(found.advantages, batch.mask) if settings.whiten else found.advantages
    return advantages, found.returns


def _total_loss(batch: Padded, settings: loops.LoopSettings) -> Tensor:
    advantages, returns = _learned_from(batch, settings)
    of_policy = clipped_policy_loss(
        _logps(batch), batch.old_logps, advantages, batch.mask, settings.clip
    )
    of_values = clipped_value_loss(
        batch.values, batch.old_values, returns, batch.mask, settings.value_clip
    )
    return masked_mean(of_policy.loss + settings.value_coef * of_values, batch.mask)


def _assert_rows(found: Tensor, expected: Sequence[Sequence[float]]) -> None:
    """Each row begins with the expected values and is 0 after them."""
    for row, values in zip(found.tolist(), expected, strict=True):
        assert row[: len(values)] == pytest.approx(values, abs=1e-9)
        assert not any(row[len(values) :])


def test_each_token_earns_what_the_loops_give_it() -> None:
    fixed = loops.fixed_rollouts()
    batch = _padded(fixed)
    found = token_rewards(batch.scores, batch.old_logps, batch.ref_logps, batch.mask, 0.3)
    expected = [[] if r.score is None else loops.rewards_of(r, 0.3) for r in fixed.rollouts]
    _assert_rows(found, expected)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_advantages_and_returns_are_those_of_the_loops(settings: loops.LoopSettings) -> None:
    fixed = loops.fixed_rollouts()
    found = _learned_from(_padded(fixed), settings)
    expected = loops.learned_from(fixed.rollouts, settings)
    _assert_rows(found[0], expected[0])
    _assert_rows(found[1], expected[1])


def test_the_losses_of_each_token_are_those_of_the_loops() -> None:
    fixed = loops.fixed_rollouts()
    batch = _padded(fixed)
    settings = loops.LoopSettings()
    advantages, returns = _learned_from(batch, settings)
    of_policy = clipped_policy_loss(
        _logps(batch), batch.old_logps, advantages, batch.mask, settings.clip
    )
    of_values = clipped_value_loss(batch.values, batch.old_values, returns, batch.mask, 0.2)

    expected_policy: list[list[float]] = []
    expected_values: list[list[float]] = []
    clipped = 0
    rows = zip(*loops.learned_from(fixed.rollouts, settings), strict=True)
    for row, (row_advantages, row_returns) in enumerate(rows):
        rollout = fixed.rollouts[row]
        expected_policy.append([])
        expected_values.append([])
        for t, (advantage, aim) in enumerate(zip(row_advantages, row_returns, strict=True)):
            logp = loops.log_softmax(fixed.logits[row][t])[rollout.tokens[t]]
            ratio = math.exp(logp - rollout.old_logps[t])
            clipped += ratio > 1.2 if advantage > 0 else ratio < 0.8
            expected_policy[-1].append(
                loops.policy_loss(logp, rollout.old_logps[t], advantage, 0.2)
            )
            expected_values[-1].append(
                loops.value_loss(fixed.values[row][t], rollout.old_values[t], aim, 0.2)
            )
    _assert_rows(of_policy.loss, expected_policy)
    _assert_rows(of_values, expected_values)
    assert of_policy.clipped.sum() == clipped > 3


def test_entropy_is_that_of_the_loops() -> None:
    fixed = loops.fixed_rollouts()
    batch = _padded(fixed)
    found = entropy(batch.logits).where(batch.mask.bool(), 0.0)
    expected = [
        [] if row in loops.ABSTAINED else [loops.token_entropy(logits) for logits in of_tokens]
        for row, of_tokens in enumerate(fixed.logits)
    ]
    _assert_rows(found, expected)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_loss_and_gradients_are_those_of_the_loops(settings: loops.LoopSettings) -> None:
    fixed = loops.fixed_rollouts()
    batch = _padded(fixed)
    loss = _total_loss(batch, settings)
    of_logits, of_values = torch.autograd.grad(loss, (batch.logits, batch.values))

    def loop_loss() -> float:
        return loops.total_loss(fixed.rollouts, fixed.logits, fixed.values, settings)

    assert loss.item() == pytest.approx(loop_loss(), abs=1e-9)
    for row, length in enumerate(loops.LENGTHS):
        expected = loops.slopes(loop_loss, fixed.values[row])
        assert of_values[row, :length].tolist() == pytest.approx(expected, abs=1e-6)
        assert not of_values[row, length:].any()
        for t in range(length):
            expected = loops.slopes(loop_loss, fixed.logits[row][t])
            assert of_logits[row, t].tolist() == pytest.approx(expected, abs=1e-6)
        assert not of_logits[row, length:].any()
    assert of_logits.abs().max() > 1e-3
    assert of_values.abs().max() > 1e-3
    assert not of_logits[list(loops.ABSTAINED)].any()


def test_group_advantages_are_those_of_the_loops() -> None:
    rng = Random(9)
    groups: list[list[float | None]] = [
        [None if rng.random() < 0.3 else rng.gauss(0, 2) for _ in range(6)] for _ in range(20)
    ]
    groups += [[None] * 6, [0.3] * 6, [None, None, 0.1, 0.1, 0.1, None], [1.0, *[None] * 5]]
    rewards = [[math.nan if reward is None else reward for reward in group] for group in groups]
    found = group_advantages(torch.tensor(rewards, dtype=torch.float64))
    for row, group in zip(found.tolist(), groups, strict=True):
        assert row == pytest.approx(loops.group_advantages_of(group), abs=1e-9)
