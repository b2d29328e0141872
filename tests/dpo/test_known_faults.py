"""Faults that other trainers had, and that a pair's way to its loss must not have."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from curation.chat import Encoded
from dpo.dpo_args import check_trainer_keys
from dpo.logps import completion_logps
from dpo.losses import dpo_loss, log_ratio_margin
from dpo.tokens import tokenise_pairs


class _FixedChat:
    """Encodes each pair to the tokens that stand in its row's answers."""

    def encode_batch(self, items: Sequence[Any]) -> list[Encoded]:
        return [Encoded([1], [ord(sign) for sign in answer.text]) for _, answer in items]


def _row(pair_id: str, chosen: str, rejected: str) -> dict[str, Any]:
    return {
        "pair_id": pair_id,
        "prompt": [{"role": "user", "content": "q"}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


def test_a_short_side_keeps_its_tokens_beside_a_long_one_in_another_row() -> None:
    chat: Any = _FixedChat()
    long, short = tokenise_pairs([_row("a", "abcdefg", "b"), _row("b", "xy", "z")], chat, 4)
    assert (bytes(long.chosen_ids), bytes(long.rejected_ids)) == (b"abc", b"b")
    assert (bytes(short.chosen_ids), bytes(short.rejected_ids)) == (b"xy", b"z")
    assert (long.truncated, short.truncated) == (True, False)


def test_a_pair_of_equal_sides_has_loss_log_2_and_no_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 6, 9, generator=generator, requires_grad=True)
    ids, mask = torch.tensor([[3, 3, 7, 7, 7, 7]]), torch.tensor([[0, 0, 1, 1, 1, 1]])
    side = completion_logps(logits, ids, mask)
    loss = dpo_loss(log_ratio_margin(side, side, torch.tensor([-3.0]), torch.tensor([-3.0])), 0.1)
    loss.sum().backward()
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)
    assert logits.grad is not None
    assert not logits.grad.any()


def test_the_log_prob_of_an_answer_reads_a_table_at_the_positions_before_it() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(1, 4, 5, generator=generator)
    logps = logits.log_softmax(-1)
    found = completion_logps(logits, torch.tensor([[1, 2, 3, 4]]), torch.tensor([[0, 0, 1, 1]]))
    assert found.item() == pytest.approx((logps[0, 1, 3] + logps[0, 2, 4]).item(), abs=1e-6)


@pytest.mark.parametrize(
    "key", ["num_generations", "desirable_weight", "truncation_side", "max_prompt_length"]
)
def test_a_key_of_another_trainer_or_version_is_never_ignored(key: str) -> None:
    with pytest.raises(ValueError, match=rf"dpo\.trainer: .*{key}.*"):
        check_trainer_keys({key: 1})
