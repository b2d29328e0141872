"""Who is forgotten is gone from every run that shares the store, or nothing is removed at all."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from schemas.annotations import AnnotationStore
from schemas.arrow import to_table
from schemas.labels import LabelTask
from schemas.records import (
    Annotator,
    Candidate,
    Completion,
    IdentifiedRecord,
    Judgement,
    Message,
    Origin,
    Prompt,
)
from schemas.run_folder import RunFolder
from tests.pairwright.conftest import Command

WHY, HOW, ELSEWHERE = (
    Prompt(messages=(Message(role="user", content=text),)) for text in ("Why?", "How?", "Where?")
)


def candidates(prompt: Prompt) -> list[Candidate]:
    return [
        Candidate(
            prompt_id=prompt.id,
            completion=Completion.from_text(text),
            origin=Origin(generator="test"),
        )
        for text in ("x", "y")
    ]


def answer(name: str, prompt: Prompt) -> Judgement:
    return Judgement(
        prompt_id=prompt.id,
        annotator=Annotator(kind="human", name=name),
        candidates=tuple(sorted(one.text_id for one in candidates(prompt))),
        ranks=(1, 2),
    )


ANSWERS = [answer(name, prompt) for name in ("ann", "bob") for prompt in (WHY, HOW)]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AnnotationStore:
    """The store of the runs; their server cannot be reached, as nothing gives its key."""
    monkeypatch.delenv("ARGILLA_API_KEY", raising=False)
    store = AnnotationStore(tmp_path / "annotations")
    store.judgements.append(ANSWERS)
    return store


def make_run(
    path: Path, prompt: Prompt = WHY, *, by: str = "label", annotations: Path | None = None
) -> RunFolder:
    """A run whose rankings are made of the labels, or by another stage that is made beside them."""
    run = RunFolder(path)
    folder = annotations or path.parents[1] / "annotations"
    label = {
        "server": "https://argilla.invalid",
        "dataset": "Prefs",
        "workspaces": {"team": {"annotators": ["ann", "bob"]}},
        "annotations": str(folder),
    }
    source = [{"path": "prompts.jsonl"}]
    config = {"run": str(path), "model": {"path": "tiny"}, "prompts": source, "label": label}
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    (path / "report.html").write_text("a report")
    make_stage(run, "prompts", (), [prompt])
    make_stage(run, "generate", {"prompts"}, candidates(prompt))
    labels = [one for one in ANSWERS if one.prompt_id == prompt.id]
    make_stage(run, "label", {"prompts", "generate"}, labels)
    if by != "label":
        make_stage(run, by, {"prompts", "generate"}, labels)
    make_stage(run, "aggregate", {by}, [])
    make_stage(run, "pair", {"prompts", "generate", "aggregate"}, [])
    return run


def make_stage(
    run: RunFolder, name: str, sources: Collection[str], records: Sequence[IdentifiedRecord]
) -> None:
    inputs = {source: run.stage(source).digest() for source in sources}
    writer = run.stage(name).begin(config={}, inputs=inputs, parts=1)
    writer.commit(0, to_table(records, type(records[0])) if records else pa.table({}))
    writer.finish(counts={"rows": len(records)})


def stages(run: RunFolder) -> set[str]:
    return set(run.stages())


ALL = {"prompts", "generate", "label", "aggregate", "pair"}


def test_a_run_beside_with_the_same_store_keeps_no_copy(
    tmp_path: Path, store: AnnotationStore, pairwright: Command
) -> None:
    first, second = make_run(tmp_path / "runs/one"), make_run(tmp_path / "runs/two", HOW)
    other = make_run(tmp_path / "runs/other", annotations=tmp_path / "another")
    outcome = pairwright("forget", first.path, "--annotator", "ann", "--json")
    assert outcome.code == 0, outcome.err
    gone = json.loads(outcome.out)
    assert (gone["judgements"], gone["stages_deleted"]) == (2, ["label", "aggregate", "pair"])
    assert gone["other_runs"] == {str(second.path): ["label", "aggregate", "pair"]}
    assert gone["deleted_on_server"] is None
    assert stages(first) == stages(second) == {"prompts", "generate"}
    assert not (second.path / "report.html").exists()
    assert stages(other) == ALL
    assert {item.annotator.name for item in store.judgements.read()} == {"bob"}


def make_round(rounds: Path, number: int, prompt: Prompt = WHY) -> RunFolder:
    """A round whose policy was trained on the labels."""
    run = make_run(
        rounds / f"round-{number}", prompt, annotations=rounds.parents[1] / "annotations"
    )
    make_stage(run, "dpo", {"pair"}, [])
    (rounds / "config.yaml").write_text((run.path / "config.yaml").read_text())
    return run


def test_a_person_is_forgotten_in_rounds_beside_a_run_too(
    tmp_path: Path, store: AnnotationStore, pairwright: Command
) -> None:
    run, one = make_run(tmp_path / "runs/one"), make_round(tmp_path / "runs/rounds", 1)
    gone = json.loads(pairwright("forget", run.path, "--annotator", "ann", "--json").out)
    assert gone["other_runs"] == {str(one.path): ["label", "aggregate", "pair", "dpo"]}


def test_forgetting_in_a_round_reaches_the_runs_beside_the_rounds(
    tmp_path: Path, store: AnnotationStore, pairwright: Command
) -> None:
    run, one = make_run(tmp_path / "runs/one"), make_round(tmp_path / "runs/rounds", 1)
    done = pairwright("forget", one.path, "--annotator", "ann", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["other_runs"] == {str(run.path): ["label", "aggregate", "pair"]}


@pytest.mark.parametrize("named", [0, 1])
def test_what_came_of_a_round_that_lost_its_policy_goes_too(
    tmp_path: Path, store: AnnotationStore, pairwright: Command, named: int
) -> None:
    rounds = [make_round(tmp_path / "runs/rounds", number) for number in (1, 2)]
    done = pairwright("forget", rounds[named].path, "--annotator", "ann", "--json")
    assert done.code == 0, done.err
    assert stages(rounds[0]) == {"prompts", "generate"}
    assert stages(rounds[1]) == {"prompts"}, "its samples are of the policy that the votes made"


def test_rounds_before_a_forgotten_prompt_was_asked_stay(
    tmp_path: Path, store: AnnotationStore, pairwright: Command
) -> None:
    one, two = make_round(tmp_path / "runs/rounds", 1), make_round(tmp_path / "runs/rounds", 2, HOW)
    done = pairwright("forget", two.path, "--prompt", HOW.id, "--json")
    assert done.code == 0, done.err
    assert stages(one) == {*ALL, "dpo"}
    assert stages(two) == set()


def test_the_other_runs_are_told_of(
    tmp_path: Path, store: AnnotationStore, pairwright: Command
) -> None:
    first, _ = make_run(tmp_path / "runs/one"), make_run(tmp_path / "runs/two")
    out = " ".join(pairwright("forget", first.path, "--annotator", "ann").out.split())
    assert "which has the same store: label, aggregate, pair" in out


def test_what_a_machine_ranked_is_kept_when_a_person_is_forgotten(
    tmp_path: Path, store: AnnotationStore, pairwright: Command
) -> None:
    run = make_run(tmp_path / "runs/one", by="rank")
    gone = json.loads(pairwright("forget", run.path, "--annotator", "ann", "--json").out)
    assert gone["stages_deleted"] == ["label"]
    assert stages(run) == {"prompts", "generate", "rank", "aggregate", "pair"}


def test_a_prompt_is_deleted_of_the_runs_that_have_it(
    tmp_path: Path, store: AnnotationStore, pairwright: Command
) -> None:
    first, second = make_run(tmp_path / "runs/one"), make_run(tmp_path / "runs/two")
    without = make_run(tmp_path / "runs/three", HOW)
    gone = json.loads(pairwright("forget", first.path, "--prompt", WHY.id, "--json").out)
    assert gone["judgements"] == 2
    assert gone["other_runs"].keys() == {str(second.path)}
    assert stages(first) == stages(second) == set()
    assert stages(without) == ALL


def test_a_gold_questions_prompt_is_deleted_with_the_labels(
    tmp_path: Path, store: AnnotationStore, pairwright: Command
) -> None:
    store.judgements.append([answer("ann", ELSEWHERE)])
    run = make_run(tmp_path / "runs/one")
    writer = run.stage("label").begin(config={"gold": True}, inputs={}, parts=1)
    writer.commit(0, to_table([], Judgement), gold=to_table([answer("ann", ELSEWHERE)], Judgement))
    writer.finish(counts={})
    asked = tuple(candidates(ELSEWHERE))
    store.tasks.append(
        [LabelTask(dataset="prefs", workspace="team", prompt=ELSEWHERE, candidates=asked)]
    )
    gone = json.loads(pairwright("forget", run.path, "--prompt", ELSEWHERE.id, "--json").out)
    assert gone["stages_deleted"] == ["label", "aggregate", "pair"]


def test_nothing_is_removed_while_a_run_beside_is_written(
    tmp_path: Path, store: AnnotationStore, pairwright: Command
) -> None:
    first, second = make_run(tmp_path / "runs/one"), make_run(tmp_path / "runs/two")
    with second.writing():
        outcome = pairwright("forget", first.path, "--annotator", "ann")
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert f"'{second.path}'" in line
    assert "being written by another process; nothing was removed" in line
    assert stages(first) == stages(second) == ALL
    assert list(store.judgements.read()) == ANSWERS
    assert not store.forgotten("annotator")


def test_nothing_is_removed_while_a_run_beside_cannot_be_understood(
    tmp_path: Path, store: AnnotationStore, pairwright: Command
) -> None:
    first, second = make_run(tmp_path / "runs/one"), make_run(tmp_path / "runs/two")
    (second.path / "config.yaml").write_text("run: [")
    outcome = pairwright("forget", first.path, "--annotator", "ann")
    assert outcome.code == 2
    assert f"run '{second.path}' beside this one may hold a copy" in outcome.err
    assert list(store.judgements.read()) == ANSWERS


def test_where_the_store_is_not_found_no_tombstone_is_made(
    tmp_path: Path, store: AnnotationStore, pairwright: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "runs/one", annotations=Path("annotations"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    outcome = pairwright("forget", run.path, "--annotator", "ann")
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert "does not exist" in line
    assert "where the run was made" in line
    assert list(elsewhere.iterdir()) == []
    assert stages(run) == ALL
    monkeypatch.chdir(tmp_path)
    assert pairwright("forget", run.path, "--annotator", "ann").code == 0
    assert {item.annotator.name for item in store.judgements.read()} == {"bob"}


def test_a_person_nobody_knows_is_refused(
    tmp_path: Path, store: AnnotationStore, pairwright: Command
) -> None:
    run = make_run(tmp_path / "runs/one")
    outcome = pairwright("forget", run.path, "--annotator", "nobody")
    assert outcome.code == 2
    assert "no annotator 'nobody'" in outcome.err
    assert stages(run) == ALL


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "nothing to forget"),
        (["--annotator", "ann", "--prompt", WHY.id], "both given; expected one at a time"),
    ],
)
def test_one_thing_is_forgotten_at_a_time(
    tmp_path: Path, store: AnnotationStore, pairwright: Command, options: list[str], told: str
) -> None:
    run = make_run(tmp_path / "runs/one")
    outcome = pairwright("forget", run.path, *options)
    assert outcome.code == 2
    assert told in outcome.err
    assert stages(run) == ALL
