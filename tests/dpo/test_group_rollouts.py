"""Advantages in groups, some answers of which nobody judged."""

import torch

from dpo.group_rollouts import Sample, Sampled, Update, advantages, in_order, step_of
from dpo.rollouts import Scored
from schemas.records import Completion

NAN = float("nan")


def test_an_answer_that_nobody_judged_is_left_out_of_its_group() -> None:
    found = advantages(torch.tensor([[1.0, NAN, 3.0, 2.0]]), "group")
    torch.testing.assert_close(
        found, torch.tensor([[-0.9999, 0.0, 0.9999, 0.0]]), rtol=0, atol=1e-6
    )


def test_a_group_of_equal_rewards_has_advantages_of_exactly_zero() -> None:
    rewards = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]])
    equal, unequal = advantages(rewards, "group")
    assert equal.tolist() == [0.0] * 4
    # std with n - 1: sqrt(1/3) = 0.57735
    expected = torch.tensor([-1.0, 1.0, -1.0, 1.0]) * (0.5 / (0.57735 + 1e-4))
    torch.testing.assert_close(unequal, expected, rtol=0, atol=1e-5)


def _equal_groups(*groups: list[float]) -> float | None:
    totals = [None if reward != reward else reward for group in groups for reward in group]
    samples = [Sample("p", Completion.from_text("yes"), 1, kl=0.0, entropy=0.0)] * len(totals)
    advantages_PG = advantages(torch.tensor(groups, dtype=torch.float64), "group")  # noqa: N806
    sampled = Sampled(1, samples, Scored(totals, {}, {}), advantages_PG, None)
    return step_of(sampled, [Update(0.0, 1.0, 1e-5, None)], tokens=8).equal_groups


def test_groups_that_differ_by_rounding_alone_are_counted_as_equal() -> None:
    assert _equal_groups([0.1 + 0.2, 0.3, 0.3, 0.3], [0.0, 1.0, 0.0, 1.0]) == 0.5


def test_a_group_with_nothing_to_compare_is_not_one_of_equal_rewards() -> None:
    unequal, silent, lone = [0.0, 1.0, 0.0, NAN], [NAN] * 4, [NAN, NAN, 1.0, NAN]
    assert _equal_groups(unequal, silent, lone) == 0
    assert _equal_groups(unequal, silent, [1.0, NAN, 1.0, NAN]) == 0.5
    assert _equal_groups(silent, lone) is None


def test_scaling_by_the_batch_divides_by_the_deviation_of_all_judged_rewards() -> None:
    found = advantages(torch.tensor([[0.0, 2.0], [4.0, NAN]]), "batch")
    # 0, 2 and 4 have a deviation of 2; a lone answer has nothing to be better than.
    torch.testing.assert_close(
        found, torch.tensor([[-0.5, 0.5], [0.0, 0.0]]) / (1 + 5e-5), rtol=0, atol=1e-6
    )
    one = torch.tensor([[1.0, NAN]])
    assert advantages(one, "batch").tolist() == [[0.0, 0.0]]
    assert advantages(torch.tensor([[1.0, 4.0]]), "none").tolist() == [[-1.5, 1.5]]


def test_scores_from_several_processes_come_back_in_the_order_of_the_rollouts() -> None:
    first = Scored([1.0, None, 5.0], {"a": [10.0, None, 50.0]}, {"h": [0.1, 0.2, 0.5]})
    second = Scored([3.0, 4.0], {"a": [30.0, None]}, {"h": [0.3, None]})
    found = in_order([([0, 1, 4], first), ([2, 3], second)])
    assert found.totals == [1.0, None, 3.0, 4.0, 5.0]
    assert found.components == {"a": [10.0, None, 30.0, None, 50.0]}
    assert found.held_out == {"h": [0.1, 0.2, 0.3, None, 0.5]}
