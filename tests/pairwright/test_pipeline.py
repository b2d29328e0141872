import contextlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.kill_drill import stored
from pairwright.progress import Progress, Silent, Task
from pairwright.road import make_stage, open_plan
from schemas.records import Candidate, PairProposal, PreferencePair, Prompt
from schemas.run_folder import RunFolder

STAGES = (
    "prompts",
    "generate",
    "rank",
    "aggregate",
    "pair",
    "validate",
    "export",
    "dpo",
    "evaluate",
)


def digests(run: Path) -> dict[str, str]:
    return {name: stage.digest() for name, stage in RunFolder(run).stages().items()}


def test_the_whole_road_ends_with_a_report(whole_run: Path) -> None:
    stages = RunFolder(whole_run).stages()

    assert set(stages) == set(STAGES)
    assert all(stage.completed() for stage in stages.values())
    report = json.loads((whole_run / "report.json").read_text())
    assert report["funnel"]["pairs"] > 0
    assert (whole_run / "report.html").stat().st_size > 0


def test_every_stage_accounts_for_its_rows(whole_run: Path) -> None:
    run = RunFolder(whole_run)
    counts = {name: stage.completed().counts for name, stage in run.stages().items()}

    assert counts["prompts"]["read"] == counts["prompts"]["kept"] + counts["prompts"]["quarantined"]
    candidates = list(run.stage("generate").read(Candidate))
    assert counts["generate"]["samples"] == sum(one.count for one in candidates) == 24 * 4
    assert counts["generate"]["candidates"] == counts["pair"]["candidates"] == len(candidates)
    pair = counts["pair"]
    assert pair["candidates"] == pair["used_candidates"] + pair["unused_candidates"]
    paired = {pair.prompt.id for pair in run.stage("pair").read(PairProposal)}
    assert pair["prompts"] == 24 == len(paired) + pair["unpaired_prompts"]
    gate = counts["validate"]
    assert gate["in"] == pair["proposals"] == gate["out"] + gate["quarantined"]
    assert gate["out"] == counts["export"]["in"] == gate["train"] + gate["test"]
    for name in ("pair", "validate"):
        manifest = run.stage(name).completed()
        left = {"pair": "unpaired_prompts", "validate": "quarantined"}[name]
        assert sum(manifest.reasons.values()) == manifest.counts[left]


def test_part_k_has_the_same_prompts_in_every_stage(whole_run: Path) -> None:
    run = RunFolder(whole_run)

    def prompts(stage: str) -> list[set[str]]:
        files = run.stage(stage).files()
        return [set(pq.read_table(file)["prompt_id"].to_pylist()) for file in files]

    assert len(prompts("generate")) > 1
    assert prompts("generate") == prompts("rank") == prompts("aggregate")
    for index, part in enumerate(prompts("generate")):
        proposals = pq.read_table(run.stage("pair").files()[index])["prompt"].to_pylist()
        unpaired = pq.read_table(run.stage("pair").files("unpaired")[index])["prompt_id"]
        assert {prompt["id"] for prompt in proposals} | set(unpaired.to_pylist()) == part


def test_a_finished_run_is_reused_as_it_is(inputs: Path, run_copy: Path, pairwright) -> None:
    before = stored(run_copy)

    again = pairwright("run", inputs / "run.yaml", "--run", run_copy)

    assert again.code == 0
    assert [line for line in again.err.splitlines() if "unchanged, reused" in line] == [
        f"{stage}: unchanged, reused" for stage in STAGES
    ]
    assert stored(run_copy) == before


def test_parts_that_are_there_are_not_made_again(
    inputs: Path, whole_run: Path, run_copy: Path, pairwright
) -> None:
    manifest = run_copy / "generate" / "manifest.json"
    data = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**data, "state": "running", "parts": {}}))
    kept, lost = (run_copy / "generate" / f"part-0000{index}.parquet" for index in (0, 1))
    lost.unlink()
    half = lost.with_name(f".{lost.name}.tmp")
    half.write_bytes(kept.read_bytes()[:100])  # what a kill in the middle of a write leaves
    inode = kept.stat().st_ino

    resumed = pairwright("generate", inputs / "run.yaml", "--run", run_copy)

    assert resumed.code == 0
    assert "generate: goes on" in resumed.err
    assert kept.stat().st_ino == inode
    assert stored(run_copy) == stored(whole_run)
    candidates = [one.id for one in RunFolder(run_copy).stage("generate").read(Candidate)]
    assert len(candidates) == len(set(candidates))


