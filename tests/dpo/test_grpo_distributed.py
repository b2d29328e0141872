"""Two processes under torchrun (gloo, CPU): on the same rollouts they learn what one learns, also
where they are killed inside an epoch and go on."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dpo.online import OnlineStep
from dpo.rollouts import OnlineLog

ROOT = Path(__file__).parents[2]

# Answers are given: what sampling draws depends on how many processes share it. Row r of a step is
# answered alike whichever process has it.
_SCRIPT = """
import json, os, sys
from pathlib import Path
import torch
from curation.rewards.weighted import WeightedSum
from dpo.group_judge import GroupJudge
from dpo.train_grpo import train_grpo
from dpo.trl_adapters import groups
from dpo.watch import Watch
from schemas.configs import GrpoConfig, ModelConfig, WatchConfig
from schemas.records import Message, Prompt

torch.set_num_threads(1)
WORDS = (" the", " cat", " house", " red", " small", " sky", " blue", " week")

def given(self, prompt_ids, step):
    tokenizer = self._chat.tokenizer
    first = self.accelerator.process_index * len(prompt_ids)
    answers = []
    for row in range(first, first + len(prompt_ids)):
        words = [WORDS[(row * 3 + step + at) % 8] for at in range(1 + (row + step) % 5)]
        answers.append([*tokenizer("".join(words))["input_ids"], tokenizer.eos_token_id])
    return answers

groups.GroupTrainer._sample = given
asked = []

def letters(prompts, completions):
    asked.extend(completion.text for completion in completions)
    return [None if "sky" in c.text else float(len(c.text) % 7) for c in completions]

class Longer:
    name = "longer"
    def compare(self, items):
        asked.extend(prompt.id for prompt, _, _ in items)
        class Said:
            def __init__(self, share): self.share = share
        return [Said(float(len(a.text) > len(b.text))) for _, a, b in items]

class Killing(Watch):
    def stop(self, steps):
        global kill_at
        if kill_at and len(steps) == kill_at:
            kill_at = 0
            raise InterruptedError

prompts = [Prompt(messages=(Message(role="user", content=f"Question {i}?"),)) for i in range(8)]
for job in json.loads(sys.argv[1]):
    asked.clear()
    reward = GroupJudge(Longer()) if job["judge"] else WeightedSum([(letters, 1.0, "letters")])
    kill_at = job["kill_at"]
    while True:
        try:
            result = train_grpo(
                prompts, ModelConfig(path=job["model"]), GrpoConfig.model_validate(job["config"]),
                reward, watch=Killing(WatchConfig(), None, ()), out=Path(job["out"]), seed=1,
            )
            break
        except InterruptedError:
            asked.clear()
    Path(job["out"] + f".rank{os.environ.get('RANK', '0')}.json").write_text(
        json.dumps({"facts": result.facts, "asked": asked, "steps": len(result.steps)})
    )
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
"""


def _run(jobs: list[dict[str, Any]], folder: Path, processes: int) -> None:
    script = folder / "job.py"
    script.write_text(_SCRIPT)
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
        launch += [str(processes)]
    done = subprocess.run(
        [*launch, str(script), json.dumps(jobs)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def _assert_same(steps: list[OnlineStep], expected: list[OnlineStep]) -> None:
    assert len(steps) == len(expected) == 4
    for ours, theirs in zip(steps, expected, strict=True):
        found, wanted = ours.model_dump(), theirs.model_dump()
        for key, value in wanted.items():
            if isinstance(value, float) and key != "grad_norm":
                assert found[key] == pytest.approx(value, abs=1e-5), key
            elif key == "grad_norm":
                assert found[key] == pytest.approx(value, rel=1e-4), key
            elif key != "components":
                assert found[key] == value, key
        assert found["components"] == pytest.approx(wanted["components"])


def test_two_processes_learn_from_given_rollouts_what_one_learns(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    # A gradient that is 0 but for rounding makes Adam step by its sign; a larger epsilon does not.
    shared = {"learning_rate": 1e-3, "num_generations": 4, "num_train_epochs": 2}
    shared |= {"adam_epsilon": 1e-5, "beta": 0.1, "max_completion_length": 8}
    lora = {"r": 4, "alpha": 8}
    cases: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
        # Each process holds two groups of a batch.
        "lora": ({"lora": lora}, {"per_device_train_batch_size": 8}, False),
        # Each process holds half a group of a micro-batch.
        "halves": (
            {"lora": None},
            {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "save_steps": 1},
            False,
        ),
        "judge": ({"lora": lora}, {"per_device_train_batch_size": 8, "loss_type": "grpo"}, True),
    }
    jobs: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    for name, (config, keys, judge) in cases.items():
        whole = {**keys, "per_device_train_batch_size": 16, "gradient_accumulation_steps": 1}
        for processes, trainer in ((1, whole), (2, keys)):
            jobs[processes].append(
                {
                    "out": str(tmp_path / f"{name}-{processes}"),
                    "model": str(tiny_model_folder),
                    "config": {**config, "rewards": [], "trainer": {**shared, **trainer}},
                    "judge": judge,
                    # Inside the second epoch, one step after its first checkpoint.
                    "kill_at": 4 if name == "halves" and processes == 2 else 0,
                }
            )
    for processes, list_of_jobs in jobs.items():
        _run(list_of_jobs, tmp_path, processes)

    for name in cases:
        one, two = (tmp_path / f"{name}-{processes}" for processes in (1, 2))
        _assert_same(OnlineLog(two).read_steps(), OnlineLog(one).read_steps())
        rollouts = [[r.text for r in OnlineLog(out).read_rollouts()] for out in (one, two)]
        assert rollouts[0] == rollouts[1]
        (file,) = (one / "policy").glob("*.safetensors")
        expected, found = load_file(file), load_file(two / "policy" / file.name)
        for tensor, weight in found.items():
            torch.testing.assert_close(weight, expected[tensor], rtol=0, atol=1e-5)
        ranks = [
            json.loads((tmp_path / f"{name}-2.rank{rank}.json").read_text()) for rank in (0, 1)
        ]
        alone = json.loads((tmp_path / f"{name}-1.rank0.json").read_text())
        assert [rank["facts"]["world_size"] for rank in ranks] == [2, 2]
        assert ranks[0]["facts"]["resumed_from_step"] == (3 if name == "halves" else 0)
        if name == "halves":
            continue
        # Each group is scored once, by one of the processes.
        assert sorted(ranks[0]["asked"] + ranks[1]["asked"]) == sorted(alone["asked"])
        assert ranks[0]["asked"]
        assert ranks[1]["asked"]
