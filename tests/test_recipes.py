"""Each recipe is one that runs, and the page of figures is what the kept reports say."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.kill_drill import build_brief_model
from curation.rewards.weighted import build_reward
from pairwright.cli import main
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
    from curation.prompts import load_prompts

    config = load_config(file, [], as_=Config)
    if any(not Path(source.path).is_file() for source in sources(config)):
        pytest.skip(f"prompts of others are read from {SHARED}")
    trained = {prompt.group for prompt in load_prompts(config.prompts).prompts}
    held_out = {prompt.group for prompt in load_prompts(config.evaluate.prompts).prompts}
    assert trained
    assert held_out
    assert not trained & held_out


@pytest.fixture(scope="module")
def brief_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose answers end by themselves."""
    import torch

    torch.set_num_threads(1)
    return build_brief_model(tmp_path_factory.mktemp("brief") / "model")


OWN = "evaluate.prompts=[{{path: recipes/{goal}/{file}.jsonl, limit: 14, tag_columns: {columns}}}]"
PAIRS = [
    "generate.n=8",
    "generate.temperature=1",
    "generate.min_p=0",
    "generate.max_new_tokens=24",
    "validate.min_margin=0",
    "validate.max_quarantined=1",
    "validate.max_length=1024",
    "dpo.trainer.num_train_epochs=1",
]
QUICK = {
    "identity-dpo": [OWN.format(goal="identity", file="held_out", columns=[]), *PAIRS],
    # The tiny model's answers are too short for the detector of languages.
    "multilingual-dpo": [
        OWN.format(goal="multilingual", file="held_out", columns=[]),
        *PAIRS,
        "rank.abstain=renormalise",
    ],
    "instruction-following-dpo": [
        OWN.format(goal="demo", file="held_out", columns=[]),
        *PAIRS,
    ],
    "safety-dpo": [OWN.format(goal="safety", file="prompts", columns=["label"]), *PAIRS],
    "online-rl-grpo": [
        OWN.format(goal="online-rl", file="held_out", columns=[]),
        "grpo.trainer.max_steps=1",
        "grpo.trainer.max_completion_length=8",
    ],
}
"""One recipe of each goal, and what makes it short and independent of other people's prompts."""


@pytest.mark.parametrize("recipe", QUICK)
def test_a_recipe_goes_its_whole_road(recipe: str, brief_model: Path, tmp_path: Path) -> None:
    (file,) = (file for file in RECIPES if named(file) == recipe)
    run = ["--run", str(tmp_path / "run"), "--limit", "8"]
    model = [f"model.path={brief_model}", "model.device=cpu"]
    short = ["evaluate.n=1", "evaluate.max_new_tokens=8", "evaluate.resamples=100"]
    assert main(["run", str(file), *run, *model, *short, *QUICK[recipe]]) == 0
    assert (tmp_path / "run" / "report.json").is_file()


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


@pytest.mark.skipif(not figures.PAGE.is_file(), reason="no figures are kept yet")
def test_the_page_of_figures_is_what_the_kept_reports_say() -> None:
    assert figures.PAGE.read_text("utf-8") == figures.page()


def estimate(low: float | None, high: float | None) -> dict[str, Any]:
    return {"mean": 0.1, "low": low, "high": high}


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
