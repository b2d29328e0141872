"""Rounds on a tiny model: what each starts from, when they end, what makes them stale."""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from curation.diversity import distinct
from curation.models import load_policy
from dpo.statistics import Estimate
from dpo.step_log import StepRecord
from dpo.summary import EvaluationRecord
from pairwright.cli import main
from pairwright.plan import Plan
from pairwright.progress import Silent
from pairwright.road import make_stage
from pairwright.rounds.figures import RoundFigures, find_rounds, goes_on
from pairwright.rounds.loop import Rounds, open_rounds, round_seed, round_states, stored_rounds
from pairwright.rounds.page import render
from pairwright.stages.earlier import answers_of_start
from schemas.configs import Config
from schemas.records import Candidate, PreferencePair, Prompt
from schemas.run_folder import RunFolder
from tests.pairwright.conftest import Command
from tests.pairwright.fake_run import Page
from tests.pairwright.rounds_inputs import HELD_OUT, write_rounds


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    torch.set_num_threads(1)
    return write_rounds(tmp_path_factory.mktemp("rounds"))


@pytest.fixture(scope="module")
def made(config: Path) -> Path:
    """The folder of two rounds; not to be written to."""
    assert main(["rounds", str(config)]) == 0
    return config.parent / "rounds"


@pytest.fixture
def copy(config: Path, made: Path, tmp_path: Path) -> Rounds:
    """Two rounds of one's own."""
    folder = Path(shutil.copytree(made, tmp_path / "rounds"))
    return open_rounds(config, (), run=folder, limit=None)


def opened(config: Path, *overrides: str, run: Path | None = None) -> Rounds:
    return open_rounds(config, overrides, run=run, limit=None)


def facts(run: RunFolder, stage: str) -> dict[str, Any]:
    found = run.stage(stage).completed().facts
    assert isinstance(found, dict)
    return found


def records(run: RunFolder) -> list[EvaluationRecord]:
    return list(run.stage("evaluate").read(EvaluationRecord))


def states(rounds: Rounds) -> list[str]:
    return [item.state for item in round_states(rounds)]


def test_each_round_starts_from_the_policy_of_the_round_before(made: Path) -> None:
    first, second = RunFolder(made / "round-1"), RunFolder(made / "round-2")
    trained = facts(first, "dpo")
    again = facts(second, "dpo")
    assert second.stage("generate").completed().inputs["weights"] == trained["weights"]
    assert again["start_weights"] == trained["weights"] != trained["start_weights"]
    assert again["reference"]["weights"] == trained["weights"], "the reference is the round before"
    assert again["weights"] != trained["weights"]
    step = next(iter(second.stage("dpo").read(StepRecord)))
    assert step.rewards_margin == pytest.approx(0, abs=1e-6), "policy and reference begin alike"
    assert step.loss == pytest.approx(math.log(2), abs=1e-6)


def test_a_round_samples_new_answers_to_the_same_prompts(made: Path) -> None:
    first, second = RunFolder(made / "round-1"), RunFolder(made / "round-2")
    asked = [[prompt.id for prompt in run.stage("prompts").read(Prompt)] for run in (first, second)]
    assert asked[0] == asked[1]
    origins = [
        {candidate.origin.seed for candidate in run.stage("generate").read(Candidate)}
        for run in (first, second)
    ]
    assert origins == [{0}, {round_seed(0, 2)}]
    assert round_seed(0, 2) != round_seed(0, 3)


def test_the_base_of_a_round_answers_as_the_policy_of_the_round_before(made: Path) -> None:
    first, second = records(RunFolder(made / "round-1")), records(RunFolder(made / "round-2"))
    for before, after in zip(first, second, strict=True):
        assert before.prompt == after.prompt
        assert [sample.candidate for sample in before.policy] == [
            sample.candidate for sample in after.base
        ]
        assert [sample.reward for sample in before.policy] == [
            sample.reward for sample in after.base
        ]


