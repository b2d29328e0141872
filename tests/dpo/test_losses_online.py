"""Rewards, advantages and losses of GRPO and PPO: by hand, at limits, and under padding."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dpo.losses import (
    adapted_kl_coef,
    clipped_policy_loss,
    clipped_value_loss,
    entropy,
    gae,
    group_advantages,
    masked_mean,
    token_rewards,
    whiten,
)

NAN = math.nan


def _f64(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Groups


def test_an_answer_that_nobody_judged_is_left_out_of_its_group() -> None:
    # Judged are 1, 3 and 2: mean 2, standard deviation 1, and 1 / (1 + 1e-4) = 0.9999.
    found = group_advantages(torch.tensor([[1, NAN, 3, 2]]))
    assert found.tolist()[0] == pytest.approx([-0.9999, 0, 0.9999, 0], abs=1e-6)
    assert found[0, 1] == 0


def test_the_deviation_of_a_group_has_n_minus_1() -> None:
    # Mean 1/2, deviation sqrt(4 / 4 / 3) = 0.577350: 0.5 / 0.577450 = 0.865875.
    found = group_advantages(torch.tensor([[0.0, 1, 0, 1]]))
    assert found.tolist()[0] == pytest.approx([-0.865875, 0.865875] * 2, abs=1e-6)


@pytest.mark.parametrize(
    "rewards", [[1, 1, 1, 1], [0.1, 0.1, 0.1, NAN], [NAN, 7, NAN, NAN], [NAN, NAN, NAN, NAN]]
)
@pytest.mark.parametrize("scale", [True, False])
def test_a_group_without_contrast_has_no_advantage_at_all(
    rewards: list[float], scale: bool
) -> None:
    assert group_advantages(torch.tensor([rewards]), scale=scale).tolist() == [[0, 0, 0, 0]]


def test_without_scale_the_mean_alone_is_taken_off() -> None:
    found = group_advantages(torch.tensor([[1, NAN, 4, 1]]), scale=False)
    assert found.tolist() == [[-1, 0, 2, -1]]


def test_no_group_has_no_advantages() -> None:
    assert group_advantages(torch.zeros(0, 4)).shape == (0, 4)


REWARDS = st.lists(
    st.lists(st.one_of(st.just(NAN), st.integers(-50, 50).map(float)), min_size=5, max_size=5),
    min_size=1,
    max_size=6,
)


@given(rewards=REWARDS, shift=st.integers(-9, 9), factor=st.sampled_from([1, 4, 100]))
@settings(deadline=None, max_examples=50)
def test_group_advantages_are_centred_and_know_neither_zero_nor_unit_of_the_reward(
    rewards: list[list[float]], shift: int, factor: int
) -> None:
    groups = _f64(rewards)
    found = group_advantages(groups, eps=0.0)
    assert found.isfinite().all()
    assert found.sum(dim=1).abs().max() < 1e-9
    torch.testing.assert_close(group_advantages(groups * factor + shift, eps=0.0), found)
    torch.testing.assert_close(group_advantages(groups.flip(1), eps=0.0), found.flip(1))
    torch.testing.assert_close(group_advantages(groups.flip(0), eps=0.0), found.flip(0))


# Rewards of tokens


def test_the_score_is_earned_by_the_last_token_of_the_answer_and_never_by_padding() -> None:
    # The answer 5 6 2, where 2 is EOS, then two of padding.
    logps = torch.zeros(1, 5)
    mask = torch.tensor([[1, 1, 1, 0, 0]])
    found = token_rewards(torch.tensor([1.0]), logps, logps, mask, kl_coef=0.1)
    assert found.tolist() == [[0, 0, 1, 0, 0]]


def test_each_token_pays_for_how_far_it_moved() -> None:
    # The policy gives the tokens 2, -1 and 1/2 nats more than the reference.
    logps = torch.tensor([[NAN, -1.0, -3.0, -0.5, NAN]])
    ref_logps = torch.tensor([[0.0, -3.0, -2.0, -1.0, math.inf]])
    mask = torch.tensor([[0, 1, 1, 1, 0]])
    found = token_rewards(torch.tensor([4.0]), logps, ref_logps, mask, kl_coef=0.1)
    assert found.tolist()[0] == pytest.approx([0, -0.2, 0.1, 4 - 0.05, 0])
    assert found.sum().item() == pytest.approx(4 - 0.1 * 1.5)


def test_an_answer_that_nobody_judged_earns_nothing() -> None:
    logps = torch.full((2, 3), NAN)
    mask = torch.zeros(2, 3, dtype=torch.bool)
    found = token_rewards(torch.tensor([NAN, math.inf]), logps, logps, mask, kl_coef=0.1)
    assert torch.equal(found, torch.zeros(2, 3))


# Advantages of tokens


def test_gae_is_that_of_a_hand_calculation() -> None:
    # TD errors: 0.9 * 0.6 - 0.5 = 0.04; 0.9 * 0.7 - 0.6 = 0.03; 1 - 0.7 = 0.3. Carried back with
    # 0.9 * 0.8 = 0.72: 0.3; 0.03 + 0.216 = 0.246; 0.04 + 0.72 * 0.246 = 0.21712.
    rewards, values = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.5, 0.6, 0.7]])
    found = gae(rewards, values, torch.ones(1, 3), gamma=0.9, lam=0.8)
    assert found.advantages.tolist()[0] == pytest.approx([0.21712, 0.246, 0.3])
    assert found.returns.tolist()[0] == pytest.approx([0.71712, 0.846, 1.0])


def test_with_lambda_1_returns_are_the_rewards_to_come_whatever_the_values() -> None:
    rewards = torch.tensor([[1.0, 2.0, 4.0]])
    for values in ([[0.0, 0.0, 0.0]], [[5.0, -3.0, 9.0]]):
        found = gae(rewards, torch.tensor(values), torch.ones(1, 3), gamma=0.5, lam=1.0)
        assert found.returns.tolist()[0] == pytest.approx([3.0, 4.0, 4.0], abs=1e-6)


def test_with_lambda_0_advantages_are_the_errors_of_one_step() -> None:
    rewards, values = torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, 20.0]])
    found = gae(rewards, values, torch.ones(1, 2), gamma=0.5, lam=0.0)
    assert found.advantages.tolist() == [[1 + 10 - 10, 2 - 20]]


def test_values_that_foresee_all_leave_no_advantage() -> None:
    rewards = torch.tensor([[0.0, 0.0, 1.0, 7.0]])
    values = torch.tensor([[0.81, 0.9, 1.0, 7.0]])
    found = gae(rewards, values, torch.tensor([[1, 1, 1, 0]]), gamma=0.9, lam=0.95)
    assert found.advantages.tolist()[0] == pytest.approx([0] * 4, abs=1e-7)


def test_rows_end_where_their_answers_do() -> None:
    # Row 0 ends after one token: the 9 behind it is padding, and no value to look forward to.
    values = torch.tensor([[0.5, 9.0], [0.5, 0.25]])
    rewards = torch.tensor([[1.0, 9.0], [0.0, 1.0]])
    mask = torch.tensor([[1, 0], [1, 1]])
    found = gae(rewards, values, mask, gamma=1.0, lam=1.0)
    assert found.advantages.tolist() == [[0.5, 0.0], [0.5, 0.75]]
    assert found.returns.tolist() == [[1.0, 0.0], [1.0, 1.0]]


def test_tokens_that_do_not_count_between_others_are_stepped_over() -> None:
    whole = gae(_f64([[0, 1.0]]), _f64([[0.3, 0.6]]), torch.ones(1, 2), gamma=0.9, lam=0.8)
    apart = gae(_f64([[0, NAN, 1.0]]), _f64([[0.3, NAN, 0.6]]), torch.tensor([[1, 0, 1]]), 0.9, 0.8)
    assert torch.equal(apart.advantages[:, [0, 2]], whole.advantages)
    assert apart.advantages[0, 1] == apart.returns[0, 1] == 0


# Whitening


def test_whitened_values_have_mean_0_and_variance_1_over_the_mask() -> None:
    # Counted are 1, 2 and 3: mean 2, variance 1.
    found = whiten(
        torch.tensor([[1.0, 3.0, 99.0], [2.0, NAN, NAN]]), torch.tensor([[1, 1, 0], [1, 0, 0]])
    )
    assert found.flatten().tolist() == pytest.approx([-1, 1, 0, 0, 0, 0], abs=1e-6)


@pytest.mark.parametrize("counted", [0, 1])
def test_fewer_than_two_values_are_whitened_to_zero(counted: int) -> None:
    mask = torch.tensor([[counted, 0]])
    assert whiten(torch.tensor([[5.0, NAN]]), mask).tolist() == [[0, 0]]


def test_equal_values_are_whitened_to_zero() -> None:
    found = whiten(torch.full((2, 3), 0.1), torch.ones(2, 3))
    assert found.abs().max() < 1e-3


# Policy loss


def _loss_at(ratio: float, advantage: float) -> tuple[float, bool, float]:
    """Loss at a ratio, whether the clip binds, and the loss's slope in the log-prob."""
    logps = torch.tensor([[math.log(ratio) - 3]], dtype=torch.float64, requires_grad=True)
    found = clipped_policy_loss(
        logps, _f64([[-3.0]]), _f64([[advantage]]), torch.ones(1, 1), clip=0.2
    )
    (slope,) = torch.autograd.grad(found.loss.sum(), logps)
    return found.loss.item(), bool(found.clipped.item()), slope.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.0, 2.0, -2.0, False),
        (1.1, 2.0, -2.2, False),
        (1.5, 2.0, -2.4, True),  # no more than 1.2 * 2 can be gained
        (0.5, 2.0, -1.0, False),  # a good token made rarer is always put right
        (0.5, -2.0, 1.6, True),
        (1.5, -2.0, 3.0, False),
        (1.5, 0.0, 0.0, False),
    ],
)
def test_the_policy_loss_is_that_of_a_hand_calculation(
    ratio: float, advantage: float, loss: float, clipped: bool
) -> None:
    found = _loss_at(ratio, advantage)
    assert found[0] == pytest.approx(loss)
    assert found[1] is clipped
    assert found[2] == pytest.approx(0 if clipped else -advantage * ratio)


