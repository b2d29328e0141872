"""TRL's pair losses against values worked out by hand, and what confidence makes of each."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo.losses import confident_dpo_loss, dpo_loss, log_ratio_margin
from dpo.pair_losses import (
    PAIR_LOSSES,
    LogRatios,
    LossSettings,
    confident_loss,
    robust_loss,
)

SETTINGS = LossSettings(beta=0.1, label_smoothing=0.2)
ONES = torch.ones(1, dtype=torch.float64)


def _pair(chosen: float, rejected: float, lengths: tuple[int, int] = (2, 4)) -> LogRatios:
    return LogRatios(
        *(torch.tensor([value], dtype=torch.float64) for value in (chosen, rejected, *lengths))
    )


# One pair: beta 0.1, log-ratios +1 and -2 over 2 and 4 tokens. The margin is 3, that of means
# 1/2 + 2/4 = 1. s(x) = 1 / (1 + e^-x): s(0.1) = 0.524979, s(0.2) = 0.549834, s(0.3) = 0.574443.
_BY_HAND = {
    "sigmoid": (0.554355, 0.854355),  # -ln s(0.3); -ln s(-0.3)
    "sigmoid_norm": (0.644397, 0.744397),  # -ln s(0.1); -ln s(-0.1)
    "hinge": (0.7, 1.3),  # 1 - 0.3; 1 + 0.3
    "ipo": (16.0, 36.0),  # (1 - 5)^2; (-1 - 5)^2
    "robust": (0.454355, 0.954355),  # (0.8 * 0.554355 - 0.2 * 0.854355) / 0.6; the other way
    # s(0.3) * (-0.554355 - ln 0.8) + s(-0.3) * (-0.854355 - ln 0.2); ln 0.8 and ln 0.2 change place
    "exo_pair": (0.131069, 0.337469),
    # m = s(0.3 / 0.05) = 0.997527: 0.554355 * (1 - m) + e^-0.3 * m; then 1 - m and e^0.3
    "discopop": (0.740357, 0.855581),
    # With -ln s(-0.2) = 0.798139: 0.644397 + 0.744397 / 2 + 0.598139 / 2;
    # 0.798139 + 0.598139 / 2 + 0.744397 / 2.
    "nca_pair": (1.315665, 1.469407),
    "bco_pair": (1.242536, 1.542536),  # -ln s(0.1) - ln s(0.2); -ln s(-0.2) - ln s(-0.1)
    "sppo_hard": (25.0, 85.0),  # (1 - 5)^2 + (-2 + 5)^2; (-2 - 5)^2 + (1 + 5)^2
    "apo_zero": (0.925187, 1.074813),  # 1 - s(0.1) + s(-0.2); 1 - s(-0.2) + s(0.1)
    "apo_down": (0.950537, 1.024609),  # s(0.1) + 1 - s(0.3); s(-0.2) + 1 - s(-0.3)
}


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_each_loss_is_that_of_a_hand_calculation(name: str) -> None:
    pair = _pair(1, -2)
    as_labelled, if_flipped = _BY_HAND[name]
    assert PAIR_LOSSES[name](pair, SETTINGS).item() == pytest.approx(as_labelled, abs=2e-6)
    assert PAIR_LOSSES[name](pair.swap(), SETTINGS).item() == pytest.approx(if_flipped, abs=2e-6)


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_confidence_mixes_the_losses_of_both_labels_by_hand(name: str) -> None:
    loss = confident_loss(name, _pair(1, -2), SETTINGS, 0.75 * ONES, 2 * ONES)
    as_labelled, if_flipped = _BY_HAND[name]
    assert loss.item() == pytest.approx(1.5 * as_labelled + 0.5 * if_flipped, abs=5e-6)


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_a_pair_that_is_sure_has_the_plain_loss(name: str) -> None:
    pair = _pair(3.5, -0.5)
    plain = PAIR_LOSSES[name](pair, SETTINGS)
    assert torch.equal(confident_loss(name, pair, SETTINGS, ONES, ONES), plain)


@pytest.mark.parametrize("name", PAIR_LOSSES)
@given(
    chosen=st.floats(-40, 40),
    rejected=st.floats(-40, 40),
    p_chosen=st.floats(0, 1),
    lengths=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
@settings(deadline=None, max_examples=50)
def test_which_side_is_called_chosen_does_not_matter_if_the_confidence_turns_with_it(
    name: str, chosen: float, rejected: float, p_chosen: float, lengths: tuple[int, int]
) -> None:
    pair = _pair(chosen, rejected, lengths)
    once = confident_loss(name, pair, SETTINGS, p_chosen * ONES, ONES)
    turned = confident_loss(name, pair.swap(), SETTINGS, (1 - p_chosen) * ONES, ONES)
    torch.testing.assert_close(once, turned)


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_a_pair_of_no_confidence_prefers_neither_side(name: str) -> None:
    # At the reference, so that no side is ahead, both sides are moved alike.
    sides = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    pair = LogRatios(sides[:1], sides[1:], 3 * ONES, 3 * ONES)
    loss = confident_loss(name, pair, SETTINGS, ONES / 2, ONES)
    chosen, rejected = torch.autograd.grad(loss.sum(), sides)[0].tolist()
    assert chosen == pytest.approx(rejected, abs=1e-12)


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    # Kinks of the hinge are where beta * margin is 1 or -1.
    sides = torch.tensor([[-8.0, 0.2, 2.5], [3.0, -0.1, 0.0]], dtype=torch.float64)
    p_chosen = torch.tensor([0.6, 0.75, 1.0], dtype=torch.float64)
    weight = torch.tensor([0.2, 1.0, 2.0], dtype=torch.float64)
    tokens = torch.tensor([2.0, 5.0, 1.0], dtype=torch.float64)

    def loss(sides: torch.Tensor) -> torch.Tensor:
        pairs = LogRatios(sides[0], sides[1], tokens, tokens.flip(0))
        return confident_loss(name, pairs, SETTINGS, p_chosen, weight)

    assert torch.autograd.gradcheck(loss, sides.requires_grad_(), eps=1e-6, atol=1e-6)


# What confidence makes of a loss, where its paper knows soft labels


def _least_at(name: str, p_chosen: float) -> float:
    """The chosen side's log-ratio, rejected's being its negative, where the loss is least."""
    grid = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
    ones = torch.ones_like(grid)
    pairs = LogRatios(grid, -grid, ones, ones)
    return grid[confident_loss(name, pairs, SETTINGS, p_chosen * ones, ones).argmin()].item()


@pytest.mark.parametrize("p_chosen", [0.55, 0.7, 0.79])
def test_expected_losses_are_least_where_their_papers_say(p_chosen: float) -> None:
    log_odds = math.log(p_chosen / (1 - p_chosen))
    # The margin is twice the log-ratio here.
    assert _least_at("sigmoid", p_chosen) == pytest.approx(log_odds / 0.2, abs=1e-3)
    assert _least_at("ipo", p_chosen) == pytest.approx((2 * p_chosen - 1) / 0.4, abs=1e-3)
    exo = (2 * p_chosen - 1) * math.log(0.8 / 0.2)
    assert _least_at("exo_pair", p_chosen) == pytest.approx(exo / 0.2, abs=1e-3)
    assert _least_at("sppo_hard", p_chosen) == pytest.approx((p_chosen - 0.5) / 0.1, abs=1e-3)
    assert _least_at("bco_pair", p_chosen) == pytest.approx(log_odds / 0.1, abs=1e-3)
    # Flips at the rate 0.2 show 0.7 where the truth is (0.7 - 0.2) / 0.6.
    truth = (p_chosen - 0.2) / 0.6
    robust = math.log(truth / (1 - truth)) / 0.2
    assert _least_at("robust", p_chosen) == pytest.approx(robust, abs=1e-3)


@given(
    margin=st.floats(-60, 60),
    p_chosen=st.floats(0, 1),
    flip_rate=st.floats(0, 0.45),
)
@settings(deadline=None)
def test_robust_is_dpo_with_the_flips_taken_out_of_the_confidence(
    margin: float, p_chosen: float, flip_rate: float
) -> None:
    flipped = LossSettings(beta=0.1, label_smoothing=flip_rate)
    truth = (p_chosen - flip_rate) / (1 - 2 * flip_rate)
    found = confident_loss("robust", _pair(margin, 0), flipped, p_chosen * ONES, ONES)
    expected = confident_dpo_loss(margin * ONES, 0.1, truth * ONES, ONES)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_robust_is_an_unbiased_estimate_of_the_loss_without_flips() -> None:
    margins = torch.tensor([-4.0, 0.5, 9.0], dtype=torch.float64)
    seen = 0.8 * robust_loss(margins, 0.1, 0.2) + 0.2 * robust_loss(-margins, 0.1, 0.2)
    torch.testing.assert_close(seen, dpo_loss(margins, 0.1))
    torch.testing.assert_close(robust_loss(margins, 0.1, 0.0), dpo_loss(margins, 0.1))


def test_a_hinge_pair_beyond_its_margin_teaches_nothing_if_it_is_sure() -> None:
    chosen = torch.tensor([30.0], requires_grad=True)
    zero, one = torch.zeros(1), torch.ones(1)
    pair = LogRatios(chosen, zero, one, one)
    sure = confident_loss("hinge", pair, SETTINGS, one, one)
    assert sure.item() == 0
    assert torch.autograd.grad(sure, chosen)[0].item() == 0
    unsure = confident_loss("hinge", pair, SETTINGS, 0.9 * one, one)
    assert torch.autograd.grad(unsure, chosen)[0].item() == pytest.approx(0.1 * 0.1)


def test_bounded_losses_lose_gradient_in_proportion_to_the_confidence() -> None:
    slopes = []
    for p_chosen in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        sides = torch.tensor([[4.0], [-1.0]], dtype=torch.float64, requires_grad=True)
        pair = LogRatios(sides[0], sides[1], ONES, ONES)
        loss = confident_loss("apo_zero", pair, SETTINGS, p_chosen * ONES, ONES)
        slopes.append(torch.autograd.grad(loss, sides)[0][0].item())
    steps = [later - earlier for earlier, later in pairwise(slopes)]
    assert slopes[0] == pytest.approx(0, abs=1e-12)
    assert steps == pytest.approx([slopes[-1] / 5] * 5)


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_huge_log_ratios_give_finite_losses_and_gradients(name: str) -> None:
    sides = torch.tensor([[-1e5, 0.0, 1e5], [1e5, 0.0, -1e5]], requires_grad=True)
    ones = torch.ones(3)
    loss = confident_loss(name, LogRatios(sides[0], sides[1], ones, ones), SETTINGS, ones, ones)
    assert loss.isfinite().all()
    assert torch.autograd.grad(loss.sum(), sides)[0].isfinite().all()


def test_margins_are_those_of_the_log_probs() -> None:
    logps = torch.tensor([[-10.0], [-12.0], [-11.0], [-10.0]])
    pair = LogRatios(logps[0] - logps[2], logps[1] - logps[3], torch.tensor([2]), torch.tensor([4]))
    assert torch.equal(pair.margins, log_ratio_margin(*logps))
    assert pair.mean_margins.tolist() == [1 / 2 + 2 / 4]