def test_answers_taken_over_are_those_that_sampling_gives(copy: Rounds) -> None:
    stage = copy.run(2).stage("evaluate")
    (taken_over,) = stage.files()
    before = taken_over.read_bytes()
    shutil.rmtree(copy.run(1).stage("evaluate").folder)
    shutil.rmtree(stage.folder)

    make_stage(copy.plan(2), "evaluate", Silent())

    assert taken_over.read_bytes() == before


def test_answers_are_taken_over_only_where_all_that_they_depend_on_is_equal(
    config: Path, made: Path
) -> None:
    plan = stored_rounds(made).plan(2)
    base = load_policy(plan.model)
    asked = [record.prompt for record in records(RunFolder(made / "round-1"))]
    known = answers_of_start(plan, base, asked)
    assert known is not None
    assert list(known) == [prompt.id for prompt in asked]
    judged_anew = opened(config, "evaluate.resamples=200", run=made).plan(2)
    assert answers_of_start(judged_anew, base, asked) == known
    for changed in (
        "seed=1",
        "model.dtype=bfloat16",
        "evaluate.n=1",
        "evaluate.temperature=0.5",
        "evaluate.max_new_tokens=39",
        "evaluate.batch_size=8",
    ):
        assert answers_of_start(opened(config, changed, run=made).plan(2), base, asked) is None
    assert answers_of_start(plan, base, asked[1:]) is None
    assert answers_of_start(plan, base._replace(weights="others"), asked) is None
    assert answers_of_start(stored_rounds(made).plan(1), base, asked) is None


def test_kl_to_the_first_model_is_measured_in_every_round(made: Path) -> None:
    found = find_rounds(stored_rounds(made))
    one, two = found.rounds
    assert one.kl_to_first == one.kl_to_before
    assert two.kl_to_first is not None
    assert two.kl_to_before is not None
    assert two.kl_to_first.mean != two.kl_to_before.mean
    assert two.kl_to_first.estimator.startswith("KL(policy || origin)")
    samples = [
        sample for record in records(RunFolder(made / "round-2")) for sample in record.policy
    ]
    tokens = sum(sample.tokens * sample.candidate.count for sample in samples)
    summed = sum(
        (sample.kl_to_origin or 0) * sample.tokens * sample.candidate.count for sample in samples
    )
    assert two.kl_to_first.mean == pytest.approx(summed / tokens)


def test_no_held_out_prompt_is_trained_on_in_any_round(made: Path) -> None:
    held_out = {record.prompt.id for record in records(RunFolder(made / "round-1"))}
    assert len(held_out) == HELD_OUT
    for name in ("round-1", "round-2"):
        run = RunFolder(made / name)
        pairs = list(run.stage("validate").read(PreferencePair))
        assert pairs
        assert held_out.isdisjoint(pair.prompt.id for pair in pairs)
        assert {record.prompt.id for record in records(run)} == held_out


def test_gain_since_the_start_is_paired_with_the_first_model(made: Path) -> None:
    first, second = records(RunFolder(made / "round-1")), records(RunFolder(made / "round-2"))
    by_hand = [
        (after.reward_after or 0) - (before.reward_before or 0)
        for before, after in zip(first, second, strict=True)
    ]
    found = find_rounds(stored_rounds(made)).rounds[1]
    assert found.since_first is not None
    assert found.gain is not None
    assert found.since_first.mean == pytest.approx(sum(by_hand) / len(by_hand))
    one = find_rounds(stored_rounds(made)).rounds[0]
    assert one.gain is not None
    assert found.since_first.mean == pytest.approx((one.gain.mean or 0) + (found.gain.mean or 0))


def test_distinct_2_of_a_round_is_that_of_its_candidates(made: Path) -> None:
    groups: dict[str, list[Sequence[int]]] = {}
    for item in RunFolder(made / "round-2").stage("generate").read(Candidate):
        ids = item.completion.token_ids or ()
        groups.setdefault(item.prompt_id, []).extend([ids] * item.count)
    by_prompt = [distinct(answers, 2) for answers in groups.values()]
    known = [value for value in by_prompt if value is not None]
    assert find_rounds(stored_rounds(made)).rounds[1].distinct_2 == pytest.approx(
        sum(known) / len(known)
    )