# Value loss


def test_the_value_loss_is_half_the_squared_error() -> None:
    values, aims = torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 0.0]])
    found = clipped_value_loss(values, values, aims, torch.ones(1, 2), clip=None)
    assert found.tolist() == [[0.5, 4.5]]


def test_a_value_gains_nothing_by_moving_beyond_the_clip() -> None:
    values = _f64([[0.9, 0.1, -0.9]]).requires_grad_()
    old, aims = _f64([[0.0, 0.0, 0.0]]), _f64([[1.0, 1.0, 1.0]])
    found = clipped_value_loss(values, old, aims, torch.ones(1, 3), clip=0.2)
    # 0.9 is held at 0.2: 0.8^2 / 2. 0.1 is within. -0.9 went away from its aim: 1.9^2 / 2.
    assert found.tolist()[0] == pytest.approx([0.32, 0.405, 1.805])
    (slopes,) = torch.autograd.grad(found.sum(), values)
    assert slopes.tolist()[0] == pytest.approx([0, -0.9, -1.9])


# Means and entropy


def test_a_masked_mean_counts_what_the_mask_counts() -> None:
    x = torch.tensor([[1.0, NAN], [4.0, math.inf]])
    assert masked_mean(x, torch.tensor([[1, 0], [1, 0]])).item() == 2.5
    assert masked_mean(x, torch.zeros(2, 2)).item() == 0


