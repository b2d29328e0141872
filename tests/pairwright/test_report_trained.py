"""The report of runs that fine-tune, train a reward model, or train a policy online."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dpo.online import OnlineStep
from dpo.step_log import StepRecord
from pairwright.report.write import write_report
from pairwright.road import Made
from pairwright.show import made_rows, stage_table
from schemas.records import Prompt
from tests.pairwright.fake_run import FakeRun, Page, make_prompt, report_of
from tests.pairwright.trained_run import (
    add_online,
    add_reward_model,
    add_rollouts,
    add_sft,
    gamed_steps,
    online_steps,
    ppo_steps,
)

Told = tuple[Page, dict[str, Any]]


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path / "run")


@pytest.fixture(scope="module")
def gamed(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """GRPO on prompts alone, whose reward was gamed."""
    fake = FakeRun(tmp_path_factory.mktemp("gamed") / "run")
    prompts = [make_prompt(f"question {number}") for number in range(12)]
    counts, reasons = {"read": 15, "prompts": 12}, {"DUPLICATE_PROMPT": 3}
    fake.write("prompts", Prompt, prompts, counts=counts, reasons=reasons)
    steps = gamed_steps(60)
    add_online(fake, "grpo", steps, num_generations=4, beta=0.0, loss_type="dapo")
    add_rollouts(fake, "grpo", steps, prompts)
    fake.evaluation()
    return report_of(fake.run)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Every stage there is: SFT, pairs, a reward model on them, PPO under it."""
    fake = FakeRun(tmp_path_factory.mktemp("whole") / "run")
    add_sft(fake)
    fake.curation()
    add_reward_model(fake)
    add_online(fake, "ppo", ppo_steps(32), value="shared", final_kl_coef=0.05)
    fake.evaluation()
    return report_of(fake.run)


def sections(page: Page) -> list[str]:
    known = ["training", "reward-model", "sft", "funnel", "generation", "people", "gate"]
    return [name for name in page.ids if name in known]


def test_run_without_pairs_shows_rollouts_and_no_pairs(gamed: Told) -> None:
    page, data = gamed
    assert data["missing"] == {}
    assert sections(page) == ["training", "funnel", "generation"]
    assert "From prompts to rollouts" in page.text
    assert "12 prompts gave" not in page.text
    assert "10 prompts gave 960 rollouts of 38,400 tokens" in page.text
    assert (data["funnel"]["rollouts"], data["funnel"]["pairs"]) == (960, None)
    assert data["funnel"]["adds_up"]
    assert data["training"] is None
    assert {link[1:] for link in page.links} <= set(page.ids)


def test_alarms_lead_the_warnings_and_temper_the_verdict(gamed: Told) -> None:
    page, data = gamed
    codes = [text.partition(":")[0] for text in data["warnings"]]
    assert codes == ["OVEROPTIMISED", "KL_HIGH", "ENTROPY_COLLAPSE"]
    assert data["verdict"]["outcome"] == "gamed"
    assert "The reward rose, but a reward that only watched fell." in page.text
    assert data["online"]["alarms"] == [text.removesuffix(".") for text in data["warnings"]]


def test_json_holds_the_windows_of_an_online_training(gamed: Told) -> None:
    online = gamed[1]["online"]
    assert (online["algorithm"], online["steps"], online["rollouts"]) == ("grpo", 60, 960)
    assert (online["tokens_sampled"], online["window"], online["stopped"]) == (38_400, 8, None)
    reward = online["figures"]["training reward"]
    assert reward["before"] < reward["after"]
    assert reward["low"] < reward["after"] - reward["before"] < reward["high"]
    assert online["figures"]["KL to the SFT model"]["unit"] == "nats a token"
    assert online["figures"]["watched distinct"]["high"] < 0
    assert {"part words", "part brevity", "reward on held-out prompts"} <= set(online["figures"])


