"""Two processes under torchrun (gloo, CPU) train as one process does, and resume as one does."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dpo.step_log import StepLog, StepRecord
from dpo.train_dpo import DpoResult
from schemas.configs import DpoConfig, LoraConfig

MakeDataset = Callable[..., Path]
ROOT = Path(__file__).parents[2]

# Trains once for each job; every process leaves beside `out` what it saw and what it wrote there.
_SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import torch
from dpo.train_dpo import train_dpo
from schemas.configs import DpoConfig, ModelConfig

torch.set_num_threads(1)
jobs, rank, written = json.loads(sys.argv[1]), os.environ["RANK"], []

def watch(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if flags & (os.O_WRONLY | os.O_RDWR):
            written.append(str(path))
    elif event in ("os.rename", "os.remove", "shutil.rmtree"):
        written.append(str(arguments[0]))

sys.addaudithook(watch)
for job in jobs:
    def die(what, done, total):
        if what.startswith("loss") and done == job["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)

    result = train_dpo(
        Path(job["dataset"]), ModelConfig(path=job["model"]),
        DpoConfig.model_validate(job["config"]), out=Path(job["out"]), seed=1, max_length=128,
        progress=die,
    )
    seen = {
        "steps": [record.model_dump() for record in result.steps],
        "facts": result.facts,
        "written": [path for path in written if path.startswith(job["out"])],
    }
    Path(job["out"] + f".rank{rank}.json").write_text(json.dumps(seen))
torch.distributed.destroy_process_group()
"""


def _launch(jobs: list[dict[str, Any]], folder: Path) -> subprocess.CompletedProcess[str]:
    script = folder / "job.py"
    script.write_text(_SCRIPT)
    return subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            "--nproc_per_node", "2", str(script), json.dumps(jobs),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )  # fmt: skip


def _job(out: Path, dataset: Path, model: Path, *, kill_at: int = 0, **config: Any) -> Any:
    return {
        "out": str(out),
        "dataset": str(dataset),
        "model": str(model),
        "config": DpoConfig(**config).model_dump(mode="json"),
        "kill_at": kill_at,
    }


def _assert_same(steps: list[StepRecord], expected: list[StepRecord]) -> None:
    assert [record.step for record in steps] == [record.step for record in expected]
    for ours, theirs in zip(steps, expected, strict=True):
        assert ours.pair_ids == theirs.pair_ids
        assert ours.learning_rate == theirs.learning_rate
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-5)
        assert ours.grad_norm == pytest.approx(theirs.grad_norm, abs=1e-4)
        assert ours.rewards_margin == pytest.approx(theirs.rewards_margin, abs=1e-5)
        assert ours.rewards_accuracy == pytest.approx(theirs.rewards_accuracy, abs=1e-6)


def _assert_same_weights(ours: Path, theirs: Path, name: str) -> None:
    expected = load_file(theirs / name)
    found = load_file(ours / name)
    assert found.keys() == expected.keys()
    for tensor, weight in found.items():
        torch.testing.assert_close(weight, expected[tensor], rtol=0, atol=1e-5)


def test_two_processes_have_one_process_losses_at_the_same_global_batch(
    train: Callable[..., DpoResult],
    make_dataset: MakeDataset,
    tiny_model_folder: Path,
    tmp_path: Path,
) -> None:
    # 11 pairs in global batches of 8: the second step of an epoch has 3, so the processes hold
    # 2 and 1 of them, and in its second micro-batch none at all.
    dataset = make_dataset(11, confidence=True)
    lora = LoraConfig(r=4, alpha=8)
    cases: dict[str, dict[str, Any]] = {
        "confident": {"lora": lora},
        "full": {"lora": None},
        "ipo": {"lora": lora, "confidence": False, "loss_type": "ipo"},
    }
    # A gradient that is 0 but for rounding makes Adam step by its sign; a larger epsilon does not.
    shared = {"learning_rate": 1e-3, "num_train_epochs": 2, "adam_epsilon": 1e-5}
    parts = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    jobs = []
    for name, case in cases.items():
        keys = dict(case)
        config = {key: keys.pop(key) for key in ("lora", "confidence") if key in keys}
        trainer = {**shared, **parts, **keys}
        jobs.append(
            _job(tmp_path / f"two-{name}", dataset, tiny_model_folder, trainer=trainer, **config)
        )

    done = _launch(jobs, tmp_path)

    assert done.returncode == 0, done.stderr[-4000:]
    for name, case in cases.items():
        one = train(dataset, out=f"one-{name}", per_device_train_batch_size=8, **shared, **case)
        ranks = [
            json.loads((tmp_path / f"two-{name}.rank{rank}.json").read_text()) for rank in (0, 1)
        ]
        assert ranks[0]["steps"] == ranks[1]["steps"]
        assert ranks[0]["facts"]["world_size"] == 2
        assert ranks[0]["facts"]["pairs_a_step"] == 8
        assert ranks[0]["facts"]["weights"] == ranks[1]["facts"]["weights"]
        assert [len(record.pair_ids) for record in one.steps] == [8, 3, 8, 3]
        _assert_same([StepRecord.model_validate(step) for step in ranks[0]["steps"]], one.steps)
        file = "model.safetensors" if name == "full" else "adapter_model.safetensors"
        _assert_same_weights(tmp_path / f"two-{name}" / "policy", one.policy, file)
        assert any(path.endswith("steps.jsonl") for path in ranks[0]["written"])
        assert [path for path in ranks[1]["written"] if "rng_state_1" not in path] == []


def test_two_processes_that_are_killed_inside_an_epoch_end_as_one_that_is_not(
    train: Callable[..., DpoResult],
    make_dataset: MakeDataset,
    tiny_model_folder: Path,
    tmp_path: Path,
) -> None:
    # Steps of 4, 4 and 3 pairs: killed at step 6, it goes on from step 5, the middle of epoch 2,
    # whose order is not that of epoch 1.
    dataset = make_dataset(11, confidence=True)
    shared = {"learning_rate": 1e-3, "num_train_epochs": 3, "save_steps": 1}
    parts = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2}
    config: dict[str, Any] = {"lora": LoraConfig(r=4, alpha=8), "trainer": {**shared, **parts}}
    out = tmp_path / "two"

    killed = _launch([_job(out, dataset, tiny_model_folder, kill_at=6, **config)], tmp_path)
    assert killed.returncode != 0
    assert len(StepLog(out / "steps.jsonl", StepRecord).read()) == 6
    resumed = _launch([_job(out, dataset, tiny_model_folder, **config)], tmp_path)

    assert resumed.returncode == 0, resumed.stderr[-4000:]
    one = train(dataset, out="one", per_device_train_batch_size=4, **shared)
    facts = json.loads((tmp_path / "two.rank0.json").read_text())["facts"]
    assert facts["resumed_from_step"] == 5
    _assert_same(StepLog(out / "steps.jsonl", StepRecord).read(), one.steps)
    _assert_same_weights(out / "policy", one.policy, "adapter_model.safetensors")
