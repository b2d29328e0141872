"""Advantages and updates of PPO on fixed rollouts, against a loop over single tokens."""

import copy
import math
from typing import Any

import pytest
import torch

from dpo.ppo_rollouts import TokenScores
from dpo.ppo_update import experience, learn
from dpo.value_model import TokenRow
from schemas.configs import PpoConfig
from tests.dpo.fixed_rollouts import (
    ONE_UPDATE,
    ROLLOUTS,
    make_experience,
    make_model,
    make_rollouts,
    said_of,
    updated,
)


def by_hand(config: PpoConfig, kl_coef: float) -> tuple[float, float, float, dict[str, Any]]:
    """Policy loss, value loss, clip fraction and gradients, one token at a time."""
    model = make_model()
    rows, said, rewards = make_rollouts()
    tokens = []
    for at, reward in enumerate(rewards):
        if reward is None:
            continue
        scores = said[at]
        earned = [-kl_coef * (p - q) for p, q in zip(scores.logps, scores.ref_logps, strict=True)]
        earned[-1] += reward
        advantage, later, gained = 0.0, 0.0, []
        for t in reversed(range(len(earned))):
            delta = earned[t] + config.gamma * later - scores.values[t]
            advantage = delta + config.gamma * config.lam * advantage
            later = scores.values[t]
            gained.append(advantage)
        for t, value in enumerate(reversed(gained)):
            tokens.append((at, t, value, value + scores.values[t]))
    mean = sum(token[2] for token in tokens) / len(tokens)
    variance = sum((token[2] - mean) ** 2 for token in tokens) / (len(tokens) - 1)
    policy_loss, value_loss, clipped = torch.zeros(()), torch.zeros(()), 0
    for at, t, advantage, outcome in tokens:
        logp, value = said_of(model, rows[at], t)
        target = (advantage - mean) / math.sqrt(variance)
        ratio = (logp - said[at].logps[t]).exp()
        inside = ratio.clamp(1 - config.clip, 1 + config.clip)
        policy_loss = policy_loss + torch.maximum(-ratio * target, -inside * target)
        clipped += int(-inside * target > -ratio * target)
        old, reach = said[at].values[t], config.value_clip or 1e9
        held = old + (value - old).clamp(-reach, reach)
        value_loss = value_loss + torch.maximum((value - outcome) ** 2, (held - outcome) ** 2) / 2
    policy_loss, value_loss = policy_loss / len(tokens), value_loss / len(tokens)
    loss: Any = policy_loss + config.value_coef * value_loss
    loss.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    return policy_loss.item(), value_loss.item(), clipped / len(tokens), gradients


@pytest.mark.parametrize(
    "keys", [{}, {"gamma": 0.9, "lam": 0.5, "clip": 0.05}, {"value_clip": None, "value_coef": 2.0}]
)
def test_an_update_is_that_of_a_loop_over_single_tokens(keys: dict[str, Any]) -> None:
    config = PpoConfig(**ONE_UPDATE, **keys)
    policy_loss, value_loss, clipped, gradients = by_hand(config, kl_coef=0.1)
    model, found = updated(config)
    assert found.updates == 1
    assert found.policy_loss == pytest.approx(policy_loss, abs=1e-6)
    assert found.value_loss == pytest.approx(value_loss, abs=1e-6)
    assert found.loss == pytest.approx(policy_loss + config.value_coef * value_loss, abs=1e-6)
    assert found.clip_fraction == pytest.approx(clipped)
    assert 0 < clipped < 1
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients.values()))
    assert found.grad_norm == pytest.approx(norm, rel=1e-5)
    before = dict(make_model().named_parameters())
    for name, weight in model.named_parameters():
        moved = before[name] - weight
        torch.testing.assert_close(moved, gradients[name], atol=1e-6, rtol=1e-5)


def test_micro_batches_change_nothing() -> None:
    keys = {**ONE_UPDATE, "epochs": 2, "minibatch": 3}
    whole, found = updated(PpoConfig(**keys, microbatch=6), rate=0.1)
    for microbatch in (1, 2):
        parts, same = updated(PpoConfig(**keys, microbatch=microbatch), rate=0.1)
        assert list(same) == pytest.approx(list(found), abs=1e-5)
        for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_each_epoch_learns_from_each_judged_rollout_once() -> None:
    # Five of six are judged: two minibatches an epoch, the second of two rollouts.
    _, found = updated(PpoConfig(**{**ONE_UPDATE, "epochs": 3, "minibatch": 3}), rate=0.0)
    assert found.updates == 6