def test_charts_of_grpo_hold_what_it_measured(gamed: Told) -> None:
    page, _ = gamed
    # Evaluation 5; frontier; reward, two watched, KL, length, entropy, cut off, groups, clipped.
    assert page.tags.count("svg") == 15
    for text in ("square-root scale", "Gao et al., 2023", "watched: distinct", "held-out prompts"):
        assert text in page.text
    assert "explained variance" not in page.text


def test_rollouts_of_the_first_and_the_last_step_can_be_read(gamed: Told) -> None:
    text = gamed[0].text
    assert "Step 1: question 3" in text
    assert "rollout 15 of step 60: the the" in text
    assert "rollout 1 of step 60" in text
    assert "rollout 0" not in text  # it was not judged
    assert "watched distinct 0.02" in text


def test_every_stage_of_a_long_road_has_its_section(whole: Told) -> None:
    page, data = whole
    assert (data["missing"], data["warnings"]) == ({}, [])
    assert sections(page) == ["training", "reward-model", "sft", "funnel", "generation", "gate"]
    assert data["funnel"]["adds_up"]
    assert data["verdict"]["outcome"] == "better"
    for text in (
        "6 NO_ASSISTANT_TURN",
        "244 conversations gave 230 to train on, 14 held out",
        "1 NOT_JUDGED",
        "2 PROMPT_TOO_LONG",
        "All lines add up.",
        "Nothing but the training reward was measured",
    ):
        assert text in page.text


def test_fine_tuning_tells_its_tokens_and_its_held_out_loss(whole: Told) -> None:
    page, data = whole
    assert "31,000 of 52,000 (60%)" in page.text
    assert "2.310 before, 1.620 after" in page.text
    assert data["sft"]["held_out"]["loss_after"] == 1.62
    assert (data["sft"]["steps"], data["sft"]["epochs"]) == (60, 2.0)


def test_reward_model_stands_between_floor_and_ceiling(whole: Told) -> None:
    page, data = whole
    held_out = data["reward_model"]["held_out"]
    assert held_out["floor"]["share"] < held_out["accuracy"]["share"]
    assert held_out["accuracy"]["share"] < held_out["ceiling"]["accuracy"]
    # Agreement 0.82 gives annotators who are right in 0.9, and a majority of three in 0.972.
    assert "would agree with these labels in 97%" in page.text
    assert "how sure the model is of its preference" in page.text
    assert sum(item["n"] for item in held_out["calibration"]) == 119


def test_same_run_gives_the_same_bytes_and_no_clock(fake: FakeRun, tmp_path: Path) -> None:
    fake.curation(through="prompts")
    add_online(fake, "ppo", ppo_steps(12))
    add_sft(fake)
    add_reward_model(fake)
    one, two = write_report(fake.run, tmp_path / "one"), write_report(fake.run, tmp_path / "two")
    assert one.html.read_bytes() == two.html.read_bytes()
    assert one.json.read_bytes() == two.json.read_bytes()
    assert "seconds" not in one.json.read_text()


def test_a_rule_that_ended_the_training_is_told(fake: FakeRun) -> None:
    fake.curation(through="prompts")
    add_online(fake, "ppo", online_steps(8, kl=lambda n, rng: 0.3 * n))
    page, data = report_of(fake.run)
    assert (
        "A rule ended the training: step 8: KL to the SFT model is 2.1 nats a token, above "
        "watch.stop_kl = 2." in data["warnings"]
    )
    assert "8, then ended by a rule" in page.text


def test_rollouts_cut_off_at_the_end_are_flagged(fake: FakeRun) -> None:
    fake.curation(through="prompts")
    add_online(fake, "grpo", online_steps(16, unfinished=lambda n, rng: 0.5 if n > 7 else 0.0))
    _, data = report_of(fake.run)
    assert data["warnings"] == [
        "64 of 128 rollouts of the last 8 steps (50%) were cut off at the token limit."
    ]
    assert data["online"]["unfinished"] == 64


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_training_of_hardly_any_step_is_reported(fake: FakeRun, count: int) -> None:
    fake.curation(through="prompts")
    steps = online_steps(count, reward=lambda n, rng: None)
    add_online(fake, "grpo", steps)
    page, data = report_of(fake.run)
    assert data["online"]["steps"] == count
    assert data["online"]["figures"] == {}
    assert list(data["missing"]) == ["evaluate"]
    assert "Not measured yet." in page.text