def test_the_entropy_of_v_equal_tokens_is_log_v() -> None:
    found = entropy(torch.full((1, 2, 8), 3.7))
    assert found.tolist()[0] == pytest.approx([math.log(8)] * 2, abs=1e-6)


def test_a_token_that_cannot_come_adds_no_entropy_and_has_no_gradient() -> None:
    logits = torch.tensor([[[0.0, 0.0, -math.inf]]], requires_grad=True)
    found = entropy(logits)
    assert found.item() == pytest.approx(math.log(2))
    assert torch.autograd.grad(found.sum(), logits)[0].tolist() == [[[0, 0, 0]]]


def test_entropy_of_half_precision_logits_is_worked_out_in_float32() -> None:
    logits = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = entropy(logits)
    assert found.dtype == torch.float32
    assert torch.equal(found, entropy(logits.float()))


# The coefficient of the KL


@pytest.mark.parametrize(
    ("kl", "error"), [(6.0, 0.0), (6.6, 0.1), (5.4, -0.1), (60.0, 0.2), (0.0, -0.2), (-3.0, -0.2)]
)
def test_the_kl_coefficient_moves_against_the_error_and_by_a_fifth_at_most(
    kl: float, error: float
) -> None:
    found = adapted_kl_coef(0.05, kl, target=6.0, horizon=1000, rollouts=50)
    assert found == pytest.approx(0.05 * (1 + error * 50 / 1000))


