"""The order of prompts that GRPO trains in, and the checkpoints that go by it."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback


class GroupOrder(Sampler[int]):
    """A new shuffle of the prompts each epoch, in batches of whole groups.

    Each prompt comes `group` times in a row and each batch `repeats` times, as the trainer takes it
    once a micro-batch that learns from it. Prompts that fill no batch are left out of the epoch.
    Process r of W gets the r-th slice of a batch.
    """

    def __init__(
        self, prompts: int, *, batch: int, group: int, repeats: int, seed: int, shuffle: bool = True
    ) -> None:
        self.prompts, self.batch, self.group, self.repeats = prompts, batch, group, repeats
        self.seed, self.shuffle, self.epoch = seed, shuffle, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def batches(self, epoch: int) -> list[list[int]]:
        """The prompts of each batch of an epoch."""
        order = list(range(self.prompts))
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed + epoch)
            order = torch.randperm(self.prompts, generator=generator).tolist()
        whole = self.prompts - self.prompts % self.batch
        return [order[start : start + self.batch] for start in range(0, whole, self.batch)]

    def __iter__(self) -> Iterator[int]:
        for batch in self.batches(self.epoch):
            for _ in range(self.repeats):
                for prompt in batch:
                    yield from [prompt] * self.group

    def __len__(self) -> int:
        return self.prompts // self.batch * self.batch * self.group * self.repeats


class WholeSteps(TrainerCallback):  # type: ignore[misc]
    """Puts a checkpoint off until the rollouts that it would lack are learned from."""

    def __init__(self, updates: int) -> None:
        self._updates, self._due = updates, False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._due = self._due or control.should_save
        control.should_save = self._due and state.global_step % self._updates == 0
        self._due = self._due and not control.should_save
