"""Losses of pairs against values worked out by hand, limits and finite differences."""

import math

import pytest
import torch

from dpo.losses import confident_dpo_loss, dpo_loss, log_ratio_margin, reward_model_loss

ONES = torch.ones(3)


def _slopes(losses: torch.Tensor, margins: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(losses.sum(), margins)[0]


def test_a_policy_that_is_its_reference_has_loss_log_2() -> None:
    logps = torch.tensor([-12.5, -3.0, -700.0])
    margins = log_ratio_margin(logps, logps - 1, logps, logps - 1)
    assert torch.equal(margins, torch.zeros(3))
    assert dpo_loss(margins, beta=0.1).tolist() == pytest.approx([math.log(2)] * 3)


def test_the_loss_is_that_of_a_hand_calculation() -> None:
    # chosen gained 1 nat on its reference and rejected lost 2, so the margin is 3; with beta 0.1
    # the loss is -ln(1 / (1 + e^-0.3)) = ln(1.740818) = 0.554355.
    margin = log_ratio_margin(
        torch.tensor([-10.0]), torch.tensor([-12.0]), torch.tensor([-11.0]), torch.tensor([-10.0])
    )
    assert margin.tolist() == [3]
    assert dpo_loss(margin, beta=0.1).item() == pytest.approx(0.554355, abs=1e-6)


def test_confidence_mixes_the_loss_of_both_labels_by_hand() -> None:
    # beta * margin = 0.3: loss(+) = 0.554355 and loss(-) = 0.854355, as they differ by 0.3.
    # With p = 0.8 and w = 0.5: 0.5 * (0.8 * 0.554355 + 0.2 * 0.854355) = 0.307178.
    loss = confident_dpo_loss(torch.tensor([3.0]), 0.1, torch.tensor([0.8]), torch.tensor([0.5]))
    assert loss.item() == pytest.approx(0.307178, abs=1e-6)


def test_full_confidence_is_the_plain_loss_and_gradient() -> None:
    plain = torch.tensor([-4.0, 0.0, 7.0], requires_grad=True)
    confident = plain.detach().clone().requires_grad_()

    losses = dpo_loss(plain, 0.1), confident_dpo_loss(confident, 0.1, ONES, ONES)
    assert torch.equal(*losses)
    assert torch.equal(_slopes(losses[0], plain), _slopes(losses[1], confident))


def test_no_confidence_pulls_the_policy_back_to_its_reference() -> None:
    margins = torch.tensor([-5.0, 0.0, 5.0], requires_grad=True)
    loss = confident_dpo_loss(margins, 0.1, ONES / 2, ONES)
    left, middle, right = _slopes(loss, margins).tolist()
    assert left < 0 < right
    assert middle == 0


@pytest.mark.parametrize("p_chosen", [0.55, 0.7, 0.9, 0.99])
def test_the_loss_is_least_at_the_margin_whose_odds_are_the_confidence(p_chosen: float) -> None:
    best = math.log(p_chosen / (1 - p_chosen)) / 0.1
    margins = torch.tensor([best - 0.5, best, best + 0.5], requires_grad=True)
    loss = confident_dpo_loss(margins, 0.1, torch.full((3,), p_chosen), ONES)
    below, at, above = _slopes(loss, margins).tolist()
    assert below < 0 < above
    assert at == pytest.approx(0, abs=1e-7)


def test_weight_scales_loss_and_gradient_and_nothing_else() -> None:
    margins = torch.tensor([-1.0, 0.5, 2.0], requires_grad=True)
    p_chosen = torch.tensor([0.6, 0.9, 1.0])
    once = confident_dpo_loss(margins, 0.1, p_chosen, ONES)
    thrice = confident_dpo_loss(margins, 0.1, p_chosen, 3 * ONES)
    torch.testing.assert_close(thrice, 3 * once)
    torch.testing.assert_close(_slopes(thrice, margins), 3 * _slopes(once, margins))


def test_gradients_are_those_of_finite_differences() -> None:
    margins = torch.tensor([-8.0, -0.3, 0.0, 2.5], dtype=torch.float64, requires_grad=True)
    p_chosen = torch.tensor([0.6, 0.75, 0.9, 1.0], dtype=torch.float64)
    weight = torch.tensor([0.2, 1.0, 2.0, 1.0], dtype=torch.float64)

    def loss(margins: torch.Tensor) -> torch.Tensor:
        return confident_dpo_loss(margins, 0.25, p_chosen, weight)

    step = 1e-6
    with torch.no_grad():
        differences = (loss(margins + step) - loss(margins - step)) / (2 * step)
    torch.testing.assert_close(_slopes(loss(margins), margins), differences, rtol=1e-7, atol=1e-9)


def test_huge_margins_give_finite_losses_and_gradients() -> None:
    margins = torch.tensor([-1e6, 0.0, 1e6], requires_grad=True)
    losses = confident_dpo_loss(margins, 0.1, 0.9 * ONES, ONES)
    assert losses.isfinite().all()
    assert _slopes(losses, margins).isfinite().all()


# Reward model


def test_the_reward_models_loss_is_that_of_a_hand_calculation() -> None:
    # Rewards 2 and 1/2, margin 1: -ln s(1.5 - 1) = 0.474077; the other way -ln s(-1.5 - 1) =
    # 2.578890. With p = 0.8 and w = 0.5: 0.5 * (0.8 * 0.474077 + 0.2 * 2.578890) = 0.447520.
    loss = reward_model_loss(
        torch.tensor([2.0]),
        torch.tensor([0.5]),
        torch.tensor([1.0]),
        torch.tensor([0.8]),
        torch.tensor([0.5]),
    )
    assert loss.item() == pytest.approx(0.447520, abs=1e-6)


def test_equal_rewards_cost_log_2() -> None:
    scores = torch.tensor([-3.0, 0.0, 700.0])
    loss = reward_model_loss(scores, scores, 0 * ONES, ONES, ONES)
    assert loss.tolist() == pytest.approx([math.log(2)] * 3)


@pytest.mark.parametrize("margin", [0.0, 2.0])
def test_a_reward_model_prefers_neither_side_of_a_pair_of_no_confidence(margin: float) -> None:
    differences = torch.tensor([-1.0, 0.0, 1.0], requires_grad=True)
    loss = reward_model_loss(differences, 0 * ONES, margin * ONES, ONES / 2, ONES)
    left, middle, right = _slopes(loss, differences).tolist()
    assert left < 0 < right
    assert middle == 0


def test_the_reward_models_gradients_are_those_of_finite_differences() -> None:
    rewards = torch.tensor([[3.0, -0.2], [1.0, 0.4]], dtype=torch.float64, requires_grad=True)
    margin, p_chosen, weight = torch.tensor([[0.5, 0.0], [0.7, 1.0], [2.0, 0.3]]).double()

    def loss(rewards: torch.Tensor) -> torch.Tensor:
        return reward_model_loss(rewards[0], rewards[1], margin, p_chosen, weight)

    assert torch.autograd.gradcheck(loss, rewards)
