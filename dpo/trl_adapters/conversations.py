"""TRL's SFT trainer on conversations that are tokenised, masked, named, and may be packed.

Departures from stock TRL, beside those of `RowTrainer`, each an exact one:

- Which tokens are trained is a mask that comes with the row, never a comparison with the pad token.
- The trained tokens of an optimiser step are counted by us, over all micro-batches and processes.
  transformers counts them too, but only for a model whose `forward` takes loss arguments.
- Packed conversations stand in rows of the batch, with position ids that begin anew and no
  attention mask; from that transformers makes the mask that keeps them apart. TRL joins the rows of
  the batch into one, which FlashAttention wants and which others pay for by its length squared.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from dpo.conversations import ConversationTokens
from dpo.packing import Pack
from dpo.policy import without_rename_warnings
from dpo.sft_step import SftStep
from dpo.trl_adapters.shared import EpochOrder, RowTrainer, check_head, pad_id, row_order


class HeldOut(NamedTuple):
    loss: float
    """Mean over the trained tokens."""
    tokens: int


class ConversationCollator:
    """Batches of packs: TRL's padded tensors, and the conversations' ids beside them."""

    def __init__(
        self,
        rows: Sequence[ConversationTokens],
        pad_token_id: int,
        pad_to_multiple_of: int | None,
        *,
        packed: bool,
    ) -> None:
        self._rows = rows
        self._packed = packed
        self._pad = DataCollatorForLanguageModeling(
            pad_token_id=pad_token_id,
            return_position_ids=packed,
            pad_to_multiple_of=pad_to_multiple_of,
        )

    def __call__(self, packs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        examples = []
        row_ids = []
        for pack in packs:
            rows = [self._rows[at] for at in pack["rows"]]
            examples.append(
                {
                    "input_ids": [token for row in rows for token in row.ids],
                    "labels": [
                        label for row in rows for label in self._labels(row, real=pack["real"])
                    ],
                    "seq_lengths": [len(row.ids) for row in rows],
                }
            )
            row_ids += [row.row_id for row in rows] if pack["real"] else []
        batch: dict[str, Any] = self._pad(examples)
        if self._packed:
            # Beside an attention mask, position ids would not keep conversations apart.
            del batch["attention_mask"]
        batch["row_ids"] = row_ids
        return batch

    def _labels(self, row: ConversationTokens, *, real: bool) -> list[int]:
        if not real:
            return [-100] * len(row.ids)
        labels = [
            token if trained else -100 for token, trained in zip(row.ids, row.mask, strict=True)
        ]
        if self._packed:
            # What would predict it is the last token of another conversation.
            labels[0] = -100
        return labels


class ConversationTrainer(RowTrainer, SFTTrainer):  # type: ignore[misc]
    """TRL's SFT trainer on conversations that are tokenised, masked, named, and may be packed."""

    def __init__(
        self,
        model: Any,
        args: SFTConfig,
        rows: Sequence[ConversationTokens],
        tokenizer: Any,
        *,
        packs: Sequence[Pack] | None = None,
        peft_config: Any = None,
        on_step: Callable[[SftStep, int], None] = lambda record, total: None,
        before_save: Callable[[], None] = lambda: None,
        after_save: Callable[[Path], None] = lambda folder: None,
    ) -> None:
        """Train `model` on the rows, or on the packs of them.

        on_step, before_save: called in every process; after_save: in the first.

        Raises:
            ValueError: packed conversations would see each other (PACKING_LEAKS).
        """
        self._on_step = on_step
        self.before_save, self.after_save = before_save, after_save
        self._step_rows: tuple[str, ...] = ()
        self._step_tokens = 0
        self._pad_token_id = pad_id(tokenizer)
        of_packs = [(at,) for at in range(len(rows))] if packs is None else packs
        self.order = row_order(len(of_packs), args)
        with without_rename_warnings():
            super().__init__(
                model=model,
                args=args,
                data_collator=ConversationCollator(
                    rows, self._pad_token_id, args.pad_to_multiple_of, packed=packs is not None
                ),
                train_dataset=Dataset.from_list(
                    [
                        *({"rows": list(pack), "real": True} for pack in of_packs),
                        *[{"rows": list(of_packs[0]), "real": False}] * self.order.fillers,
                    ]
                ),
                processing_class=tokenizer,
                peft_config=peft_config,
                callbacks=[EpochOrder(self.order)],
            )
        self.remove_callback(PrinterCallback)
        check_head(self.model, rows[0].ids, args)
        if packs is not None:
            self._check_packing(rows, packs)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], int]:
        """The micro-batches of one step, and how many trained tokens all processes have in it."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._step_rows = self.step_rows(batches, "row_ids")
        tokens = sum(int((batch["labels"][:, 1:] != -100).sum()) for batch in batches)
        summed = self.accelerator.reduce(torch.tensor(tokens, device=device), reduction="sum")
        self._step_tokens = int(summed)
        return batches, self._step_tokens

    def compute_loss(
        self,
        model: Any,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: int | None = None,
    ) -> Any:
        """This micro-batch's share of the mean over the step's trained tokens."""
        return super().compute_loss(
            model, _model_inputs(inputs), return_outputs, num_items_in_batch
        )

    def held_out(self, rows: Sequence[ConversationTokens]) -> HeldOut:
        """The loss on rows that are not trained on, shared by the processes."""
        collate = ConversationCollator(rows, self._pad_token_id, None, packed=False)
        size, processes = self.args.eval_batch_size, self.accelerator.num_processes
        starts = range(0, len(rows), size)[self.accelerator.process_index :: processes]
        sums = torch.zeros(2, dtype=torch.float64)
        self.model.eval()
        for start in starts:
            places = range(start, min(start + size, len(rows)))
            batch = collate([{"rows": [at], "real": True} for at in places])
            logps, mask = self._token_logps(batch)
            sums += torch.tensor([-logps.double().sum().item(), mask.sum().item()])
        sums = self.accelerator.reduce(sums.to(self.args.device), reduction="sum")
        total, tokens = sums.tolist()
        return HeldOut(total / tokens, int(tokens))

    def _token_logps(self, batch: Mapping[str, Any], *, autocast: bool = True) -> Any:
        """Log-probs (B, T - 1), 0 where not trained, and the mask (B, T - 1) of trained tokens."""
        inputs = self._prepare_inputs(_model_inputs(batch))
        context = self.accelerator.autocast() if autocast else contextlib.nullcontext()
        with torch.no_grad(), context:
            outputs = self.model(**inputs, use_cache=False, fused_lm_head=True)
        return outputs.log_probs, outputs.label_mask

    def _check_packing(self, rows: Sequence[ConversationTokens], packs: Sequence[Pack]) -> None:
        """Return if a pack gives its conversations the log-probs that they have alone.

        What keeps them apart is up to the model's attention; a state that runs on through the row
        is not kept apart. A small leak shows where the first conversation is exchanged for another:
        the shapes stay, so the others' log-probs must, to the last bits.
        """
        pack = next((pack for pack in packs if len(pack) > 1), None)
        if pack is None:
            return
        self.model.eval()
        first, *others = (rows[at] for at in pack)
        other = first._replace(ids=[others[0].ids[0]] * len(first.ids))
        together = self._logps_by_row([first, *others], packed=True)
        after_other = self._logps_by_row([other, *others], packed=True)
        apart = [self._logps_by_row([row], packed=False)[0] for row in (first, *others)]
        exact = self.model.dtype == torch.float32
        leak = (torch.cat(together[1:]) - torch.cat(after_other[1:])).abs().max().item()
        shift = (torch.cat(together) - torch.cat(apart)).abs().max().item()
        if leak > (1e-5 if exact else 1e-2) or shift > (1e-3 if exact else 0.25):
            raise ValueError(
                f"PACKING_LEAKS: in a packed row a log-prob is up to {max(leak, shift):.2g} off "
                f"what it is alone, as {self.model.config.model_type} lets packed conversations "
                "see each other; leave packing out of sft.trainer"
            )

    def _logps_by_row(
        self, rows: Sequence[ConversationTokens], *, packed: bool
    ) -> tuple[Tensor, ...]:
        """The log-probs of each row's trained tokens, the rows in one pack or one row alone."""
        collate = ConversationCollator(rows, self._pad_token_id, None, packed=packed)
        batch = collate([{"rows": range(len(rows)), "real": True}])
        logps, mask = self._token_logps(batch, autocast=False)
        by_row: tuple[Tensor, ...] = logps[mask].float().cpu().split([row.trained for row in rows])
        return by_row

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            record = SftStep(
                step=self.state.global_step,
                epoch=self.state.epoch,
                loss=logs["loss"],
                tokens=self._step_tokens,
                learning_rate=logs["learning_rate"],
                grad_norm=logs["grad_norm"],
                row_ids=self._step_rows,
            )
            self._on_step(record, self.state.max_steps)
        super().log(logs, start_time)


def _model_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch without what TRL would hand on to the model as if it were an input."""
    return {key: value for key, value in batch.items() if key != "row_ids"}