def test_rounds_until_no_gain_end_after_a_round_without_a_clear_gain() -> None:
    config = Config.model_validate(
        {"run": "r", "model": {"path": "m"}, "prompts": {"path": "p"}, "rounds": {"count": 5}}
    )
    until = Rounds(
        config.model_copy(
            update={"rounds": config.rounds.model_copy(update={"until_no_gain": True})}
        )
    )
    clear, unclear, worse, unknown = (
        RoundFigures(number=1, state="complete", why="", policy="p", gain=gain)
        for gain in (
            Estimate(mean=0.2, low=0.1, high=0.3, n=9),
            Estimate(mean=0.2, low=-0.1, high=0.3, n=9),
            Estimate(mean=-0.2, low=-0.3, high=-0.1, n=9),
            Estimate(mean=0.2, n=1),
        )
    )  # fmt: skip
    assert goes_on(until, clear)
    assert not any(goes_on(until, figures) for figures in (unclear, worse, unknown))
    assert all(goes_on(Rounds(config), figures) for figures in (clear, unclear, worse, unknown))


def test_a_round_without_a_gain_is_the_last_where_the_config_says_so(
    config: Path, copy: Rounds, pairwright: Command
) -> None:
    done = pairwright(
        "rounds", config, "--run", copy.folder, "--json", "rounds.until_no_gain=true",
        "rounds.count=3",
    )  # fmt: skip

    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["stopped"] is True
    gains = [row["gain"] for row in found["rounds"]]
    assert len(gains) == 2
    assert gains[0]["low"] > 0, "the first gained, so a second followed"
    assert gains[1]["low"] <= 0, "the second did not, so it is the last"
    assert not copy.run(3).path.exists()
    assert "round 2 gained nothing clear, so no further round is made" in done.err
    again = pairwright(
        "rounds", config, "--run", copy.folder, "--json", "--dry-run",
        "rounds.until_no_gain=true", "rounds.count=3",
    )  # fmt: skip
    assert json.loads(again.out)["next"] == 2, "no third round is promised"


def test_a_changed_config_makes_every_round_after_it_stale(config: Path, copy: Rounds) -> None:
    assert states(copy) == ["complete", "complete"]
    changed = opened(config, "dpo.trainer.beta=0.3", run=copy.folder)
    assert states(changed) == ["stale", "stale"]

    make_stage(changed.plan(1), "dpo", Silent())
    make_stage(changed.plan(1), "evaluate", Silent())

    first, second = round_states(changed)
    assert first.state == "complete"
    assert (second.state, second.why) == ("stale", "round 1 trained another policy")
    assert opened(config, run=copy.folder).plan(2).status("generate", outside=True).state == "stale"


def test_a_round_that_the_gate_stopped_says_why_it_went_no_further(
    config: Path, copy: Rounds
) -> None:
    rounds = opened(config, "validate.max_quarantined=0", run=copy.folder)
    kept_out = rounds.run(1).stage("validate").completed().counts["quarantined"]
    assert kept_out > 0
    shutil.rmtree(rounds.run(1).stage("export").folder)
    first = next(iter(round_states(rounds)))
    assert first.state == "partial"
    assert first.why.startswith(f"{kept_out} of ")
    assert "more than the share validate.max_quarantined=0.0 allows" in first.why


def test_fewer_rounds_leave_out_the_later_ones_and_say_so(copy: Rounds, config: Path) -> None:
    found = find_rounds(opened(config, "rounds.count=1", run=copy.folder))
    assert [row.number for row in found.rounds] == [1]
    assert "Round 2 is on disk and no part of this report, as rounds.count is 1." in found.warnings
    assert copy.run(2).path.exists()


