"""What a person answered is never lost and never counted twice."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.annotations import AnnotationStore
from schemas.arrow import to_table
from schemas.labels import LabelTask
from schemas.records import (
    Annotator,
    Candidate,
    Completion,
    Judgement,
    Message,
    Origin,
    Prompt,
    content_hash,
)


def task(question: str, *texts: str) -> LabelTask:
    prompt = Prompt(messages=(Message(role="user", content=question),))
    origin = Origin(generator="import:test")
    return LabelTask(
        dataset="prefs",
        workspace="team",
        prompt=prompt,
        candidates=tuple(
            Candidate(prompt_id=prompt.id, completion=Completion.from_text(text), origin=origin)
            for text in texts
        ),
    )


def judgement(name: str, **changes) -> Judgement:
    fields = {"prompt_id": "p", "candidates": ("a", "b"), "ranks": (1, 2)}
    return Judgement(annotator=Annotator(kind="human", name=name), **{**fields, **changes})


def test_a_second_pull_adds_nothing_twice(tmp_path):
    store = AnnotationStore(tmp_path / "annotations").judgements
    assert store.append([judgement("ann"), judgement("bob")]) == 2
    assert store.append([judgement("bob"), judgement("cem")]) == 1
    assert [item.annotator.name for item in store.read()] == ["ann", "bob", "cem"]


def test_a_change_of_mind_keeps_the_first_answer(tmp_path):
    store = AnnotationStore(tmp_path).judgements
    store.append([judgement("ann")])
    store.append([judgement("ann", ranks=(2, 1), revision=1)])
    assert [item.ranks for item in store.read()] == [(1, 2), (2, 1)]


def test_the_digest_changes_only_when_something_was_added(tmp_path):
    store = AnnotationStore(tmp_path).judgements
    store.append([judgement("ann")])
    before = store.digest()
    store.append([judgement("ann")])
    assert store.digest() == before
    store.append([judgement("bob")])
    assert store.digest() != before


def test_a_batch_that_was_tampered_with_is_refused(tmp_path):
    store = AnnotationStore(tmp_path).judgements
    store.append([judgement("ann")])
    (batch,) = tmp_path.glob("judgements-*.parquet")
    pq.write_table(to_table([judgement("eve")], Judgement), batch)
    with pytest.raises(ValueError, match="was changed after it was written"):
        list(store.read())


def test_a_batch_is_parsed_once_however_many_stores_are_opened(tmp_path, monkeypatch):
    AnnotationStore(tmp_path).judgements.append([judgement("ann"), judgement("bob")])
    first = list(AnnotationStore(tmp_path).judgements.read())
    monkeypatch.setattr(pq, "read_table", lambda *_, **__: pytest.fail("read again"))
    assert list(AnnotationStore(tmp_path).judgements.read()) == first


def test_a_batch_that_is_changed_after_it_was_read_is_refused(tmp_path):
    store = AnnotationStore(tmp_path).judgements
    store.append([judgement("ann")])
    assert len(list(store.read())) == 1
    (batch,) = tmp_path.glob("judgements-*.parquet")
    pq.write_table(to_table([judgement("eve")], Judgement), batch)
    with pytest.raises(ValueError, match="was changed after it was written"):
        list(AnnotationStore(tmp_path).judgements.read())


def test_who_is_forgotten_after_being_read_is_read_no_more(tmp_path):
    store = AnnotationStore(tmp_path)
    store.judgements.append([judgement("ann"), judgement("bob")])
    assert len(list(store.judgements.read())) == 2
    AnnotationStore(tmp_path).forget_annotator("ann")
    assert [item.annotator.name for item in store.judgements.read()] == ["bob"]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=4), max_size=6))
def test_whatever_comes_in_whatever_batches_is_kept_once_in_the_order_it_came(batches):
    with tempfile.TemporaryDirectory() as folder:
        store = AnnotationStore(Path(folder)).judgements
        for batch in batches:
            store.append(judgement(name) for name in batch)
        came = dict.fromkeys(name for batch in batches for name in batch)
        assert [item.annotator.name for item in store.read()] == list(came)


def test_appends_at_the_same_time_lose_nothing(tmp_path):
    def append(number: int) -> None:
        store = AnnotationStore(tmp_path)
        for step in range(5):
            store.judgements.append([judgement(f"ann-{number}-{step}"), judgement("both")])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(append, range(4)))
    assert len(list(AnnotationStore(tmp_path).judgements.read())) == 21


def test_time_and_task_of_an_answer_come_back_and_are_no_part_of_what_it_is(tmp_path):
    when = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
    store = AnnotationStore(tmp_path).judgements
    told = judgement("ann", created_at=when, task_id="l-1", purpose="gold")
    store.append([told])
    assert store.append([judgement("ann")]) == 0
    (read,) = store.read()
    assert (read.created_at, read.task_id, read.purpose) == (when, "l-1", "gold")


def test_an_exclusion_is_reversible_and_every_decision_is_kept(tmp_path):
    store = AnnotationStore(tmp_path)
    store.decide("ann", "exclude", "always A")
    store.decide("bob", "exclude", "too fast")
    assert store.excluded() == {"ann": "always A", "bob": "too fast"}
    store.decide("ann", "include", "a mistake")
    assert store.excluded() == {"bob": "too fast"}
    store.decide("ann", "exclude", "always A")
    assert store.excluded() == {"ann": "always A", "bob": "too fast"}
    assert [item.action for item in store.decisions.read()] == [
        "exclude",
        "exclude",
        "include",
        "exclude",
    ]


def test_a_decision_after_somebody_was_forgotten_still_is_the_latest(tmp_path):
    store = AnnotationStore(tmp_path)
    for _ in range(3):
        store.decide("ann", "exclude", "always A")
    store.decide("bob", "exclude", "too fast")
    store.forget_annotator("ann")
    store.decide("bob", "include", "a mistake")
    assert store.excluded() == {}


def test_a_forgotten_annotators_answers_are_gone_and_the_stone_has_no_name(tmp_path):
    store = AnnotationStore(tmp_path)
    store.judgements.append([judgement("ann"), judgement("bob")])
    store.judgements.append([judgement("ann", ranks=(2, 1), revision=1)])
    store.decide("ann", "exclude", "asked to leave")
    stone = store.forget_annotator("ann")
    assert (stone.kind, stone.judgements, stone.tasks) == ("annotator", 2, 0)
    assert [item.annotator.name for item in store.judgements.read()] == ["bob"]
    assert list(store.decisions.read()) == []
    assert store.forgotten("annotator") == {content_hash("ann")}
    for file in tmp_path.rglob("*.parquet"):
        assert b"ann" not in file.read_bytes().replace(b"annotator", b"")


def test_a_forgotten_prompts_tasks_are_known_by_their_hash_alone(tmp_path):
    store = AnnotationStore(tmp_path)
    tasks = [task("Why?", "x", "y"), task("Why?", "x", "z"), task("How?", "x", "y")]
    store.tasks.append(tasks)
    answers = [
        judgement("ann", prompt_id=one.prompt.id, candidates=one.shown, task_id=one.id)
        for one in tasks
    ]
    store.judgements.append(answers)
    stone = store.forget_prompt(tasks[0].prompt.id)
    assert (stone.kind, stone.judgements, stone.tasks) == ("prompt", 2, 2)
    assert list(store.tasks.read()) == [tasks[2]]
    assert list(store.judgements.read()) == [answers[2]]
    assert store.forgotten("prompt") == {content_hash(tasks[0].prompt.id)}
    assert store.forgotten("task") == {content_hash(one.id) for one in tasks[:2]}


def test_what_is_forgotten_changes_the_digest(tmp_path):
    store = AnnotationStore(tmp_path)
    store.judgements.append([judgement("ann"), judgement("bob")])
    before = store.judgements.digest()
    store.forget_annotator("ann")
    assert store.judgements.digest() != before


def test_a_store_that_was_never_written_is_empty(tmp_path):
    store = AnnotationStore(tmp_path / "none")
    assert (list(store.judgements.read()), store.excluded()) == ([], {})
    assert store.forget_annotator("ann").judgements == 0