def test_shards_together_make_what_one_process_makes(
    inputs: Path, whole_run: Path, tmp_path: Path, pairwright
) -> None:
    config, run = inputs / "run.yaml", tmp_path / "run"

    first = pairwright("generate", config, "--run", run, "--shard", "1/2")
    assert first.code == 0
    assert "partial" in first.out
    second = pairwright("generate", config, "--run", run, "--shard", "0/2")

    assert second.code == 0
    expected = {
        name: data
        for name, data in stored(whole_run).items()
        if name.startswith(("prompts/", "generate/"))
    }
    assert stored(run) == expected
    ours, theirs = (RunFolder(path).stage("generate").completed() for path in (run, whole_run))
    assert ours.counts == theirs.counts


def test_a_shard_stops_when_another_config_took_over_the_stage(
    inputs: Path, tmp_path: Path, pairwright
) -> None:
    config, run = inputs / "run.yaml", tmp_path / "run"

    class OtherConfigComes(Progress):
        """While this shard samples, a shard with another seed begins the stage again."""

        @contextlib.contextmanager
        def task(self, name: str, unit: str, total: int = 0) -> Iterator[Task]:
            other = open_plan(config, ["seed=1"], run=run, limit=None)
            make_stage(other, "generate", Silent(), shard="1/2")
            with super().task(name, unit, total) as task:
                yield task

    plan = open_plan(config, (), run=run, limit=None)
    with pytest.raises(ValueError, match="all shards of a run need the same"):
        make_stage(plan, "generate", OtherConfigComes(), shard="0/2")

    seeds = {one.origin.seed for one in RunFolder(run).stage("generate").read(Candidate)}
    assert seeds == {1}


def test_another_temperature_reuses_no_candidate_but_another_run_folder_does(
    inputs: Path, run_copy: Path, pairwright
) -> None:
    config, before = inputs / "run.yaml", digests(run_copy)

    assert "generate: unchanged, reused" in pairwright("generate", config, "--run", run_copy).err
    warmer = pairwright("generate", config, "--run", run_copy, "generate.temperature=0.7")

    assert "generate: made again, config changed: temperature: 1.0 -> 0.7" in warmer.err
    after = digests(run_copy)
    assert after["prompts"] == before["prompts"]
    assert after["generate"] != before["generate"]
    samplings = {
        one.origin.sampling["temperature"]
        for one in RunFolder(run_copy).stage("generate").read(Candidate)
    }
    assert samplings == {0.7}


@pytest.mark.parametrize(
    ("override", "remade"),
    [
        ("validate.max_quarantined=0.99", ()),
        ("model.device=auto", ()),
        ("pair.strategy=curation.pairs:AllPairs", STAGES[4:]),
        ("validate.min_margin=0.2", STAGES[5:]),
        ("dpo.trainer.beta=0.2", STAGES[7:]),
        ("evaluate.n=1", STAGES[8:]),
    ],
)
def test_a_changed_key_makes_what_depends_on_it_stale(
    inputs: Path, whole_run: Path, pairwright, override: str, remade: tuple[str, ...]
) -> None:
    planned = pairwright(
        "run", inputs / "run.yaml", "--run", whole_run, "--dry-run", "--json", override
    )

    steps = json.loads(planned.out)["plan"]
    assert tuple(step["stage"] for step in steps if step["action"] != "reuse") == remade


def test_a_stage_that_is_made_to_the_same_bytes_leaves_later_ones_alone(
    inputs: Path, run_copy: Path, pairwright
) -> None:
    made = pairwright("pair", inputs / "run.yaml", "--run", run_copy, "pair.args={}")

    assert made.code == 0
    (run_copy / "pair" / "part-00000.parquet").unlink()
    again = pairwright("run", inputs / "run.yaml", "--run", run_copy)
    assert "pair: goes on" in again.err
    assert "validate: unchanged, reused" in again.err


def test_a_changed_file_of_prompts_makes_the_run_stale(
    inputs: Path, run_copy: Path, tmp_path: Path, pairwright
) -> None:
    text = (inputs / "run.yaml").read_text()
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text((inputs / "prompts.jsonl").read_text())
    config = tmp_path / "run.yaml"
    config.write_text(text.replace(str(inputs / "prompts.jsonl"), str(prompts)))
    assert pairwright("generate", config, "--run", run_copy).code == 0
    prompts.write_text(prompts.read_text() + '{"prompt": "One more?"}\n')

    planned = pairwright("generate", config, "--run", run_copy, "--dry-run", "--json")

    (first, second) = json.loads(planned.out)["plan"]
    assert first["action"] == second["action"] == "make again"
    assert first["why"] == f"changed: file:{prompts}"


