"""The step log after kills, and the alarm for saturated pairs."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from dpo.step_log import StepLog, StepRecord, check_finite, saturated_since

MakeDataset = Callable[..., Path]


def _record(step: int, margin: float, accuracy: float) -> StepRecord:
    return StepRecord(
        step=step,
        epoch=1.0,
        loss=0.0,
        rewards_margin=margin,
        rewards_accuracy=accuracy,
        pair_ids=("pair-1",),
    )


def test_three_steps_of_perfect_accuracy_and_a_large_margin_are_saturation() -> None:
    saturated = [_record(step, 15.3, 1.0) for step in (4, 5, 6)]
    assert saturated_since(saturated) == 4
    assert saturated_since(saturated[:2]) is None
    assert saturated_since([*saturated[:2], _record(6, 15.3, 0.9), saturated[2]]) is None
    assert saturated_since([_record(step, 9.9, 1.0) for step in range(9)]) is None


def test_a_log_line_that_a_kill_cut_off_is_no_step(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "steps.jsonl", StepRecord)
    assert log.read() == []
    records = [_record(step, 0.1, 0.5) for step in (1, 2, 3)]
    for record in records:
        log.append(record)
    with open(log.path, "ab") as file:
        file.write(b'{"step": 4, "epo')
    assert log.read() == records
    log.cut(2)
    log.append(records[2])
    assert log.read() == records


def test_a_log_that_lost_steps_is_told(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "steps.jsonl", StepRecord)
    log.append(_record(2, 0.1, 0.5))
    with pytest.raises(ValueError, match="does not hold steps 1 to 2"):
        log.cut(2)
    log.path.write_bytes(b"{}\n{}\n")
    with pytest.raises(ValueError, match=r"steps\.jsonl', line 1 is no step record"):
        log.read()


def test_a_gradient_that_is_no_number_ends_the_run_although_the_loss_is_one(
    tmp_path: Path,
) -> None:
    check = partial(check_finite, section="dpo", rows="pairs", log=tmp_path / "steps.jsonl")
    check(2, 0.5, 3.0)
    check(2, 0.5, None)
    with pytest.raises(
        ValueError, match=r"the gradient's norm of step 2 is nan; lower dpo.trainer"
    ):
        check(2, 0.5, math.nan)
    with pytest.raises(ValueError, match="the loss of step 1 is inf; look at the model's own"):
        check(1, math.inf, 1.0)
