"""What each recipe asks and measures holds, and the page of figures is what the reports say."""

import json
from pathlib import Path
from typing import Any

import pytest

from curation.edits import Worse
from curation.prompts import load_prompts
from curation.rewards.answers import NumericAnswer
from curation.rewards.instructions import VerifiableInstructions
from curation.rewards.weighted import build_reward
from curation.safety import Refuse
from pairwright.plugins import check_all
from recipes import figures
from schemas.config_files import load_config
from schemas.configs import Config, PromptSource
from schemas.records import Completion, Message, Prompt

ROOT = figures.ROOT
RECIPES = sorted(ROOT.glob("recipes/*/*.yaml"))
SHARED = ROOT.parent / "shared" / "data"


def named(file: Path) -> str:
    return f"{file.parent.name}-{file.stem}"


def sources(config: Config) -> list[PromptSource]:
    return [*config.prompts, *config.evaluate.prompts]


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("file", RECIPES, ids=named)
def test_a_recipe_is_read_and_its_plug_ins_and_prompt_files_are_there(file: Path) -> None:
    config = load_config(file, [], as_=Config)
    check_all(config)
    own = [source.path for source in sources(config) if not source.path.startswith("../shared/")]
    assert own
    assert [path for path in own if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("file", RECIPES, ids=named)
def test_a_recipe_never_trains_on_a_prompt_that_it_is_measured_on(file: Path) -> None:
    config = load_config(file, [], as_=Config)
    if any(not Path(source.path).is_file() for source in sources(config)):
        pytest.skip(f"prompts of others are read from {SHARED}")
    trained = {prompt.group for prompt in load_prompts(config.prompts).prompts}
    held_out = {prompt.group for prompt in load_prompts(config.evaluate.prompts).prompts}
    assert trained
    assert held_out
    assert not trained & held_out


def trained_on(recipe: str) -> list[Prompt]:
    config = load_config(ROOT / "recipes" / f"{recipe}.yaml", [], as_=Config)
    return load_prompts(config.prompts).prompts


def test_the_multilingual_reward_prefers_no_parrot_to_an_answer_in_another_language() -> None:
    config = load_config(ROOT / "recipes" / "multilingual" / "dpo.yaml", [], as_=Config)
    assert config.rank is not None
    question = "Was kann ich heute Abend mit Kartoffeln kochen?"
    asked = Prompt(messages=(Message(role="user", content=question),), tags=("lang:de",))
    answers = (
        "Man kann sie heute im Ofen backen und mit Quark servieren.",
        "You could bake them in the oven tonight.",
        question,
        "Das ist gut. Das ist gut. Das ist gut. Das ist gut. Das ist gut.",
        "Kartoffeln",
    )
    reward = build_reward(config.rank.rewards, config.rank.abstain)
    scores = reward([asked] * 5, [Completion.from_text(answer) for answer in answers])
    # Of the repetition's 13 runs of three words the first 3 are its own.
    assert scores == pytest.approx([1.0, 0.5, 0.5, 0.5 + 0.5 * 3 / 13, None])
    assert config.gate.min_margin > 0.5 * 3 / 13


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


@pytest.mark.skipif(not figures.PAGE.is_file(), reason="no figures are kept yet")
def test_the_page_of_figures_is_what_the_kept_reports_say() -> None:
    assert figures.PAGE.read_text("utf-8") == figures.page()


def estimate(low: float | None, high: float | None) -> dict[str, Any]:
    return {"mean": 0.1, "low": low, "high": high}


def test_a_kind_that_clearly_lost_is_told_beside_the_gain() -> None:
    def evaluation(n: int = 40, **highs: float | None) -> dict[str, Any]:
        def gain(high: float | None) -> dict[str, Any]:
            return {"low": None if high is None else high - 0.2, "high": high, "n": n}

        return {"by_kind": [{"kind": kind, "gain": gain(high)} for kind, high in highs.items()]}

    seeds = [evaluation(other=-0.03, name=0.9), evaluation(other=-0.01, name=None)]
    assert figures.fallen(seeds) == "; a clear loss in `other`"
    assert figures.fallen([evaluation(other=0.0)]) == ""
    assert figures.fallen([evaluation(n=3, other=-0.03)]) == "", "too few prompts to tell"


def test_a_report_that_doubts_its_gain_is_quoted() -> None:
    plain = {"verdict": {"outcome": "better", "headline": "The policy got better."}}
    gamed = {"verdict": {"outcome": "gamed", "headline": "But a watched reward fell."}}
    assert figures.doubted([plain]) == ""
    assert figures.doubted([gamed, plain, gamed]) == (
        "; the report says “But a watched reward fell”"
    )


def test_a_gain_that_is_none_is_said_in_words() -> None:
    clear, none, worse = estimate(0.01, 0.2), estimate(-0.1, 0.3), estimate(-0.3, -0.1)
    unknown = estimate(None, None)
    assert figures.in_words({0: clear}) == "a clear gain in the one seed"
    assert figures.in_words({0: clear, 1: clear}) == "a clear gain in all 2 seeds"
    assert figures.in_words({0: none, 1: clear, 2: worse}) == (
        "a clear gain in 1 of 3 seeds (1); no clear gain in 1 of 3 seeds (0): the interval "
        "includes zero; a clear loss in 1 of 3 seeds (2)"
    )
    assert figures.in_words({0: unknown}).startswith("no clear gain")


def test_the_comment_of_a_recipe_is_what_the_page_says_of_it(tmp_path: Path) -> None:
    file = tmp_path / "dpo.yaml"
    file.write_text(
        "# What is taught:\n# this.\n#\n# And why.\n#\n# How to read it: so.\nrun: runs/a\n# no\n"
    )
    assert figures.comment(file) == figures.Comment(
        taught=["What is taught: this.", "And why."], how_to_read=["How to read it: so."]
    )


def test_a_kept_file_of_another_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(ValueError, match=r"'report\.json' is no kept report"):
        figures.read_recipes(tmp_path)