def test_rounds_that_were_made_are_reused(config: Path, copy: Rounds, pairwright: Command) -> None:
    report = copy.folder / "report.json"
    before = report.read_bytes()
    done = pairwright("rounds", config, "--run", copy.folder)
    assert done.code == 0, done.err
    assert done.err.count("unchanged, reused") == 18
    assert "begins" not in done.err
    assert report.read_bytes() == before


def test_whole_weights_make_the_policy_the_next_model(config: Path) -> None:
    rounds = opened(config, "dpo.lora=null")
    model = rounds.plan(2).model
    assert model.path == str((rounds.folder / "round-1" / "dpo" / "policy").absolute())
    assert model.adapter is None
    assert rounds.plan(2).config.evaluate.origin == rounds.plan(1).model


def test_only_the_first_round_fine_tunes(config: Path, tmp_path: Path) -> None:
    rows = tmp_path / "sft.jsonl"
    rows.write_text(json.dumps({"prompt": "Hello", "completion": "Hello to you."}) + "\n")
    rounds = opened(config, f"sft.data={{path: {rows}}}", run=tmp_path / "run")
    first, second = rounds.plan(1), rounds.plan(2)
    tuned = str(tmp_path / "run" / "round-1" / "sft" / "policy")
    assert "sft" in first.stages
    assert "sft" not in second.stages
    assert second.model.path == tuned
    assert second.model.adapter == str(tmp_path / "run" / "round-1" / "dpo" / "policy")
    assert second.config.evaluate.origin == first.model


def test_people_are_asked_in_a_dataset_of_each_round(config: Path, tmp_path: Path) -> None:
    workspaces = "label.workspaces={team: {annotators: [ann, ben, cem]}}"
    rounds = opened(config, "label.dataset=Prefs", workspaces, run=tmp_path / "run")
    titles = [
        plan.config.label.dataset
        for plan in map(rounds.plan, (1, 2, 3))
        if plan.config.label is not None
    ]
    assert titles == ["Prefs", "Prefs round 2", "Prefs round 3"]


def test_a_dry_run_says_what_the_next_round_does_and_writes_nothing(
    config: Path, tmp_path: Path, pairwright: Command
) -> None:
    done = pairwright("rounds", config, "--run", tmp_path / "none", "--dry-run", "--json")
    plan = json.loads(done.out)
    assert (plan["rounds"], plan["next"]) == (2, 1)
    assert [step["action"] for step in plan["plan"]] == ["make"] * 9
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("grpo={}", "a section 'grpo', which samples from the newest policy at every step"),
        ("ppo={}", "a section 'ppo', which samples from the newest policy at every step"),
        ("reward={}", "a section 'reward', and rounds train policies alone"),
        (
            "generate.endpoint={base_url: 'http://127.0.0.1:1/v1', model: m}",
            "a server goes on answering with the weights",
        ),
        ("evaluate.policy=somewhere", "evaluate.policy is set, but rounds choose it themselves"),
        ("evaluate.origin={path: x}", "evaluate.origin is set, but rounds choose it themselves"),
        ("evaluate.prompts=[]", "evaluate.prompts is empty, and rounds are to be compared"),
        ("rank=null", "nothing says which answers are better"),
        ("dpo.trainer.betta=1", "betta"),
        ("rounds.cuont=2", "unknown key 'cuont'; did you mean 'count'?"),
        ("rounds.count=0", "rounds.count"),
    ],
)
def test_what_would_stop_a_round_later_is_refused_at_once(
    config: Path, tmp_path: Path, pairwright: Command, override: str, said: str
) -> None:
    done = pairwright("rounds", config, "--run", tmp_path / "none", override)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "none").exists()


