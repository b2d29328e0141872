"""A config of rounds on a tiny model, seconds each."""

import json
from pathlib import Path

import yaml

from benchmarks.kill_drill import build_brief_model

HELD_OUT = 8


def write_rounds(folder: Path) -> Path:
    """The config, its prompts and its model in the folder; the path of the config."""
    folder.mkdir(parents=True, exist_ok=True)
    build_brief_model(folder / "model", end=6.0)
    for name, text, rows in (
        ("prompts", "Describe the house, number {}.", 12),
        ("held_out", "Tell me about the week {}.", HELD_OUT),
    ):
        lines = [json.dumps({"prompt": text.format(row)}) + "\n" for row in range(rows)]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    reward = {
        "use": "curation.rewards.rules:LengthReward",
        "args": {"unit": "characters", "target": 20},
    }
    sampling = {"max_new_tokens": 40, "batch_size": 16}
    config = {
        "run": str(folder / "rounds"),
        "rounds": {"count": 2},
        "model": {"path": str(folder / "model"), "device": "cpu"},
        "prompts": {"path": str(folder / "prompts.jsonl")},
        "generate": {**sampling, "n": 4, "batches_a_part": 1},
        "rank": {"rewards": [reward]},
        "validate": {"test_share": 0.0, "max_quarantined": 1.0},
        "dpo": {
            "lora": {"r": 4, "alpha": 8},
            "trainer": {
                "num_train_epochs": 2,
                "per_device_train_batch_size": 2,
                "learning_rate": 3.0e-3,
                "save_steps": 2,
            },
        },
        "evaluate": {
            **sampling,
            "prompts": {"path": str(folder / "held_out.jsonl")},
            "n": 2,
            "resamples": 100,
        },
    }
    file = folder / "rounds.yaml"
    file.write_text(yaml.safe_dump(config))
    return file
