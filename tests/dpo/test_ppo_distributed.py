"""Two processes under torchrun (gloo, CPU): updates as of one process, and a run that goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from schemas.configs import PpoConfig
from tests.dpo.fixed_rollouts import updated

ROOT = Path(__file__).parents[2]
KEYS = {"rollouts": 6, "max_grad_norm": 1e9, "epochs": 2}
# Of five judged rollouts: minibatches of 3 and 2, shared out 2 and 1, 1 and 1; and of one, so that
# a process has none.
UPDATES: list[dict[str, Any]] = [{**KEYS, "minibatch": size} for size in (3, 1)]

# Every process updates a model on fixed rollouts, trains one, and goes on where a kill would have
# left it.
_SCRIPT = """
import json, shutil, sys
from pathlib import Path
import torch
from accelerate import PartialState
torch.set_num_threads(1)
from dpo.train_ppo import train_ppo
from dpo.watch import Watch
from schemas.configs import ModelConfig, PpoConfig, WatchConfig
from tests.dpo.fixed_rollouts import updated
from tests.dpo.test_train_ppo import PROMPTS, SMALL, VOWELS

state, folder, seen = PartialState(cpu=True), Path(sys.argv[2]), {"updates": [], "runs": []}
for keys in json.loads(sys.argv[3]):
    model, found = updated(PpoConfig(**keys), rate=0.1)
    weights = {name: weight.tolist() for name, weight in model.named_parameters()}
    seen["updates"].append([list(found), weights])

for name in ("whole", "killed"):
    config = PpoConfig(**{**SMALL, "steps": 4, "save_steps": 2})
    watch = Watch(WatchConfig(every=2, prompts=3), None, PROMPTS)
    result = train_ppo(PROMPTS, ModelConfig(path=sys.argv[1]), config, VOWELS, watch=watch,
                       out=folder / name, seed=1)
    seen["runs"].append([[step.model_dump() for step in result.steps], result.facts])
    if name == "whole" and state.is_main_process:
        shutil.copytree(folder / "whole", folder / "killed")
        shutil.rmtree(folder / "killed" / "checkpoints" / "checkpoint-4")
        shutil.rmtree(folder / "killed" / "policy")
    state.wait_for_everyone()
(folder / f"seen.{state.process_index}").write_text(json.dumps(seen))
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def seen(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What the two processes saw."""
    folder = tmp_path_factory.mktemp("two")
    script = folder / "job.py"
    script.write_text(_SCRIPT)
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
            str(script), str(tiny_model_folder), str(folder), json.dumps(UPDATES),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((folder / f"seen.{rank}").read_text()) for rank in (0, 1)]


def test_two_processes_update_as_one(seen: list[Any]) -> None:
    assert seen[0]["updates"] == seen[1]["updates"]
    for keys, (found, weights) in zip(UPDATES, seen[0]["updates"], strict=True):
        model, expected = updated(PpoConfig(**keys), rate=0.1)
        assert found == pytest.approx(list(expected), abs=1e-5)
        for name, weight in model.named_parameters():
            torch.testing.assert_close(torch.tensor(weights[name]), weight.data, atol=1e-6, rtol=0)


def test_two_processes_share_the_work_and_agree(seen: list[Any]) -> None:
    (steps, facts), _ = seen[0]["runs"]
    assert facts["world_size"] == 2
    assert steps == seen[1]["runs"][0][0]
    assert facts["weights"] == seen[1]["runs"][0][1]["weights"]
    assert [len(step["prompt_ids"]) for step in steps] == [4] * 4
    assert [step["held_out_reward"] is not None for step in steps] == [True, True, False, True]


def test_two_processes_go_on_after_a_kill_as_if_there_had_been_none(seen: list[Any]) -> None:
    (steps, facts), (again, resumed) = seen[0]["runs"]
    assert resumed["resumed_from_step"] == 2
    assert again == steps
    assert resumed["weights"] == facts["weights"]