def test_held_out_prompts_that_a_round_asks_are_refused(config: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text(
        json.dumps({"prompt": "describe  the HOUSE, number 3."})
        + "\n"
        + json.dumps({"prompt": "Something else."})
        + "\n"
    )
    with pytest.raises(ValueError, match=r"1 of 2 prompts of evaluate\.prompts ask the same"):
        opened(config, f"evaluate.prompts=[{{path: {held_out}}}]", run=tmp_path / "none")


def test_a_folder_with_a_run_of_its_own_takes_no_rounds(config: Path, made: Path) -> None:
    with pytest.raises(ValueError, match="round-1' holds a run of its own"):
        opened(config, run=made / "round-1")


@pytest.mark.parametrize("verb", ["run", "generate"])
def test_a_folder_of_rounds_takes_no_run(
    config: Path, made: Path, pairwright: Command, verb: str
) -> None:
    done = pairwright(verb, config, "--run", made)
    assert done.code == 2
    assert f"'{made}' holds rounds, each a run of its own: name one of them" in done.err
    assert not (made / "prompts").exists()


def test_without_the_evaluation_of_the_first_round_nothing_is_said_of_the_start(
    copy: Rounds,
) -> None:
    shutil.rmtree(copy.run(1).stage("evaluate").folder)
    found = find_rounds(copy)
    assert (found.first, found.first_tokens, found.prompts) == (None, None, 0)
    assert found.verdict.headline == "Not measured yet."
    assert "Not measured yet." in Page(render(found)).text


def test_show_and_report_know_a_folder_of_rounds(
    made: Path, config: Path, pairwright: Command
) -> None:
    shown = json.loads(pairwright("show", made, "--json").out)
    assert [row["state"] for row in shown["rounds"]] == ["complete", "complete"]
    told = pairwright("show", made).out
    assert "KL to first" in told
    assert "distinct-2" in told
    written = json.loads(pairwright("report", made, "--json").out)
    assert json.loads(Path(written["json"]).read_text())["rounds"] == shown["rounds"]


def test_the_page_says_what_the_rounds_came_to(made: Path) -> None:
    page = Page((made / "report.html").read_text(encoding="utf-8"))
    found = find_rounds(stored_rounds(made))
    assert found.verdict.headline in page.text
    assert "Round 1 gained, round 2 did not clearly gain." in page.text
    assert page.tags.count("svg") == 6, "nobody was asked, so nothing is drawn of people"
    links = [link for link in page.links if not link.startswith("#")]
    assert links == ["round-1/report.html", "round-2/report.html"]
    assert "script" not in page.tags


def test_a_round_is_a_run_like_any_other(made: Path, pairwright: Command) -> None:
    stages = json.loads(pairwright("show", made / "round-2", "--json").out)["stages"]
    assert {stage["state"] for stage in stages} == {"complete"}
    pair = next(RunFolder(made / "round-2").stage("validate").read(PreferencePair))
    traced = pairwright("trace", made / "round-2", pair.id)
    assert traced.code == 0, traced.err
    kept = yaml.safe_load((made / "round-2" / "config.yaml").read_text())
    assert kept["model"]["adapter"] == str(made / "round-1" / "dpo" / "policy")
    assert Plan(Config.model_validate(kept), RunFolder(made / "round-2")).stages


def test_the_config_of_rounds_shows_the_rounds_as_their_folder_does(
    made: Path, pairwright: Command
) -> None:
    of_folder = json.loads(pairwright("show", made, "--json").out)
    assert json.loads(pairwright("show", made / "config.yaml", "--json").out) == of_folder
    assert [row["number"] for row in of_folder["rounds"]] == [1, 2]


@pytest.mark.parametrize(
    "command",
    [
        ("trace", "", "x"),
        ("forget", "", "--prompt", "x"),
        ("chat", ""),
        ("chat", "config.yaml"),
        ("agreement", "config.yaml"),
    ],
)
def test_what_is_asked_of_one_run_names_the_round(
    made: Path, pairwright: Command, command: tuple[str, ...]
) -> None:
    verb, target, *others = command
    done = pairwright(verb, made / target, *others)
    assert done.code == 2
    assert f"'{made}' holds rounds, each a run of its own: name one of them" in done.err
