"""TRL's reward trainer on pairs that are tokenised, named, and may carry confidence and a margin.

Departures from stock TRL, each an exact one beside those in `shared`:

- A pair's loss is `reward_model_loss`: TRL's where its weight and p_chosen are 1.
- The loss of an optimiser step is the mean over its pairs. TRL averages the micro-batches' means,
  which is the same except at the end of an epoch, where a short micro-batch would count double.
- A score is read at a row's last token, also where that is the tokenizer's pad token, and the head
  computes in float32 under autocast too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PrinterCallback
from trl import RewardConfig, RewardTrainer
from trl.trainer.reward_trainer import DataCollatorForPreference

from curation.rewards.scoring import pad_with
from dpo.losses import reward_model_loss
from dpo.policy import without_rename_warnings
from dpo.reward_rows import RewardRow
from dpo.step_log import StepRecord
from dpo.trl_adapters.shared import EpochOrder, RowTrainer, keep_adapter_dropout, row_order


class RewardStep(StepRecord):
    """One optimiser step of a reward model.

    Its margin is the mean difference of chosen and rejected scores, before the step; its accuracy
    counts a tie one half.
    """

    rewards_mean: float
    """Mean score over both sides of the step's pairs."""


class RewardCollator:
    """Batches of pairs: TRL's padded tensors, (2B, T), chosen first; and what the loss needs."""

    def __init__(self, pad_token_id: int, pad_to_multiple_of: int | None) -> None:
        self._pad = DataCollatorForPreference(
            pad_token_id=pad_token_id, pad_to_multiple_of=pad_to_multiple_of
        )

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        real = [row for row in rows if row["real"]]
        used = real or rows[:1]
        batch: dict[str, Any] = self._pad(used)
        batch["pair_ids"] = [row["pair_id"] for row in real]
        for name in ("p_chosen", "weight", "margin"):
            batch[name] = torch.tensor([row[name] for row in used])
        return batch


class Tally(NamedTuple):
    """Sums over the pairs that this process has seen in the current optimiser step."""

    margins: float = 0.0
    correct: float = 0.0
    rewards: float = 0.0
    pairs: int = 0


class RewardPairTrainer(RowTrainer, RewardTrainer):  # type: ignore[misc]
    """TRL's reward trainer on pairs that are tokenised, named, and may carry confidence."""

    def __init__(
        self,
        model: Any,
        args: RewardConfig,
        rows: Sequence[RewardRow],
        tokenizer: Any,
        *,
        peft_config: Any = None,
        on_step: Callable[[RewardStep, int], None] = lambda record, total: None,
        before_save: Callable[[], None] = lambda: None,
        after_save: Callable[[Path], None] = lambda folder: None,
    ) -> None:
        """Train `model`, which has one label.

        tokenizer: its pad token ends no row.
        on_step, before_save: called in every process; after_save: in the first.
        """
        self._on_step = on_step
        self.before_save, self.after_save = before_save, after_save
        self._tally = Tally()
        self._step_pairs: tuple[str, ...] = ()
        self.order = row_order(len(rows), args)
        pad = tokenizer.pad_token_id
        keep_adapter_dropout(model, args)
        with without_rename_warnings():
            super().__init__(
                model=model,
                args=args,
                data_collator=RewardCollator(pad, args.pad_to_multiple_of),
                train_dataset=_dataset(rows, self.order.fillers),
                processing_class=tokenizer,
                peft_config=peft_config,
                callbacks=[EpochOrder(self.order)],
            )
        self.remove_callback(PrinterCallback)
        pad_with(model, pad)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], int]:
        """The micro-batches of one optimiser step, and how many pairs all processes have in it."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._step_pairs = self.step_rows(batches, "pair_ids")
        return batches, len(self._step_pairs)

    def compute_loss(
        self,
        model: Any,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: int | None = None,
    ) -> Tensor:
        """This micro-batch's share of the mean over the step's pairs."""
        scores = model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
        ).logits
        chosen, rejected = scores.float().squeeze(-1).chunk(2)
        losses = reward_model_loss(
            chosen, rejected, inputs["margin"], inputs["p_chosen"], inputs["weight"]
        )
        if self.args.center_rewards_coefficient:
            # Eisenstein et al. (2023), eq. 2. It fixes the scores' origin, whatever a pair weighs.
            losses = losses + self.args.center_rewards_coefficient * (chosen + rejected) ** 2
        pairs = len(inputs["pair_ids"])
        if pairs:
            self._count(chosen.detach(), rejected.detach())
        # Gradients are averaged over the processes, so each weighs its own by their number.
        step_pairs = num_items_in_batch or pairs
        share: float = pairs / step_pairs * self.accelerator.num_processes
        return losses.mean() * share

    def _count(self, chosen: Tensor, rejected: Tensor) -> None:
        margins = chosen - rejected
        right = (margins > 0).double() + (margins == 0).double() / 2
        self._tally = Tally(
            self._tally.margins + margins.double().sum().item(),
            self._tally.correct + right.sum().item(),
            self._tally.rewards + (chosen + rejected).double().sum().item() / 2,
            self._tally.pairs + len(margins),
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            tally = torch.tensor(self._tally, dtype=torch.float64, device=self.args.device)
            sums = self.accelerator.reduce(tally, reduction="sum").tolist()
            self._tally = Tally()
            margins, correct, rewards, pairs = sums
            record = RewardStep(
                step=self.state.global_step,
                epoch=self.state.epoch,
                loss=logs["loss"],
                learning_rate=logs["learning_rate"],
                rewards_margin=margins / pairs,
                rewards_accuracy=correct / pairs,
                rewards_mean=rewards / pairs,
                grad_norm=logs["grad_norm"],
                pair_ids=self._step_pairs,
            )
            self._on_step(record, self.state.max_steps)
        super().log(logs, start_time)


def _dataset(rows: Sequence[RewardRow], fillers: int) -> Dataset:
    all_rows = [*((row, True) for row in rows), *((rows[0], False) for _ in range(fillers))]
    return Dataset.from_list([{**row._asdict(), "real": real} for row, real in all_rows])
