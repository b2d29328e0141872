"""Recipes of instruction following, safety and online RL: whole roads on a tiny model, prompts."""

import json
from pathlib import Path

import pytest

from benchmarks.kill_drill import build_brief_model
from curation.edits import Worse
from curation.rewards.answers import NumericAnswer
from curation.rewards.instructions import VerifiableInstructions
from curation.safety import Refuse
from pairwright.cli import main
from schemas.config_files import load_config
from schemas.configs import Config
from schemas.records import Completion, Prompt

ROOT = Path(__file__).resolve().parents[1]
PAIRS = [
    "generate.n=4",
    "generate.temperature=1",
    "generate.min_p=0",
    "generate.max_new_tokens=24",
    "validate.min_margin=0",
    "validate.max_quarantined=1",
    "validate.max_length=1024",
    "dpo.trainer.max_steps=2",
]
ROADS = {
    "instruction-following/dpo": PAIRS,
    "safety/dpo": PAIRS,
    "online-rl/grpo": ["grpo.trainer.max_steps=2", "grpo.trainer.max_completion_length=8"],
    "online-rl/ppo": ["ppo.steps=2", "ppo.max_new_tokens=8"],
}
EVALUATE = ["evaluate.n=1", "evaluate.max_new_tokens=8", "evaluate.resamples=100"]


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def brief_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose answers end by themselves."""
    import torch

    torch.set_num_threads(1)
    return build_brief_model(tmp_path_factory.mktemp("brief") / "model")


def trained_on(recipe: str) -> list[Prompt]:
    from curation.prompts import load_prompts

    config = load_config(ROOT / "recipes" / f"{recipe}.yaml", [], as_=Config)
    return load_prompts(config.prompts).prompts


@pytest.mark.parametrize("recipe", ROADS)
def test_a_recipe_goes_its_whole_road(recipe: str, brief_model: Path, tmp_path: Path) -> None:
    config = load_config(ROOT / "recipes" / f"{recipe}.yaml", [], as_=Config)
    lines = (ROOT / config.prompts[0].path).read_text("utf-8").splitlines()[:4]
    rows = [json.loads(line) for line in lines]
    others = tmp_path / "others.jsonl"
    others.write_text(
        "".join(json.dumps(row | {"prompt": f"Hello. {row['prompt']}"}) + "\n" for row in rows)
    )
    held_out = config.prompts[0].model_dump(mode="json") | {"path": str(others)}
    code = main(
        [
            "run",
            f"recipes/{recipe}.yaml",
            *("--run", str(tmp_path / "run"), "--limit", "8"),
            *(f"model.path={brief_model}", "model.device=cpu"),
            f"evaluate.prompts={json.dumps([held_out])}",
            *ROADS[recipe],
            *EVALUATE,
        ]
    )
    assert code == 0
    assert (tmp_path / "run" / "report.json").is_file()


def test_every_instruction_asked_for_is_one_that_a_program_can_check() -> None:
    prompts = trained_on("instruction-following/dpo")
    for prompt in prompts:
        VerifiableInstructions().check(prompt)
    assert all(prompt.instructions for prompt in prompts)
    assert len({instruction.name for p in prompts for instruction in p.instructions}) >= 15


def test_length_alone_makes_no_pair_of_the_instructions_recipe() -> None:
    file = ROOT / "recipes" / "instruction-following" / "dpo.yaml"
    config = load_config(file, [], as_=Config)
    assert config.rank is not None
    _, length = config.rank.rewards
    assert length.weight < config.gate.min_margin


def test_half_of_the_safety_prompts_are_to_be_refused_and_half_answered() -> None:
    prompts = trained_on("safety/dpo")
    edits = [Refuse()(prompt, "Take a hammer.") for prompt in prompts]
    assert sum(isinstance(edit, Worse) for edit in edits) == 50
    assert sum(isinstance(edit, str) for edit in edits) == 50


@pytest.mark.parametrize("held_out", ["prompts", "held_out"])
def test_the_answers_to_the_numeric_prompts_are_right(held_out: str) -> None:
    """Worked out anew from the two numbers of each question."""
    lines = (ROOT / "recipes" / "online-rl" / f"{held_out}.jsonl").read_text("utf-8").splitlines()
    for row in map(json.loads, lines):
        numbers = [int(word.strip(".?,")) for word in row["prompt"].split() if word[0].isdigit()]
        left, right = numbers
        assert int(row["answer"]) in {left + right, abs(left - right), left * right}
    assert len(lines) == len({json.loads(line)["prompt"] for line in lines})


def test_the_two_online_recipes_differ_in_the_method_alone() -> None:
    grpo, ppo = (
        load_config(ROOT / "recipes" / "online-rl" / f"{name}.yaml", [], as_=Config)
        for name in ("grpo", "ppo")
    )
    assert grpo.grpo is not None
    assert ppo.ppo is not None
    assert (grpo.prompts, grpo.evaluate) == (ppo.prompts, ppo.evaluate)
    assert (grpo.grpo.rewards, grpo.grpo.watch) == (ppo.ppo.rewards, ppo.ppo.watch)
    trainer = grpo.grpo.trainer
    assert trainer["max_steps"] == ppo.ppo.steps
    assert trainer["per_device_train_batch_size"] == ppo.ppo.rollouts
    assert trainer["max_completion_length"] == ppo.ppo.max_new_tokens
    assert trainer["temperature"] == ppo.ppo.temperature


def test_a_right_answer_in_a_sentence_is_right() -> None:
    prompt = trained_on("online-rl/grpo")[0]
    answer = Completion.from_text(f"The answer is {prompt.answer}.")
    assert NumericAnswer()([prompt], [answer]) == [1.0]
