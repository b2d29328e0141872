"""TRL's DPO trainer on pairs that are tokenised, named, and may carry confidence.

Departures from stock TRL, beside those in `shared`, each an exact one:

- The loss of an optimiser step is the mean over its pairs. TRL averages the micro-batches' means,
  which is the same except at the end of an epoch, where a short micro-batch would count double.
- Reference log-probs come from our cache, whose key knows tokens and weights, and are checked.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from dpo.pair_losses import LogRatios, LossSettings, confident_loss
from dpo.policy import without_rename_warnings
from dpo.reference import ReferenceLogps, check_start
from dpo.step_log import StepRecord
from dpo.tokens import PairTokens
from dpo.trl_adapters.shared import (
    EpochOrder,
    RowTrainer,
    check_head,
    keep_adapter_dropout,
    pad_id,
    row_order,
)


class PairCollator:
    """Batches of pairs: TRL's padded tensors, and the pairs' ids and confidence beside them."""

    def __init__(self, pad_token_id: int, pad_to_multiple_of: int | None) -> None:
        # No max_length: rows come cut, and a cut here would be unseen.
        self._pad = DataCollatorForPreference(
            pad_token_id=pad_token_id, pad_to_multiple_of=pad_to_multiple_of
        )

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        real = [row for row in rows if row["real"]]
        used = real or rows[:1]
        batch: dict[str, Any] = self._pad(used)
        batch["pair_ids"] = [row["pair_id"] for row in real]
        batch["p_chosen"] = torch.tensor([row["p_chosen"] for row in used])
        batch["weight"] = torch.tensor([row["weight"] for row in used])
        return batch


class _OwnRank:
    """The accelerator, but metrics stay on their own process.

    TRL gathers metrics as tensors of one shape, and in an epoch's last step the processes hold
    unequal batches. `PairTrainer` sums its own metrics over the processes.
    """

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._accelerator, name)

    def gather(self, tensor: Any) -> Any:
        return tensor

    gather_for_metrics = gather


class Tally(NamedTuple):
    """Sums over the pairs that this process has seen in the current optimiser step."""

    margins: float = 0.0
    correct: float = 0.0
    pairs: int = 0


class PairTrainer(RowTrainer, DPOTrainer):  # type: ignore[misc]
    """TRL's DPO trainer on pairs that are tokenised, named, and may carry confidence."""

    def __init__(
        self,
        model: Any,
        args: DPOConfig,
        pairs: Sequence[PairTokens],
        tokenizer: Any,
        *,
        ref_model: Any = None,
        peft_config: Any = None,
        confidence: bool = False,
        reference: ReferenceLogps | None = None,
        starts_at_reference: bool = True,
        on_reference: Callable[[int, int], None] = lambda done, total: None,
        on_step: Callable[[StepRecord, int], None] = lambda record, total: None,
        before_save: Callable[[], None] = lambda: None,
        after_save: Callable[[Path], None] = lambda folder: None,
    ) -> None:
        """Train `model` on pairs; log-probs of the reference are computed where none are given.

        confidence: take p_chosen and weight into the losses, all of them in `PAIR_LOSSES`.
        ref_model: a reference other than the policy as it starts, not needed beside `reference`.
        starts_at_reference: the policy's first log-probs must be the reference's, and are checked.
        on_reference, on_step, before_save: called in every process; after_save: in the first.
        """
        self._pairs = pairs
        self._confidence = confidence
        self._starts_at_reference = starts_at_reference
        self._known_reference = reference
        self._on_reference = on_reference
        self._on_step = on_step
        self.before_save, self.after_save = before_save, after_save
        self._tally = Tally()
        self._step_pairs: tuple[str, ...] = ()
        self.order = row_order(len(pairs), args)
        keep_adapter_dropout(model, args)
        with without_rename_warnings():
            super().__init__(
                model=model,
                ref_model=ref_model,
                args=args,
                data_collator=PairCollator(pad_id(tokenizer), args.pad_to_multiple_of),
                train_dataset=_dataset(pairs, self.order.fillers),
                processing_class=tokenizer,
                peft_config=peft_config,
                callbacks=[EpochOrder(self.order)],
            )
        self.remove_callback(PrinterCallback)
        # The reference has said all it will be asked. The copy of the adapter that TRL made would
        # count as trainable and be saved with each checkpoint.
        self.ref_model = None
        if "ref" in getattr(self.model, "peft_config", {}):
            self.model.delete_adapter("ref")
        if confidence and self.aux_loss_enabled:
            raise ValueError(
                "the model adds a router's auxiliary loss, which confidence does not know; set "
                "dpo.confidence: false, or dpo.trainer.router_aux_loss_coef: 0"
            )

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """The dataset with the reference's log-probs, which come from the cache where it has them.

        TRL's own cache is keyed by a fingerprint that changes from run to run.
        """
        self.model.eval()  # without it a new LoRA's dropout would be on, where dropout is wanted
        check_head(self.model, self._pairs[0].prompt_ids + self._pairs[0].chosen_ids, self.args)
        known = self._known_reference
        self.reference = self._compute_reference(dataset, batch_size) if known is None else known
        if self._starts_at_reference and self.ld_alpha is None:
            first = dataset.select(range(min(batch_size, len(self._pairs))))
            check_start(self._policy_logps_of(first), self.reference, self._pairs, self.args.bf16)
        fillers = len(dataset) - len(self._pairs)
        for side in ("chosen", "rejected"):
            logps = getattr(self.reference, side)
            dataset = dataset.add_column(f"ref_{side}_logps", logps + logps[:1] * fillers)
        return dataset

    def _compute_reference(self, dataset: Dataset, batch_size: int) -> ReferenceLogps:
        real = dataset.select(range(len(self._pairs)))
        loader = self.accelerator.prepare(
            DataLoader(real, batch_size=batch_size, collate_fn=self.data_collator)
        )
        chosen: list[float] = []
        rejected: list[float] = []
        for batch in loader:
            sides = self.compute_ref_log_probs(self.ref_model or self.model, _model_inputs(batch))
            of_chosen, of_rejected = self.accelerator.gather_for_metrics(sides)
            chosen += of_chosen.tolist()
            rejected += of_rejected.tolist()
            self._on_reference(len(chosen), len(real))
        return ReferenceLogps(chosen, rejected)

    def _policy_logps_of(self, dataset: Dataset) -> ReferenceLogps:
        inputs = self._prepare_inputs(_model_inputs(self.data_collator(list(dataset))))
        with torch.no_grad(), self.accelerator.autocast():
            chosen, rejected = self._logps(self.model, inputs).chunk(2)
        return ReferenceLogps(chosen.tolist(), rejected.tolist())

    def _logps(self, model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """Summed log-probs of the completions, (2B,): chosen first, then rejected."""
        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
        outputs = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            use_cache=False,
            labels=labels,
            fused_lm_head=True,
        )
        logps: Tensor = outputs.log_probs.sum(dim=1)
        return logps

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
        pairs = len(inputs["pair_ids"])
        if self._confidence:
            loss = self._confident_loss(model, inputs)
        else:
            loss = self._trl_loss(model, _model_inputs(inputs))
        metrics = self._metrics["train"]
        self._tally = Tally(
            self._tally.margins + pairs * metrics["rewards/margins"][-1],
            self._tally.correct + pairs * metrics["rewards/accuracies"][-1],
            self._tally.pairs + pairs,
        )
        # Gradients are averaged over the processes, so each weighs its own by their number.
        step_pairs = num_items_in_batch or pairs
        share: float = pairs / step_pairs * self.accelerator.num_processes
        return loss * share

    def _trl_loss(self, model: Any, inputs: Mapping[str, Any]) -> Tensor:
        accelerator = self.accelerator
        self.accelerator: Any = _OwnRank(accelerator)
        try:
            loss: Tensor = super().compute_loss(model, inputs)
        finally:
            self.accelerator = accelerator
        return loss

    def _confident_loss(self, model: Any, inputs: Mapping[str, Any]) -> Tensor:
        chosen_logps, rejected_logps = self._logps(model, inputs).chunk(2)
        chosen_tokens, rejected_tokens = inputs["completion_mask"].sum(dim=1).chunk(2)
        pairs = LogRatios(
            chosen_logps - inputs["ref_chosen_logps"],
            rejected_logps - inputs["ref_rejected_logps"],
            chosen_tokens.clamp(min=1),
            rejected_tokens.clamp(min=1),
        )
        metrics = self._metrics["train"]
        for name, values in {
            "rewards/chosen": self.beta * pairs.chosen,
            "rewards/rejected": self.beta * pairs.rejected,
            "rewards/accuracies": (pairs.margins > 0).float(),
            "rewards/margins": self.beta * pairs.margins,
            "logps/chosen": chosen_logps,
            "logps/rejected": rejected_logps,
        }.items():
            metrics[name].append(values.detach().mean().item())
        settings = LossSettings(self.beta, self.label_smoothing, self.args.discopop_tau)
        losses = torch.zeros_like(pairs.margins)
        for name, scale in zip(self.loss_types, self.loss_weights, strict=True):
            losses = losses + scale * confident_loss(
                name, pairs, settings, inputs["p_chosen"], inputs["weight"]
            )
        return losses.mean()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            tally = torch.tensor(self._tally, dtype=torch.float64, device=self.args.device)
            margins, correct, pairs = self.accelerator.reduce(tally, reduction="sum").tolist()
            self._tally = Tally()
            # Over all processes; the metrics that only TRL computes are this process's own.
            self._metrics["train"]["rewards/margins"] = [margins / pairs]
            self._metrics["train"]["rewards/accuracies"] = [correct / pairs]
            record = StepRecord(
                step=self.state.global_step,
                epoch=self.state.epoch,
                loss=logs["loss"],
                learning_rate=logs["learning_rate"],
                rewards_margin=margins / pairs,
                rewards_accuracy=correct / pairs,
                grad_norm=logs["grad_norm"],
                pair_ids=self._step_pairs,
            )
            self._on_step(record, self.state.max_steps)
        super().log(logs, start_time)


def _dataset(pairs: Sequence[PairTokens], fillers: int) -> Dataset:
    rows = [*((pair, True) for pair in pairs), *((pairs[0], False) for _ in range(fillers))]
    return Dataset.from_list([{**pair._asdict(), "real": real} for pair, real in rows])


def _model_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch without what TRL would hand on to the model as if it were an input."""
    own = ("pair_ids", "p_chosen", "weight")
    return {key: value for key, value in batch.items() if key not in own}