def test_unfinished_online_run_misses_no_pairs(fake: FakeRun) -> None:
    fake.curation(through="prompts")
    fake.run.stage("grpo").begin(config={}, inputs={}, parts=1)
    page, data = report_of(fake.run)
    assert data["missing"] == {
        "grpo": "it was begun and is not finished",
        "evaluate": "no policy was compared with the SFT model",
    }
    assert data["online"] is None
    assert "No policy has been compared" in page.text


def test_ill_health_of_fine_tuning_and_reward_model_is_flagged(fake: FakeRun) -> None:
    fake.curation()
    add_sft(
        fake,
        health=["TRUNCATED: 3 rows"],
        held_out={"tokens": 9, "loss_before": 1.5, "loss_after": 1.6},
    )
    add_reward_model(fake, health=["LEAK: held-out accuracy is too high"])
    fake.training()
    _, data = report_of(fake.run)
    assert data["warnings"] == [
        "SFT: TRUNCATED: 3 rows.",
        "SFT did not lower the loss on held-out conversations (1.500 before, 1.600 after).",
        "Reward model: LEAK: held-out accuracy is too high.",
    ]


def test_reward_model_without_held_out_pairs_is_reported(fake: FakeRun) -> None:
    fake.curation()
    add_reward_model(fake, pairs=0)
    page, data = report_of(fake.run)
    assert data["reward_model"]["held_out"] is None
    assert "no held-out pair was scored" in page.text


def test_account_of_another_version_is_an_error(fake: FakeRun) -> None:
    fake.write("reward", StepRecord, counts={}, facts={"held_out": {"accuracy": 0.7}, "health": []})
    with pytest.raises(ValueError, match="run reward again"):
        write_report(fake.run, fake.run.path)


def test_names_of_rewards_are_shown_literally(fake: FakeRun) -> None:
    fake.curation(through="prompts")
    name = "<b>$x_1$</b>\u202e"
    steps = online_steps(
        20,
        held_out_rewards=lambda n, rng: {name: rng.random()},
        components=lambda n, rng: {name: 1.0, "other": 0.0},
    )
    add_online(fake, "ppo", steps, rewards={name: 1.0})
    page, data = report_of(fake.run)
    assert "watched: <b>$x_1$</b>⟨U+202E⟩" in page.text
    assert f"watched {name}" in data["online"]["figures"]


def test_dpo_run_says_nothing_of_other_trainings(fake: FakeRun) -> None:
    fake.curation()
    fake.training()
    page, data = report_of(fake.run)
    assert sections(page) == ["training", "funnel", "generation", "gate"]
    assert (data["online"], data["sft"], data["reward_model"]) == (None, None, None)
    assert set(data["missing"]) == {"evaluate"}


def test_steps_are_read_as_they_were_stored(fake: FakeRun) -> None:
    steps = gamed_steps(3)
    add_online(fake, "grpo", steps)
    assert list(fake.run.stage("grpo").read(OnlineStep)) == steps


def test_show_names_what_a_training_found_amiss(fake: FakeRun) -> None:
    add_online(fake, "grpo", gamed_steps(60), stopped="step 60: KL is high")
    manifest = fake.run.stage("grpo").manifest()
    (row,) = made_rows([Made("grpo", "made", manifest)])
    assert [note.partition(":")[0] for note in row.health] == [
        "OVEROPTIMISED",
        "KL_HIGH",
        "ENTROPY_COLLAPSE",
        "STOPPED",
    ]
    console = Console(width=200, record=True, file=StringIO())
    console.print(stage_table([row]))
    assert "OVEROPTIMISED" in console.export_text()
