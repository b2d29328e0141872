"""A killed training ends as one that was never killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo.step_log import StepLog, StepRecord
from schemas.configs import DpoConfig, LoraConfig

MakeDataset = Callable[..., Path]
ROOT = Path(__file__).parents[2]


_KILLED_RUN = """
import os, signal, sys
from pathlib import Path
import torch
from dpo.train_dpo import train_dpo
from schemas.configs import DpoConfig, ModelConfig

torch.set_num_threads(1)
dataset, model, out, config, kill_at = sys.argv[1:]

def die(what, done, total):
    if what.startswith("loss") and done == int(kill_at):
        os.kill(os.getpid(), signal.SIGKILL)

train_dpo(Path(dataset), ModelConfig(path=model), DpoConfig.model_validate_json(config),
          out=Path(out), seed=1, max_length=128, progress=die)
"""


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_a_run_that_is_killed_ends_as_one_that_is_not(
    lora: bool, train: Any, make_dataset: MakeDataset, tiny_model_folder: Path, tmp_path: Path
) -> None:
    # 3 epochs of 3 steps with a checkpoint every 3: killed at step 8, inside epoch 3, the run goes
    # on from step 6, an epoch's end; killed again at step 5 of another, from step 3.
    dataset = make_dataset(11, confidence=True)
    keys = {
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "num_train_epochs": 3,
        "save_steps": 2,
    }
    shape = LoraConfig(r=4, alpha=8) if lora else None
    expected = train(dataset, out="whole", lora=shape, **keys)
    config = DpoConfig(lora=shape, trainer=keys).model_dump_json()
    out = tmp_path / "killed"
    killed = subprocess.run(
        [
            sys.executable,
            "-c",
            _KILLED_RUN,
            str(dataset),
            str(tiny_model_folder),
            str(out),
            config,
            "8",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert len(StepLog(out / "steps.jsonl", StepRecord).read()) == 8
    # What a kill inside a save leaves: files, but no seal; and one whose file was cut short.
    torn, short = out / "checkpoints/checkpoint-8", out / "checkpoints/checkpoint-7"
    for folder in (torn, short):
        folder.mkdir()
        (folder / "trainer_state.json").write_text('{"global_step": 8, "log_hi')
    (short / "sealed.json").write_text(json.dumps({"trainer_state.json": 4000}))

    resumed = train(dataset, out="killed", lora=shape, **keys)

    assert resumed.facts["resumed_from_step"] == 6
    assert resumed.facts["reference"]["cache_hit"] is True
    assert [record.step for record in resumed.steps] == list(range(1, 10))
    for ours, theirs in zip(resumed.steps, expected.steps, strict=True):
        assert ours.pair_ids == theirs.pair_ids
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-6)
        assert ours.learning_rate == theirs.learning_rate
    from safetensors.torch import load_file

    name = "adapter_model.safetensors" if lora else "model.safetensors"
    whole = load_file(expected.policy / name)
    for tensor, weight in load_file(resumed.policy / name).items():
        torch.testing.assert_close(weight, whole[tensor], rtol=0, atol=1e-6)


def test_a_finished_run_is_not_trained_again(train: Any, make_dataset: MakeDataset) -> None:
    dataset = make_dataset(8)
    first = train(dataset)
    heard: list[str] = []
    second = train(dataset, progress=lambda what, *_: heard.append(what))
    assert heard == []
    assert second.steps == first.steps
    assert second.facts["weights"] == first.facts["weights"]


def test_another_setting_starts_again(train: Any, make_dataset: MakeDataset) -> None:
    dataset = make_dataset(8, confidence=True)
    first = train(dataset)
    for change in ({"beta": 0.2}, {"seed": 2}, {"confidence": False}):
        again = train(dataset, **change)
        assert again.facts["resumed_from_step"] == 0
        assert again.steps != first.steps
        assert [record.step for record in again.steps] == [1, 2]
