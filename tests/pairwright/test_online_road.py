"""Roads with fine-tuning, a reward model, PPO and GRPO, from the command line to the files."""

import io
import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from curation.models import weights_hash
from curation.rewards.rules import LengthReward
from dpo.online import OnlineStep
from dpo.rollouts import OnlineLog
from dpo.summary import EvaluationRecord
from pairwright.cli import main
from pairwright.plan import Plan
from schemas.config_files import load_config
from schemas.configs import Config, ModelConfig
from schemas.records import Completion, Prompt
from schemas.run_folder import RunFolder
from tests.pairwright.conftest import Command
from tests.pairwright.online_runs import write_online

PPO_ROAD = [
    "prompts",
    "sft",
    "generate",
    "rank",
    "aggregate",
    "pair",
    "validate",
    "export",
    "reward",
    "ppo",
    "evaluate",
]
GRPO_ROAD = ["prompts", "grpo", "evaluate"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ppo.yaml and grpo.yaml, whose runs have been made."""
    import torch

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("online")
    write_online(folder)
    for name in ("ppo", "grpo"):
        assert main(["run", str(folder / f"{name}.yaml")]) == 0
    return folder


@pytest.fixture
def grpo_copy(folder: Path, tmp_path: Path) -> Path:
    """A GRPO run of one's own."""
    return Path(shutil.copytree(folder / "grpo", tmp_path / "runs" / "grpo"))


def actions(told: str) -> dict[str, str]:
    return {step["stage"]: step["action"] for step in json.loads(told)["plan"]}


@pytest.mark.parametrize(("name", "road"), [("ppo", PPO_ROAD), ("grpo", GRPO_ROAD)])
def test_the_road_is_made_whole_and_then_reused(
    folder: Path, pairwright: Command, name: str, road: list[str]
) -> None:
    stages = RunFolder(folder / name).stages()
    assert set(stages) == set(road)
    assert all(stage.completed() for stage in stages.values())
    assert (folder / name / "report.html").stat().st_size > 0

    again = pairwright("run", folder / f"{name}.yaml")

    assert again.code == 0, again.err
    reused = [line for line in again.err.splitlines() if line.endswith("unchanged, reused")]
    assert reused == [f"{stage}: unchanged, reused" for stage in road]


def test_later_stages_start_from_the_fine_tuned_model(folder: Path) -> None:
    run = RunFolder(folder / "ppo")
    made = {name: stage.completed() for name, stage in run.stages().items()}
    tuned = weights_hash(ModelConfig(path=str(folder / "ppo" / "sft" / "policy")))

    assert made["sft"].inputs["weights"] != tuned
    for stage in ("generate", "reward", "ppo", "evaluate"):
        assert made[stage].inputs["weights"] == tuned
    assert made["ppo"].facts["start_weights"] == made["reward"].facts["start_weights"] == tuned
    assert made["sft"].counts["quarantined"] == 1 == sum(made["sft"].reasons.values())
    counts = made["sft"].counts
    assert counts["read"] == counts["trained"] + counts["held_out"] + counts["quarantined"]


def test_the_trained_reward_model_is_what_ppo_and_its_evaluation_ask(folder: Path) -> None:
    run = RunFolder(folder / "ppo")
    reward = run.stage("reward").completed().facts["weights"]
    for stage in ("ppo", "evaluate"):
        manifest = run.stage(stage).completed()
        assert manifest.inputs["RewardModel weights"] == reward
        assert manifest.inputs["reward"] == run.stage("reward").digest()
    records = list(run.stage("evaluate").read(EvaluationRecord))
    assert {name for record in records for name in record.policy[0].components} == {"RewardModel"}


def test_an_online_stage_counts_what_it_sampled(folder: Path) -> None:
    for name in ("ppo", "grpo"):
        run = RunFolder(folder / name)
        stage = run.stage(name)
        counts, steps = stage.completed().counts, list(stage.read(OnlineStep))
        assert counts["prompts"] + counts["quarantined"] == len(
            list(run.stage("prompts").read(Prompt))
        )
        rollouts = list(OnlineLog(stage.folder).read_rollouts())
        assert counts["steps"] == len(steps) == 6
        assert counts["rollouts"] == len(rollouts) == 48
        assert counts["tokens"] == steps[-1].tokens == sum(one.tokens for one in rollouts)


def test_a_rollouts_reward_is_what_the_reward_says_of_its_text(folder: Path) -> None:
    reward = LengthReward(unit="characters", target=30)
    stage = RunFolder(folder / "grpo").stage("grpo")
    prompts = {item.id: item for item in RunFolder(folder / "grpo").stage("prompts").read(Prompt)}
    for rollout in OnlineLog(stage.folder).read_rollouts():
        said = reward([prompts[rollout.prompt_id]], [Completion.from_text(rollout.text)])
        assert said == [rollout.reward]


@pytest.mark.parametrize(
    ("name", "override", "first"),
    [
        ("ppo", "sft.max_length=512", "sft"),
        ("ppo", "reward.margin=0.5", "reward"),
        ("ppo", "ppo.kl_coef=0.1", "ppo"),
        ("ppo", "ppo.watch.prompts=2", "ppo"),
        ("ppo", "ppo.microbatch=2", None),
        ("ppo", "model.device=auto", None),
        ("ppo", "evaluate.n=1", "evaluate"),
        ("grpo", "grpo.trainer.beta=0.1", "grpo"),
        ("grpo", "grpo.abstain=abstain", "grpo"),
        ("grpo", "grpo.watch.stop_kl=9", "grpo"),
        ("grpo", "seed=3", "grpo"),
    ],
)
def test_a_changed_key_makes_what_depends_on_it_stale(
    folder: Path, pairwright: Command, name: str, override: str, first: str | None
) -> None:
    told = pairwright("run", folder / f"{name}.yaml", "--dry-run", "--json", override)

    assert told.code == 0, told.err
    remade = [stage for stage, action in actions(told.out).items() if action != "reuse"]
    road = {"ppo": PPO_ROAD, "grpo": GRPO_ROAD}[name]
    assert remade == ([] if first is None else road[road.index(first) :])


def test_the_users_own_reward_counts_by_its_content_in_training_too(
    folder: Path,
    grpo_copy: Path,
    tmp_path: Path,
    pairwright: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reward that changed under its name is no reason to go on from old checkpoints."""
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "my_online_reward.py"
    body = "def mine(prompts, completions):\n    return [{} for _ in completions]\n"
    arguments = (folder / "grpo.yaml", "--run", grpo_copy)
    arguments += ("grpo.rewards=[{use: 'my_online_reward:mine'}]", "grpo.trainer.max_steps=2")
    for value in (1.0, 2.0):
        module.write_text(body.format(value))
        monkeypatch.delitem(sys.modules, "my_online_reward", raising=False)
        made = pairwright("grpo", *arguments)
        assert made.code == 0, made.err
        steps = list(RunFolder(grpo_copy).stage("grpo").read(OnlineStep))
        assert [step.reward for step in steps] == [value, value]


def test_a_training_goes_on_under_other_stop_rules(
    folder: Path, grpo_copy: Path, pairwright: Command
) -> None:
    before = list(RunFolder(grpo_copy).stage("grpo").read(OnlineStep))

    made = pairwright("grpo", folder / "grpo.yaml", "--run", grpo_copy, "grpo.watch.stop_kl=9")

    assert made.code == 0, made.err
    stage = RunFolder(grpo_copy).stage("grpo")
    assert stage.completed().facts["resumed_from_step"] == len(before) == 6
    assert list(stage.read(OnlineStep)) == before


def test_a_lost_reward_model_is_found_missing_and_made_again_from_its_checkpoint(
    folder: Path, pairwright: Command
) -> None:
    model = folder / "ppo" / "reward" / "model"
    weights = (model / "model.safetensors").read_bytes()
    shutil.rmtree(model)

    shown = json.loads(pairwright("show", folder / "ppo", "--json").out)["stages"]
    planned = pairwright("run", folder / "ppo.yaml", "--dry-run", "--json")
    made = pairwright("reward", folder / "ppo.yaml")

    states = {row["stage"]: (row["state"], row["why"]) for row in shown}
    assert states["reward"] == ("partial", "lost model")
    assert actions(planned.out)["reward"] == "go on"
    assert made.code == 0, made.err
    assert (model / "model.safetensors").read_bytes() == weights


def test_a_prompt_is_traced_through_the_steps_that_learned_from_it(
    folder: Path, pairwright: Command
) -> None:
    rollouts = list(OnlineLog(folder / "grpo" / "grpo").read_rollouts())
    prompt_id = rollouts[0].prompt_id

    told = pairwright("trace", folder / "grpo", prompt_id)
    data = pairwright("trace", folder / "grpo", prompt_id[:14], "--json")

    assert told.code == data.code == 0, told.err + data.err
    found = json.loads(data.out)
    assert found["prompt"]["id"] == prompt_id
    expected = [one for one in rollouts if one.prompt_id == prompt_id]
    assert [one["reward"] for one in found["rollouts"]] == [one.reward for one in expected]
    assert [one["advantage"] for one in found["rollouts"]] == [one.advantage for one in expected]
    assert "LengthReward" in told.out


def test_a_pair_of_a_road_with_both_is_still_traced(folder: Path, pairwright: Command) -> None:
    from pairwright.trace.history import pair_ids

    pair = next(iter(pair_ids(RunFolder(folder / "ppo"))))
    prompt = OnlineLog(folder / "ppo" / "ppo").read_steps()[0].prompt_ids[0]

    assert json.loads(pairwright("trace", folder / "ppo", pair, "--json").out)["pair"]["id"] == pair
    asked = json.loads(pairwright("trace", folder / "ppo", prompt, "--json").out)
    assert asked["prompt"]["id"] == prompt
    assert pairwright("trace", folder / "grpo", "p-nothing").code == 2


def test_a_forgotten_prompt_leaves_the_rollouts_too(
    folder: Path, grpo_copy: Path, tmp_path: Path, pairwright: Command, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prompt_id = next(OnlineLog(grpo_copy / "grpo").read_rollouts()).prompt_id

    forgotten = pairwright("forget", grpo_copy, "--prompt", prompt_id)
    made = pairwright("run", folder / "grpo.yaml", "--run", grpo_copy)

    assert forgotten.code == made.code == 0, forgotten.err + made.err
    texts = [file.read_bytes() for file in grpo_copy.rglob("*.jsonl")]
    assert texts
    assert not any(prompt_id.encode() in text for text in texts)
    assert RunFolder(grpo_copy).stage("prompts").completed().reasons == {"FORGOTTEN": 1}


def test_a_prompt_is_forgotten_only_where_the_run_was_made(
    grpo_copy: Path, tmp_path: Path, pairwright: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load((grpo_copy / "config.yaml").read_text())
    config["prompts"] = [{"path": "elsewhere/prompts.jsonl"}]
    (grpo_copy / "config.yaml").write_text(yaml.safe_dump(config))
    prompt_id = next(OnlineLog(grpo_copy / "grpo").read_rollouts()).prompt_id

    refused = pairwright("forget", grpo_copy, "--prompt", prompt_id)

    assert refused.code == 2
    assert "where the run was made" in refused.err
    assert (grpo_copy / "grpo" / "rollouts.jsonl").exists()


def test_chat_answers_with_the_policy_that_was_trained_online(
    folder: Path, pairwright: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Describe the cat.\n"))
    said = pairwright("chat", folder / "ppo", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)[0]["answers"].keys() == {"SFT model", "policy"}


def test_chat_shows_what_fine_tuning_alone_made_of_the_model(
    folder: Path, tmp_path: Path, pairwright: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(folder / "ppo" / "sft", run / "sft")
    shutil.copy(folder / "ppo" / "config.yaml", run)
    monkeypatch.setattr("sys.stdin", io.StringIO("Describe the cat.\n"))
    said = pairwright("chat", run, "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)[0]["answers"].keys() == {"base model", "SFT model"}


def test_debug_shows_which_tokens_of_the_first_rows_are_trained_on(
    folder: Path, tmp_path: Path, pairwright: Command
) -> None:
    shown = pairwright(
        "sft", folder / "ppo.yaml", "--run", tmp_path / "run", "--debug", "--dry-run"
    )
    assert shown.code == 0, shown.err
    assert "⟦The house is small.<|im_end|>⟧" in shown.err
    assert not (tmp_path / "run").exists()


JUDGE = (
    "{use: 'curation.judges:PairwiseJudge', args: {endpoint: {base_url: 'http://x/v1', model: m}}}"
)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "grpo.yaml", "ppo={}"], "grpo and ppo are both given"),
        (["run", "grpo.yaml", "grpo.trainer.num_generation=4"], "num_generations"),
        (["run", "grpo.yaml", "grpo.watch.evry=4"], "did you mean 'every'?"),
        (["run", "grpo.yaml", "grpo.trainer.num_generations=3"], "num_generations"),
        (["run", "grpo.yaml", "evaluate.prompts=[]"], "give evaluate.prompts"),
        (["run", "grpo.yaml", "grpo.rewards=[]"], "NO_REWARD_FUNCTIONS: nothing says"),
        (["run", "grpo.yaml", "prompts=[]"], "prompts"),
        (["run", "grpo.yaml", "grpo.trainer.max_steps=many"], "max_steps is 'many'; expected a"),
        (
            ["run", "grpo.yaml", "grpo.rewards=[{use: 'curation.rewards.answers:ExactAnswer'}]"],
            "reward 'ExactAnswer' abstains on all 24 prompts",
        ),
        (
            [
                "run",
                "grpo.yaml",
                "evaluate.rewards=[{use: 'curation.rewards.answers:ExactAnswer'}]",
            ],
            "evaluate: reward 'ExactAnswer' abstains on all 9 prompts",
        ),
        (
            ["run", "grpo.yaml", "evaluate.prompts=[{path: FOLDER/prompts.jsonl}]"],
            "grpo.watch.every is 2, but all 24 prompts of evaluate.prompts are trained on",
        ),
        (["sft", "ppo.yaml", "sft.data=[{path: no.jsonl}]"], "'no.jsonl' does not exist"),
        (
            ["run", "grpo.yaml", "grpo.trainer.gradient_accumulation_steps=20"],
            "DATASET_SMALLER_THAN_BATCH: a step of grpo asks 40 prompts and the run has 24",
        ),
        (
            ["run", "grpo.yaml", "grpo.rewards=[]", f"grpo.judge={JUDGE}"],
            "has no reward for held-out prompts",
        ),
        (["run", "ppo.yaml", "sft.trainer.learning_rat=1"], "did you mean 'learning_rate'?"),
        (["run", "ppo.yaml", "reward.trainer.max_step=1"], "did you mean 'max_steps'?"),
        (["run", "ppo.yaml", "ppo.minibatch=3"], "expected a multiple"),
        (["run", "ppo.yaml", "ppo.kl_coef=0", "ppo.kl_target=6"], "which no factor moves from 0"),
        (["run", "ppo.yaml", "ppo.rewards=[]", f"ppo.judge={JUDGE}"], "gives none a value"),
        (
            ["run", "ppo.yaml", "ppo.rewards=[]", "rank.rewards=[]", f"rank.judge={JUDGE}"],
            "a judge compares answers",
        ),
        (
            [
                "run",
                "ppo.yaml",
                "rank.rewards=[{use: 'curation.rewards.model:RewardModel', "
                "args: {path: FOLDER/ppo/reward/model}}]",
            ],
            "trained on what is ranked here",
        ),
        (
            ["run", "ppo.yaml", "generate.endpoint={base_url: 'http://me:key@x/v1', model: m}"],
            "generate: endpoint: base_url holds a user",
        ),
        (["run", "ppo.yaml"], "that nothing asks; expected it in ppo.rewards"),
        (["dpo", "grpo.yaml"], "takes the place of dpo"),
        (["generate", "grpo.yaml"], "is not on this config's road"),
        (["evaluate", "grpo.yaml"], "make it first with `pairwright grpo CONFIG`"),
        (["sft", "grpo.yaml"], "no section 'sft'"),
        (["reward", "grpo.yaml"], "no section 'reward'"),
        (["ppo", "grpo.yaml"], "no section 'ppo'"),
    ],
)
def test_a_wrong_request_is_refused_in_one_sentence_before_a_model_loads(
    folder: Path, tmp_path: Path, pairwright: Command, arguments: list[str], told: str
) -> None:
    verb, config, *overrides = arguments
    overrides = [text.replace("FOLDER", str(folder)) for text in overrides]
    run = f"run={folder / 'ppo' if 'FOLDER' in str(arguments) else tmp_path / 'run'}"

    refused = pairwright(verb, folder / config, run, *overrides)

    assert refused.code == 2, refused.out
    assert told in refused.err
    assert len(refused.err.strip().splitlines()) == 1


def test_the_sft_model_is_the_configs_own_without_fine_tuning(folder: Path) -> None:
    config = load_config(folder / "grpo.yaml", as_=Config)
    plan = Plan(config, RunFolder(config.run))
    assert plan.model == config.model
    assert plan.policy_stage == "grpo"
    assert plan.stages == GRPO_ROAD


def test_what_one_reward_of_several_left_unjudged_is_counted(
    folder: Path, tmp_path: Path, pairwright: Command
) -> None:
    (folder / "sometimes.py").write_text(
        "def even(prompts, completions):\n"
        "    return [1.0 if len(one.text) % 2 == 0 else None for one in completions]\n"
    )
    length = '{use: "curation.rewards.rules:LengthReward", args: {unit: characters, target: 30}}'
    ran = pairwright(
        "run",
        folder / "grpo.yaml",
        f'grpo.rewards=[{length}, {{use: "sometimes:even"}}]',
        "grpo.trainer.max_steps=2",
        "--run",
        tmp_path / "run",
    )

    assert ran.code == 0, ran.err
    stage = RunFolder(tmp_path / "run").stage("grpo")
    odd = sum(len(one.text) % 2 for one in OnlineLog(stage.folder).read_rollouts())
    assert odd > 0
    assert stage.completed().facts["abstained_by"] == {"even": odd}
    assert stage.completed().counts["abstained"] == 0
    assert "Not judged by even" in (tmp_path / "run" / "report.html").read_text()