def test_the_users_own_reward_counts_by_its_content(
    inputs: Path, run_copy: Path, tmp_path: Path, pairwright, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "counts_spaces.py"
    module.write_text(
        "def spaces(prompts, completions):\n"
        "    return [float(item.text.count(' ')) for item in completions]\n"
    )
    rewards = 'rank.rewards=[{use: "counts_spaces:spaces"}]'
    ranked = pairwright("rank", inputs / "run.yaml", "--run", run_copy, rewards)
    assert ranked.code == 0
    module.write_text(module.read_text() + "# changed\n")

    again = pairwright("rank", inputs / "run.yaml", "--run", run_copy, rewards)

    assert "rank: made again, changed: code:counts_spaces" in again.err


def test_answers_that_the_reward_abstains_on_are_counted(
    inputs: Path, run_copy: Path, tmp_path: Path, pairwright, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "knows_little.py").write_text(
        "def reward(prompts, completions):\n"
        "    return [1.0 if 'a' in item.text else None for item in completions]\n"
    )
    rewards = 'rank.rewards=[{use: "knows_little:reward"}]'

    assert pairwright("rank", inputs / "run.yaml", "--run", run_copy, rewards).code == 0

    run = RunFolder(run_copy)
    unknown = sum("a" not in one.completion.text for one in run.stage("generate").read(Candidate))
    assert run.stage("rank").completed().counts["abstained"] == unknown > 0


def test_a_trial_with_a_limit_spares_a_run_of_all_prompts(
    inputs: Path, whole_run: Path, tmp_path: Path, pairwright
) -> None:
    config = inputs / "run.yaml"

    refused = pairwright("generate", config, "--run", whole_run, "--limit", "3")
    trial = pairwright("generate", config, "--run", tmp_path / "trial", "--limit", "3")
    mixed = pairwright("rank", config, "--run", tmp_path / "trial")

    assert refused.code == 2
    assert "--limit 3 would replace" in refused.err
    assert trial.code == 0
    manifest = RunFolder(tmp_path / "trial").stage("prompts").completed()
    assert (manifest.counts["prompts"], manifest.reasons) == (3, {"OVER_LIMIT": 21})
    assert mixed.code == 2
    assert "limit: 3 -> None" in mixed.err


def test_edited_pairs_need_no_ranking(
    inputs: Path, run_copy: Path, tmp_path: Path, pairwright, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "shouting.py").write_text("def shout(prompt, text):\n    return text.upper()\n")
    edited = pairwright(
        "pair",
        inputs / "run.yaml",
        "--run",
        run_copy,
        "pair.edit=shouting:shout",
        "rank=null",
    )

    assert edited.code == 0, edited.err
    for pair in RunFolder(run_copy).stage("pair").read(PairProposal):
        assert pair.chosen.origin.parent == pair.rejected.id
        assert pair.chosen.completion.text == pair.rejected.completion.text.upper()
        assert pair.strategy == "edit:shout"


def test_prompts_that_the_model_cannot_be_asked_are_kept_out_with_a_reason(
    inputs: Path, tmp_path: Path, pairwright
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    rows = [
        {"prompt": "Name a bird."},
        {"prompt": "word " * 3000},
        {"prompt": "<|im_start|>user\nName a fish.<|im_end|>\n<|im_start|>assistant\n"},
    ]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))

    made = pairwright(
        "generate",
        inputs / "run.yaml",
        "--run",
        tmp_path / "run",
        f"prompts=[{{path: {prompts}}}]",
    )

    assert made.code == 0, made.err
    manifest = RunFolder(tmp_path / "run").stage("generate").completed()
    assert manifest.counts["prompts"] == 1
    assert manifest.reasons == {"PROMPT_TOO_LONG": 1, "ALREADY_RENDERED": 1}


def test_the_seed_reaches_sampling_pairs_splits_and_trainer(
    inputs: Path, tmp_path: Path, pairwright
) -> None:
    runs = {seed: tmp_path / f"run-{seed}" for seed in (1, 2)}
    for seed, run in runs.items():
        made = pairwright("run", inputs / "run.yaml", "--run", run, f"seed={seed}", "--limit", "12")
        assert made.code == 0, made.err
        facts = RunFolder(run).stage("dpo").completed().facts
        assert facts["seed"] == facts["data_seed"] == seed
        for stage in ("generate", "pair", "validate", "dpo", "evaluate"):
            assert RunFolder(run).stage(stage).completed().config["seed"] == seed
    first, second = (digests(run) for run in runs.values())
    assert first["prompts"] == second["prompts"]
    assert first["generate"] != second["generate"]


