"""What the DPO notebook does with pairs outside a trainer: batches and log-probabilities."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from curation.chat import Encoded
from dpo.logps import completion_logps

if TYPE_CHECKING:
    from dpo.tokens import PairTokens


class Answers(NamedTuple):
    """Conversations as one batch, padded on the right, (B, T)."""

    ids: Tensor
    mask: Tensor
    """1 at the answers' tokens."""


def batch(sides: Sequence[Encoded]) -> Answers:
    """The prompts with their answers, the shorter ones padded with a token that does not count."""
    rows = [torch.tensor(side.prompt_ids + side.completion_ids) for side in sides]
    masks = [
        torch.tensor([0] * len(side.prompt_ids) + [1] * len(side.completion_ids)) for side in sides
    ]
    return Answers(pad_sequence(rows, batch_first=True), pad_sequence(masks, batch_first=True))


def answer_logps(model: Any, pairs: "Sequence[PairTokens]") -> Tensor:
    """The summed log-probability of each pair's chosen and rejected answer, (pairs, 2)."""
    found = []
    with torch.inference_mode():
        for pair in pairs:
            sides = (pair.chosen_ids, pair.rejected_ids)
            answers = batch([Encoded(pair.prompt_ids, side) for side in sides])
            found.append(completion_logps(model(answers.ids).logits, *answers))
    return torch.stack(found)
