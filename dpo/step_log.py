"""The step log: what each optimiser step saw and did, joined to the pairs it trained on."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

from pydantic import ValidationError

from schemas.arrow import first_error
from schemas.records import Record
from schemas.run_folder import write_atomic


class StepRecord(Record):
    """One optimiser step, over all its micro-batches and processes."""

    step: int
    """From 1."""
    epoch: float
    """Epochs done after the step."""
    loss: float
    """Mean over the step's pairs."""
    learning_rate: float | None = None
    rewards_margin: float | None = None
    """Mean over the pairs of beta times the log-ratio margin, before the step."""
    rewards_accuracy: float | None = None
    """Share of pairs whose margin is above 0."""
    grad_norm: float | None = None
    """Before clipping."""
    pair_ids: tuple[str, ...]
    """In the order of the epoch's shuffle, however many processes shared them."""


class Step(Protocol):
    """A record of an optimiser step."""

    @property
    def step(self) -> int: ...
    def model_dump_json(self) -> str: ...
    @classmethod
    def model_validate_json(cls, json_data: bytes) -> Self: ...


S = TypeVar("S", bound=Step)


class StepLog(Generic[S]):
    """An append-only file with one JSON line a step; a last line cut off by a kill is no step."""

    def __init__(self, path: Path, record: type[S]) -> None:
        self.path = path
        self._record = record

    def read(self) -> list[S]:
        """The whole lines, in order; none where there is no file.

        Raises:
            ValueError: a line before the last is damaged.
        """
        try:
            *lines, _torn = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        records = []
        for number, line in enumerate(lines, start=1):
            try:
                records.append(self._record.model_validate_json(line))
            except ValidationError as error:
                raise ValueError(
                    f"'{self.path}', line {number} is no step record ({first_error(error)}); "
                    "delete the folder that holds it to train again"
                ) from None
        return records

    def cut(self, step: int) -> None:
        """Drop the steps after `step`, which a resumed run makes again.

        Raises:
            ValueError: a step up to `step` is missing.
        """
        kept = [record for record in self.read() if record.step <= step]
        if [record.step for record in kept] != list(range(1, step + 1)):
            raise ValueError(
                f"'{self.path}' does not hold steps 1 to {step}, which the checkpoint has behind "
                "it; delete the folder that holds it to train again"
            )
        data = "".join(record.model_dump_json() + "\n" for record in kept)
        write_atomic(self.path, data.encode())

    def append(self, record: S) -> None:
        with open(self.path, "ab") as file:
            file.write(record.model_dump_json().encode() + b"\n")

    def sync(self) -> None:
        """Put the lines on the disk itself, before a checkpoint counts on them."""
        with open(self.path, "ab") as file:
            os.fsync(file.fileno())


def check_finite(
    step: int, loss: float, grad_norm: float | None, *, section: str, rows: str, log: Path
) -> None:
    """Return if the step's loss is a number, and its gradient, where there is one.

    A gradient that is none makes every weight none, and the last step has no loss after it.

    Raises:
        ValueError: one is not.
    """
    name, value = "loss", loss
    if math.isfinite(loss) and grad_norm is not None:
        name, value = "gradient's norm", grad_norm
    if not math.isfinite(value):
        remedy = (
            "look at the model's own weights, as nothing was trained yet, or"
            if step == 1
            else f"lower {section}.trainer.learning_rate, or"
        )
        raise ValueError(
            f"the {name} of step {step} is {value}; {remedy} look at the {rows} of that step in "
            f"'{log}'"
        )


def saturated_since(steps: Sequence[StepRecord], *, run: int = 3, margin: float = 10) -> int | None:
    """The first of `run` steps in a row with accuracy 1 and a reward margin above `margin`.

    Such pairs teach nothing more: they differ in something trivial, or the learning rate is far
    too high. None where there is no such run.
    """
    in_a_row = 0
    for record in steps:
        over = record.rewards_margin is not None and record.rewards_margin > margin
        in_a_row = in_a_row + 1 if over and record.rewards_accuracy == 1 else 0
        if in_a_row == run:
            return record.step - run + 1
    return None