def test_held_out_prompts_that_training_saw_are_left_out_of_the_evaluation(
    inputs: Path, run_copy: Path, tmp_path: Path, pairwright
) -> None:
    pairs = list(RunFolder(run_copy).stage("validate").read(PreferencePair))
    seen = next(pair.prompt for pair in pairs if pair.split == "train")
    asked = [seen.messages[0].content.upper(), "Who sleeps?", "What is old?"]
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in asked))

    made = pairwright(
        "evaluate",
        inputs / "run.yaml",
        "--run",
        run_copy,
        f"evaluate.prompts=[{{path: {held_out}}}]",
    )

    assert made.code == 0, made.err
    manifest = RunFolder(run_copy).stage("evaluate").completed()
    assert manifest.counts["prompts"] == 2
    assert manifest.reasons == {"TRAINED_ON": 1}


def test_a_row_that_is_no_held_out_prompt_is_counted_with_its_reason(
    inputs: Path, run_copy: Path, tmp_path: Path, pairwright
) -> None:
    held_out = tmp_path / "held_out.jsonl"
    rows = [{"prompt": "Who sleeps?"}, {"prompt": "who sleeps? "}, {"prompt": ""}]
    held_out.write_text("".join(json.dumps(row) + "\n" for row in rows))

    made = pairwright(
        "evaluate",
        inputs / "run.yaml",
        "--run",
        run_copy,
        f"evaluate.prompts=[{{path: {held_out}}}]",
    )

    assert made.code == 0, made.err
    assert "2 of 3 prompts are left out" in made.err
    manifest = RunFolder(run_copy).stage("evaluate").completed()
    assert manifest.counts == {"prompts": 1, "quarantined": 2}
    assert manifest.reasons == {"DUPLICATE_PROMPT": 1, "EMPTY_PROMPT": 1}


def test_a_policy_that_was_deleted_is_trained_again(
    inputs: Path, run_copy: Path, pairwright
) -> None:
    policy = run_copy / "dpo" / "policy"
    before = (policy / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(policy)

    shown = json.loads(pairwright("show", run_copy, "--json").out)["stages"]
    made = pairwright("dpo", inputs / "run.yaml", "--run", run_copy)

    states = {row["stage"]: (row["state"], row["why"]) for row in shown}
    assert states["dpo"] == ("partial", "lost policy")
    assert made.code == 0, made.err
    assert (policy / "adapter_model.safetensors").read_bytes() == before


def test_evaluation_uses_the_test_split_where_no_prompts_are_given(whole_run: Path) -> None:
    run = RunFolder(whole_run)
    pairs = list(run.stage("validate").read(PreferencePair))
    splits = Counter(pair.split for pair in pairs)
    test_prompts = {pair.prompt.id for pair in pairs if pair.split == "test"}

    assert splits["train"] > 0
    assert len(test_prompts) == run.stage("evaluate").completed().counts["prompts"]


def test_two_sources_are_counted_apart(inputs: Path, tmp_path: Path, pairwright) -> None:
    for name, count in (("a", 2), ("b", 3)):
        rows = [json.dumps({"prompt": f"{name} {i}?", "level": i % 2}) for i in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    even = "tag_columns: [level], only_tags: ['level:0']"
    sources = f"{{path: {tmp_path}/a.jsonl}}, {{path: {tmp_path}/b.jsonl, {even}}}"

    made = pairwright(
        "generate", inputs / "run.yaml", "--run", tmp_path / "run", f"prompts=[{sources}]"
    )

    assert made.code == 0, made.err
    assert f"{tmp_path}/a.jsonl: read 2, kept 2" in made.err
    passed_over = "passed over 1 without a tag of only_tags"
    assert f"{tmp_path}/b.jsonl: read 2, kept 2, {passed_over}" in made.err
    assert len(list(RunFolder(tmp_path / "run").stage("prompts").read(Prompt))) == 4


def test_a_dataset_that_failed_the_gate_is_not_exported(
    inputs: Path, run_copy: Path, pairwright
) -> None:
    strict = ("validate.min_margin=1e9", "validate.max_quarantined=0.1")
    gate = pairwright("validate", inputs / "run.yaml", "--run", run_copy, *strict)
    exported = pairwright("export", inputs / "run.yaml", "--run", run_copy, *strict)

    assert (gate.code, exported.code) == (1, 1)
    assert "more than the share validate.max_quarantined=0.1 allows" in exported.err
