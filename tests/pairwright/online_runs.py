"""Configs of tiny runs that fine-tune, train a reward model and go on with PPO, or GRPO alone."""

import json
from pathlib import Path

from benchmarks.kill_drill import write_inputs

_THINGS = ("house", "cat", "sky", "week", "old man", "small dog", "tree", "sea", "sun")
_LENGTH = '[{use: "curation.rewards.rules:LengthReward", args: {unit: characters, target: 30}}]'
_EVALUATE = """\
evaluate:
  {n: 2, max_new_tokens: 16, resamples: 100, prompts: {path: FOLDER/held_out.jsonl}}
"""
_PPO = """\
sft:
  data: {path: FOLDER/conversations.jsonl}
  lora: {r: 4, alpha: 8}
  test_share: 0.2
  trainer:
    {max_steps: 6, per_device_train_batch_size: 4, learning_rate: 1.0e-3, save_steps: 2}
reward:
  lora: {r: 4, alpha: 8}
  trainer:
    {max_steps: 6, per_device_train_batch_size: 2, learning_rate: 1.0e-3, save_steps: 2}
ppo:
  rewards:
    - {use: "curation.rewards.model:RewardModel", args: {path: FOLDER/ppo/reward/model}}
  watch: {every: 2, prompts: 3, rewards: LENGTH}
  lora: {r: 4, alpha: 8}
  steps: 6
  rollouts: 8
  minibatch: 4
  max_new_tokens: 16
  learning_rate: 1.0e-3
  save_steps: 2
"""
_GRPO = """\
grpo:
  rewards: LENGTH
  lora: {r: 4, alpha: 8}
  watch: {every: 2, prompts: 3}
  trainer:
    num_generations: 4
    per_device_train_batch_size: 8
    max_completion_length: 16
    learning_rate: 1.0e-3
    beta: 0.02
    max_steps: 6
    save_steps: 2
"""


def write_online(folder: Path) -> None:
    """ppo.yaml, grpo.yaml and what they read, in the folder; their runs are `ppo` and `grpo`."""
    run = write_inputs(folder).read_text()
    rows = [
        {"prompt": f"Describe the {thing}.", "completion": f"The {thing} is {size}."}
        for thing in _THINGS
        for size in ("small", "red", "old")
    ]
    rows.append({"prompt": "Describe nothing."})
    _write(folder / "conversations.jsonl", rows)
    _write(folder / "held_out.jsonl", [{"prompt": f"What is the {thing}?"} for thing in _THINGS])
    on_pairs, start = run.partition("dpo:")[0], run.partition("generate:")[0]
    for name, before, sections in (("ppo", on_pairs, _PPO), ("grpo", start, _GRPO)):
        text = before.replace(f"run: {folder}/run", f"run: FOLDER/{name}") + sections + _EVALUATE
        text = text.replace("LENGTH", _LENGTH).replace("FOLDER", str(folder))
        (folder / f"{name}.yaml").write_text(text)


def _write(file: Path, rows: list[dict[str, str]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
