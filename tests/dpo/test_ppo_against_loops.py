"""An update of our PPO against the loops of `loop_reference.py`, on fixed rollouts."""

from typing import Any

import pytest
import torch
from torch import nn

from dpo.ppo_rollouts import TokenScores
from dpo.ppo_update import experience, learn
from dpo.value_model import Outputs, PaddedRows, TokenRow
from schemas.configs import PpoConfig
from tests.dpo import loop_reference as loops

SETTINGS = {
    "as by default": loops.LoopSettings(),
    "discounted, values free": loops.LoopSettings(
        gamma=0.9, lam=0.7, value_clip=None, kl_coef=0.3, value_coef=0.5
    ),
    "raw advantages": loops.LoopSettings(lam=1.0, whiten=False, clip=0.1),
}


class TableModel(nn.Module):
    """A policy and values that are tables of weights: of each rollout, each token's own.

    A rollout is known by its prompt, which is one token, the rollout's number.
    """

    def __init__(self, fixed: loops.Fixed) -> None:
        super().__init__()
        width = max(loops.LENGTHS)
        logits = torch.zeros(len(loops.LENGTHS), width, loops.VOCABULARY)
        values = torch.zeros(len(loops.LENGTHS), width)
        for row, length in enumerate(loops.LENGTHS):
            logits[row, :length] = torch.tensor(fixed.logits[row])
            values[row, :length] = torch.tensor(fixed.values[row])
        self.logits, self.values = nn.Parameter(logits), nn.Parameter(values)

    def forward(self, rows: PaddedRows) -> Outputs:
        columns = rows.mask.shape[1]
        rollouts, tokens = rows.ids[:, 0], rows.ids[:, 1:]
        logits, values = self.logits[rollouts, :columns], self.values[rollouts, :columns]
        logps = logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        return Outputs(logits, logps, values)


def _update(fixed: loops.Fixed, settings: loops.LoopSettings, microbatch: int) -> tuple[Any, ...]:
    """What one update reports, and the gradients that it went down along."""
    config = PpoConfig(
        rollouts=12,
        minibatch=12,
        microbatch=microbatch,
        epochs=1,
        max_grad_norm=1e9,
        clip=settings.clip,
        value_clip=settings.value_clip,
        value_coef=settings.value_coef,
        gamma=settings.gamma,
        lam=settings.lam,
        whiten=settings.whiten,
    )
    model: Any = TableModel(fixed)
    before = [weight.detach().clone() for weight in model.parameters()]
    gained = experience(
        [TokenRow([row], rollout.tokens) for row, rollout in enumerate(fixed.rollouts)],
        [rollout.score for rollout in fixed.rollouts],
        [
            TokenScores(r.old_logps, r.ref_logps, r.old_values, [0.0] * len(r.tokens))
            for r in fixed.rollouts
        ],
        kl_coef=settings.kl_coef,
        config=config,
    )
    # A step of length 1 down the gradient.
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    learned = learn(model, optimizer, gained, config, seed=0)
    return learned, *(
        old - new.detach() for old, new in zip(before, model.parameters(), strict=True)
    )


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_an_update_has_the_loss_and_the_gradients_of_the_loops(
    settings: loops.LoopSettings,
) -> None:
    fixed = loops.fixed_rollouts()
    learned, of_logits, of_values = _update(fixed, settings, microbatch=5)

    def loop_loss() -> float:
        return loops.total_loss(fixed.rollouts, fixed.logits, fixed.values, settings)

    assert learned.updates == 1
    assert learned.loss == pytest.approx(loop_loss(), abs=1e-6)
    for row, length in enumerate(loops.LENGTHS):
        expected = loops.slopes(loop_loss, fixed.values[row])
        assert of_values[row, :length].tolist() == pytest.approx(expected, abs=1e-6)
        for t in range(length):
            expected = loops.slopes(loop_loss, fixed.logits[row][t])
            assert of_logits[row, t].tolist() == pytest.approx(expected, abs=1e-6)
    assert not of_logits[list(loops.ABSTAINED)].any()


def test_how_a_minibatch_is_cut_up_changes_nothing() -> None:
    fixed = loops.fixed_rollouts()
    whole, *of_whole = _update(fixed, loops.LoopSettings(), microbatch=12)
    parts, *of_parts = _update(fixed, loops.LoopSettings(), microbatch=1)
    assert whole.loss == pytest.approx(parts.loss, abs=1e-6)
    for ours, theirs in zip(of_whole, of_parts, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