def test_a_rollout_that_nobody_judged_has_no_say() -> None:
    config = PpoConfig(**ONE_UPDATE)
    rows, said, rewards = make_rollouts()
    kept = [at for at, reward in enumerate(rewards) if reward is not None]
    without = experience(
        [rows[at] for at in kept],
        [rewards[at] for at in kept],
        [said[at] for at in kept],
        kl_coef=0.1,
        config=config,
    )
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    found = learn(model, optimizer, without, config, seed=4)
    other, among = updated(config)
    assert list(found) == pytest.approx(list(among), abs=1e-6)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=0)


def test_a_step_that_nobody_judged_changes_nothing() -> None:
    config = PpoConfig(**ONE_UPDATE)
    rows, said, _ = make_rollouts()
    step = experience(rows, [None] * ROLLOUTS, said, kl_coef=0.1, config=config)
    model = make_model()
    before = copy.deepcopy(model.state_dict())
    found = learn(model, torch.optim.AdamW(model.parameters()), step, config, seed=4)
    assert (found.updates, found.loss) == (0, 0.0)
    assert step.explained_variance is None
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name])


def test_the_score_comes_with_the_last_token_of_the_answer() -> None:
    # Without KL and with values of 0, lam = gamma = 1 gives each token the score: with lam = 0 each
    # has only what it earns itself.
    rows = [TokenRow([9], [5, 6, 2]), TokenRow([9, 9], [5])]
    none = [TokenScores([0.0] * 3, [0.0] * 3, [0.0] * 3, [0.0] * 3), TokenScores(*[[0.0]] * 4)]
    config = PpoConfig(lam=0.0, whiten=False)
    step = experience(rows, [1.0, 2.0], none, kl_coef=0.1, config=config)
    assert step.advantages.tolist() == [[0, 0, 1], [2, 0, 0]]
    assert step.mask.tolist() == [[True] * 3, [True, False, False]]


def test_advantages_of_all_rollouts_are_whitened_together() -> None:
    step = make_experience(PpoConfig(**ONE_UPDATE))
    kept = step.targets[step.mask]
    assert kept.mean().item() == pytest.approx(0, abs=1e-6)
    assert kept.var().item() == pytest.approx(1, abs=1e-5)
    plain = make_experience(PpoConfig(**ONE_UPDATE, whiten=False))
    assert torch.equal(plain.targets, plain.advantages)


def test_explained_variance_is_one_for_values_that_are_the_returns() -> None:
    step = make_experience(PpoConfig(**ONE_UPDATE))
    assert step._replace(values=step.returns).explained_variance == pytest.approx(1)
    assert step._replace(values=torch.zeros_like(step.values)).explained_variance == pytest.approx(
        0
    )


def test_a_policy_that_has_moved_too_far_ends_the_step() -> None:
    keys = {**ONE_UPDATE, "epochs": 4}
    model = make_model()
    rows, said, rewards = make_rollouts()
    # On the policy that sampled: the first update finds that nothing has moved.
    said = [
        row._replace(logps=[said_of(model, rows[at], t)[0].item() for t in range(6 - at)])
        for at, row in enumerate(said)
    ]
    for limit, updates in ((None, 4), (1e-6, 1)):
        config = PpoConfig(**keys, max_update_kl=limit)
        step = experience(rows, rewards, said, kl_coef=0.1, config=config)
        learner = copy.deepcopy(model)
        optimizer = torch.optim.SGD(learner.parameters(), lr=0.5)
        found = learn(learner, optimizer, step, config, seed=4)
        assert (found.updates, found.ended_early) == (updates, limit is not None)


def test_gradients_are_clipped_to_the_norm() -> None:
    config = PpoConfig(**{**ONE_UPDATE, "max_grad_norm": 0.01})
    model, found = updated(config)
    moved = [
        float((one - other).detach().square().sum())
        for one, other in zip(make_model().parameters(), model.parameters(), strict=True)
    ]
    assert found.grad_norm > 0.01
    assert math.sqrt(sum(moved)) == pytest.approx(0.01, rel=1e-3)
