"""Each recipe goes its whole road on a tiny model, in seconds."""

from pathlib import Path

import pytest

from benchmarks.kill_drill import build_brief_model
from pairwright.cli import main

ROOT = Path(__file__).resolve().parents[1]
HELD_OUT = "evaluate.prompts=[{{path: recipes/{file}.jsonl, limit: 14, tag_columns: {columns}}}]"
PAIRS = [
    "generate.n=8",
    "generate.temperature=1",
    "generate.min_p=0",
    "generate.max_new_tokens=24",
    "validate.min_margin=0",
    "validate.max_quarantined=1",
    "validate.max_length=1024",
    "dpo.trainer.max_steps=2",
]
NUMBERS = HELD_OUT.format(file="online-rl/held_out", columns=[])
ROADS = {
    "identity/dpo": [HELD_OUT.format(file="identity/held_out", columns=[]), *PAIRS],
    "multilingual/dpo": [
        HELD_OUT.format(file="multilingual/held_out", columns=[]),
        *PAIRS,
        # The tiny model's answers are too short for the detector of languages.
        "rank.abstain=renormalise",
    ],
    "instruction-following/dpo": [HELD_OUT.format(file="demo/held_out", columns=[]), *PAIRS],
    # Eight of these are trained on and left out.
    "safety/dpo": [HELD_OUT.format(file="safety/prompts", columns=["label"]), *PAIRS],
    "online-rl/grpo": [
        NUMBERS,
        "grpo.trainer.max_steps=1",
        "grpo.trainer.max_completion_length=8",
    ],
    "online-rl/ppo": [NUMBERS, "ppo.steps=1", "ppo.max_new_tokens=8"],
}
"""What makes each recipe short, and independent of other people's prompts."""
QUICK = ["evaluate.n=1", "evaluate.max_new_tokens=8", "evaluate.resamples=100"]


@pytest.fixture(scope="module")
def brief_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose answers end by themselves."""
    import torch

    torch.set_num_threads(1)
    return build_brief_model(tmp_path_factory.mktemp("brief") / "model")


@pytest.mark.parametrize("recipe", ROADS)
def test_a_recipe_goes_its_whole_road(
    recipe: str, brief_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    run = ["--run", str(tmp_path / "run"), "--limit", "8"]
    model = [f"model.path={brief_model}", "model.device=cpu"]
    assert main(["run", f"recipes/{recipe}.yaml", *run, *model, *QUICK, *ROADS[recipe]]) == 0
    assert (tmp_path / "run" / "report.json").is_file()
