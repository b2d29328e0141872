"""What our trainers on TRL share: an order of their own, steps that name their rows, whole saves.

Departures from stock TRL where rows are given rather than sampled, each an exact one:

- Rows come tokenised by our `ChatTemplate`, so `_prepare_dataset` has nothing left to do.
- A row is trained on once an epoch with any number of processes. accelerate instead repeats rows
  from the front until all processes have full batches.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate.utils import gather_object
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback
from trl.trainer.utils import disable_dropout_in_model

from dpo.logps import token_logps

_HEAD_TOKENS = 64


class RowOrder(Sampler[int]):
    """A new shuffle of the rows each epoch, then the fillers.

    It is the order of accelerate's own seedable sampler, so of stock TRL. Process r of W takes
    batches r, r + W, ...: the rows of an optimiser step depend on batch size x processes x
    accumulation alone.
    """

    def __init__(self, rows: int, fillers: int, seed: int) -> None:
        self.rows, self.fillers, self.seed, self.epoch = rows, fillers, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        yield from torch.randperm(self.rows, generator=generator).tolist()
        yield from range(self.rows, len(self))

    def __len__(self) -> int:
        return self.rows + self.fillers


def keep_adapter_dropout(model: Any, args: Any) -> None:
    """Take the model's own dropout away where TRL is to, before it puts the adapter on.

    TRL takes it away afterwards, and the dropout that was asked of the adapter with it; it does
    not know the dropout of attention, which is a number and no layer.
    """
    if not args.disable_dropout:
        return
    disable_dropout_in_model(model)
    for module in model.modules():
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)
    args.disable_dropout = False


def pad_id(tokenizer: Any) -> int:
    """A token to pad with; padding is masked by length, so any will do."""
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return next((id_ for id_ in known if id_ is not None), 0)


def check_head(model: Any, ids: Sequence[int], args: Any, *, temperature: float = 1.0) -> None:
    """Return if TRL's log-probs, which it computes from the head's weights, are the model's own.

    As near as the trainer's arguments let float32 be; `temperature` is that at which TRL was told
    to compute them.

    Raises:
        ValueError: HEAD_DIFFERS; the model does more to its logits than TRL knows.
    """
    row = torch.tensor([ids[:_HEAD_TOKENS]], device=model.device)
    model.eval()
    with torch.no_grad():
        fused = model(input_ids=row, labels=row, use_cache=False, fused_lm_head=True).log_probs
        plain = token_logps(model(input_ids=row, use_cache=False).logits / temperature, row)
    off = (fused.float() - plain.float()).abs().max().item()
    # torch.compile has TF32 turned on, which keeps the 10 bits of a half.
    exact = model.dtype == torch.float32 and not (args.tf32 or args.torch_compile)
    if off > (1e-3 if exact else 0.25):
        raise ValueError(
            f"HEAD_DIFFERS: a log-prob as TRL computes it is {off:.2g} off what the model says, as "
            f"{model.config.model_type} does more to its logits than TRL {version('trl')} knows; "
            "train another model"
        )


class Order(Protocol):
    """What a trainer takes first, second, ... in each epoch."""

    def set_epoch(self, epoch: int) -> None: ...
    def __iter__(self) -> Iterator[int]: ...
    def __len__(self) -> int: ...


class EpochOrder(TrainerCallback):  # type: ignore[misc]
    """Tells the order its epoch.

    accelerate does it too, except when several processes resume inside an epoch: then its
    `set_epoch` stops at the wrapper that skips the batches already done.
    """

    def __init__(self, order: Order) -> None:
        self._order = order

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._order.set_epoch(int(state.epoch or 0))


def row_order(rows: int, args: Any) -> RowOrder:
    """The order of so many rows, with fillers where there are several processes.

    All processes need full batches: a last one that is short on rows is filled up with rows that
    count nothing, which come after the real ones in the dataset.
    """
    batch = args.train_batch_size * args.world_size
    fillers = -rows % batch if args.world_size > 1 else 0
    return RowOrder(rows, fillers, args.data_seed)


class SealedTrainer(Trainer):  # type: ignore[misc]
    """Stands before a trainer of TRL in the bases of ours, which sets the attributes below before
    it calls TRL's constructor."""

    order: Order
    before_save: Callable[[], None]
    """Called in every process."""
    after_save: Callable[[Path], None]
    """Called in the first process, with the checkpoint's folder."""

    def _send_telemetry(self) -> None:
        """Nothing: a run tells nobody about itself."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: TRL would write a card beside the checkpoints at each save."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Order:
        return self.order

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # Resumed after the last step, inside an epoch, transformers would make one more.
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*args, **kwargs)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.before_save()
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            self.after_save(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")


class RowTrainer(SealedTrainer):
    """A `SealedTrainer` on rows that come tokenised, in a `RowOrder`."""

    # What `compute_loss` returns is a micro-batch's share of the step's mean.
    loss_is_scaled_for_ga = True

    order: RowOrder

    def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
        return dataset

    def step_rows(self, batches: Sequence[Mapping[str, Any]], key: str) -> tuple[str, ...]:
        """What the batches of one optimiser step hold under `key`, of all processes.

        In the order of the epoch's shuffle, however many processes shared them.
        """
        by_process = gather_object([batch[key] for batch in batches])
        micro_batches, processes = len(batches), self.accelerator.num_processes
        return tuple(
            row
            for micro_batch in range(micro_batches)
            for process in range(processes)
            for row in by_process[process * micro_batches + micro_batch]
        )