# Together


def _update(
    logps: Tensor, values: Tensor, scores: Tensor, moved: Tensor, mask: Tensor
) -> tuple[Tensor, ...]:
    """All that an update works out of rollouts; `moved` is new minus old, for logps and values."""
    rewards = token_rewards(scores, logps, logps - 1.5 * moved, mask, 0.1)
    advantages, returns = gae(rewards, values, mask, 0.97, 0.9)
    advantages = whiten(advantages, mask)
    of_policy = clipped_policy_loss(logps + moved, logps, advantages, mask, 0.2)
    of_values = clipped_value_loss(values + moved, values, returns, mask, 0.2)
    return rewards, advantages, returns, of_policy.loss, of_values


def _rollouts(lengths: list[int], seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    logps, values, moved = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    scores = torch.randn(len(lengths), generator=generator, dtype=torch.float64)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    return logps, values, scores, moved / 3, mask


LENGTHS = st.lists(st.integers(0, 5), min_size=1, max_size=5).filter(any)


@given(lengths=LENGTHS, left=st.integers(0, 3), right=st.integers(0, 3), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_padding_changes_nothing_whatever_it_holds(
    lengths: list[int], left: int, right: int, seed: int
) -> None:
    logps, values, scores, moved, mask = _rollouts(lengths, seed)

    def padded(x: Tensor, filling: float) -> Tensor:
        x = x.where(mask, filling)
        return torch.nn.functional.pad(x, (left, right), value=filling)

    expected = _update(logps, values, scores, moved, mask)
    # A row without a token is a rollout that nobody judged.
    unjudged = scores.where(mask.any(dim=1), NAN)
    wide = padded(mask, 0).bool()
    found = _update(
        padded(logps, NAN), padded(values, NAN), unjudged, padded(moved, math.inf), wide
    )
    for wider, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(wider[wide], plain[mask])
        assert not wider[~wide].any()
        assert not plain[~mask].any()


@given(lengths=LENGTHS, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_the_order_of_the_rows_changes_nothing(lengths: list[int], seed: int) -> None:
    rollouts = _rollouts(lengths, seed)
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed))
    expected = _update(*rollouts)
    found = _update(*(x[order] for x in rollouts))
    for turned, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(turned, plain[order])


def test_what_the_mask_leaves_out_has_no_gradient_whatever_it_holds() -> None:
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]])
    bad = torch.tensor([[0.1, -0.2, NAN], [math.inf, 1e30, NAN]])
    logps, values = bad.clone().requires_grad_(), bad.clone().requires_grad_()
    old = torch.zeros(2, 3)
    loss = clipped_policy_loss(logps, old, bad, mask, 0.2).loss + clipped_value_loss(
        values, old, bad + 1, mask, 0.2
    )
    for slopes in torch.autograd.grad(masked_mean(loss, mask), (logps, values)):
        assert slopes[0, :2].all()
        assert not slopes[mask == 0].any()


DIFFERENTIABLE: dict[str, Callable[[Tensor], Tensor]] = {
    "policy": lambda x: (
        clipped_policy_loss(
            x, _f64([[0.1, -0.1, 0.0]]), _f64([[1.0, -2.0, 3.0]]), torch.tensor([[1, 1, 0]]), 0.2
        ).loss
    ),
    "value": lambda x: clipped_value_loss(
        x, _f64([[0.1, -0.1, 0.0]]), _f64([[1.0, -2.0, 3.0]]), torch.tensor([[1, 1, 0]]), 0.2
    ),
    "entropy": lambda x: entropy(x.unsqueeze(0)),
    "rewards": lambda x: token_rewards(_f64([1.0]), x, 2 * x**2, torch.tensor([[1, 1, 0]]), 0.1),
    "whitened": lambda x: whiten(x, torch.tensor([[1, 1, 0]])),
    "advantages": lambda x: gae(x, 3 * x, torch.tensor([[1, 1, 0]]), 0.9, 0.8).advantages,
}


@pytest.mark.parametrize("loss", DIFFERENTIABLE.values(), ids=DIFFERENTIABLE)
def test_gradients_are_those_of_finite_differences(loss: Callable[[Tensor], Tensor]) -> None:
    at = _f64([[0.15, -0.7, 0.4]]).requires_grad_()
    assert torch.autograd.gradcheck(loss, at, eps=1e-6, atol=1e-7)
