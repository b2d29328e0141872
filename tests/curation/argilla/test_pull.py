"""What people did on the server comes back exactly, once, and stays."""

import threading
from pathlib import Path
from typing import Any

import pytest

from curation.argilla.client import Client
from curation.argilla.pull import pull
from curation.argilla.reading import read_records
from curation.votes import counted_judgements, votes_of
from schemas.annotations import AnnotationStore
from schemas.labels import LabelTask
from schemas.records import Judgement
from tests.curation.argilla.desk import Desk, item

ITEMS = [item(f"Question {n}?", f"good {n}", f"bad {n}") for n in range(4)]


@pytest.fixture
def desk(argilla_server: Any, tmp_path: Path) -> Desk:
    return Desk(argilla_server.url, argilla_server.api_key, tmp_path)


def side(task: LabelTask, text: str) -> str:
    """The choice of that text, wherever it was shown."""
    first, second = (candidate.completion.text for candidate in task.candidates)
    assert text in (first, second)
    return "a" if text == first else "b"


def good(task: LabelTask) -> str:
    return next(c.completion.text for c in task.candidates if c.completion.text.startswith("good"))


def stored(desk: Desk) -> list[Judgement]:
    return list(desk.store.judgements.read())


def test_each_persons_choice_comes_back_as_the_text_chosen(desk):
    tasks = desk.push(ITEMS)
    assert {side(task, good(task)) for task in tasks} == {"a", "b"}, "both orders are shown"
    for task in tasks:
        desk.answer("ann", task, side(task, good(task)))
        desk.answer("bob", task, "tie")
    pulled = pull(desk.client, desk.store)
    assert (pulled.counts, pulled.warnings()) == ({"NEW": 8}, [])
    names = {desk.people["ann"]: "good", desk.people["bob"]: "tie"}
    texts = {c.text_id: c.completion.text for task in tasks for c in task.candidates}
    votes = votes_of(counted_judgements(stored(desk)).kept)
    assert len(votes) == 8
    for vote in votes:
        winner = "tie"
        if vote.winner != "tie":
            winner = texts[vote.left if vote.winner == "left" else vote.right].split()[0]
        assert winner == names[vote.annotator]


def test_a_second_pull_adds_nothing(desk):
    tasks = desk.push(ITEMS)
    desk.answer("ann", tasks[0], "a", strength=2, reason="clear")
    pull(desk.client, desk.store)
    before = desk.store.judgements.digest()
    desk.answer("ann", tasks[0], "a", strength=2, reason="clear")
    pulled = pull(desk.client, desk.store)
    assert pulled.counts == {"UNCHANGED": 1}
    assert desk.store.judgements.digest() == before


def test_a_changed_answer_supersedes_and_the_first_is_kept(desk):
    tasks = desk.push(ITEMS)
    desk.answer("ann", tasks[0], "a")
    pull(desk.client, desk.store)
    desk.answer("ann", tasks[0], "b", reason="looked again")
    pulled = pull(desk.client, desk.store)
    assert pulled.counts == {"CHANGED": 1}
    assert [(item.ranks, item.revision) for item in stored(desk)] == [((1, 2), 0), ((2, 1), 1)]
    counted = counted_judgements(stored(desk))
    assert [item.ranks for item in counted.kept] == [(2, 1)]
    assert counted.left_out == {"SUPERSEDED": 1}


def test_drafts_discards_and_suggestions_are_counted_and_never_votes(desk):
    tasks = desk.push(ITEMS)
    desk.answer("ann", tasks[0], "a", status="draft")
    desk.answer("bob", tasks[0], None, status="discarded")
    desk.answer("ann", tasks[1], "tie")
    desk.suggest(tasks[2], "a")
    pulled = pull(desk.client, desk.store)
    assert pulled.counts == {"NEW": 1, "DRAFT": 1, "DISCARDED": 1, "SUGGESTION": 1}
    assert len(stored(desk)) == 1


@pytest.mark.parametrize("status", ["draft", "discarded"])
def test_an_answer_that_is_taken_back_counts_no_more_until_it_is_given_again(desk, status):
    tasks = desk.push(ITEMS)
    desk.answer("ann", tasks[0], "a")
    pull(desk.client, desk.store)
    desk.answer("ann", tasks[0], "a", status=status)
    assert pull(desk.client, desk.store).counts["RETRACTED"] == 1
    counted = counted_judgements(stored(desk))
    assert (counted.kept, counted.left_out) == ([], {"SUPERSEDED": 1, status.upper(): 1})
    assert pull(desk.client, desk.store).counts["RETRACTED"] == 0
    desk.answer("ann", tasks[0], "a")
    assert pull(desk.client, desk.store).counts["CHANGED"] == 1
    assert [item.revision for item in counted_judgements(stored(desk)).kept] == [2]


def test_a_criterion_is_kept_apart(argilla_server, tmp_path):
    desk = Desk(argilla_server.url, argilla_server.api_key, tmp_path, criteria=("Is it true?",))
    (task, *_) = desk.push(ITEMS)
    desk.answer("ann", task, "a", is_it_true="both_bad")
    assert pull(desk.client, desk.store).counts["NEW"] == 1
    (overall,) = counted_judgements(stored(desk)).kept
    (truth,) = counted_judgements(stored(desk), question="is_it_true").kept
    assert (overall.ranks, truth.ranks, truth.both_bad) == ((1, 2), (1, 1), True)


def test_ranks_and_ties_of_a_ranking_are_kept(argilla_server, tmp_path):
    desk = Desk(argilla_server.url, argilla_server.api_key, tmp_path, kind="ranking")
    (task,) = desk.push([item("Which?", "gold", "silver", "also silver", "wood")])
    place = {"gold": 1, "silver": 2, "also silver": 2, "wood": 4}
    said = [
        {"value": str(n), "rank": place[candidate.completion.text]}
        for n, candidate in enumerate(task.candidates, start=1)
    ]
    (dataset,) = [d for d in desk.client.datasets() if d["name"].startswith(f"prefs-{desk.mark}")]
    record = desk.records(dataset["id"])[task.id]
    body = {"items": [{"record_id": record["id"], "status": "submitted"}]}
    body["items"][0]["values"] = {"overall": {"value": list(reversed(said))}}
    (result,) = desk.clients["ann"].post("/me/responses/bulk", body)["items"]
    assert result["error"] is None
    assert pull(desk.client, desk.store).counts["NEW"] == 1
    (judgement,) = stored(desk)
    texts = [candidate.completion.text for candidate in task.candidates]
    assert dict(zip(texts, judgement.ranks, strict=True)) == {
        "gold": 1,
        "silver": 2,
        "also silver": 2,
        "wood": 3,
    }


def test_only_answers_given_or_changed_after_a_suggestion_are_assisted(desk):
    first, second, third, _ = desk.push(ITEMS)
    desk.answer("ann", first, "a")
    desk.answer("ann", second, "a")
    pull(desk.client, desk.store)
    desk.answer("bob", first, "b")
    for task in (first, second, third):
        desk.suggest(task, "a")
    desk.answer("ann", second, "b")
    desk.answer("bob", third, "a")
    pulled = pull(desk.client, desk.store)
    assert pulled.counts == {"NEW": 2, "CHANGED": 1, "UNCHANGED": 1, "SUGGESTION": 3}
    counted = counted_judgements(stored(desk))
    blind = {(item.annotator.name, item.task_id) for item in counted.kept}
    assert blind == {(desk.people["ann"], first.id), (desk.people["bob"], first.id)}
    assert counted.left_out == {"ASSISTED": 2, "SUPERSEDED": 1}


def test_the_same_answer_sent_again_under_a_suggestion_stays_blind(desk):
    (task, *_) = desk.push(ITEMS)
    desk.answer("ann", task, "a")
    pull(desk.client, desk.store)
    desk.suggest(task, "a")
    desk.answer("ann", task, "a")
    assert pull(desk.client, desk.store).counts["UNCHANGED"] == 1
    assert [item.mode for item in stored(desk)] == ["blind"]


def test_every_answer_of_an_assisted_dataset_is_marked(argilla_server, tmp_path):
    desk = Desk(argilla_server.url, argilla_server.api_key, tmp_path, assisted=True)
    (task, *_) = desk.push(ITEMS)
    assert task.assisted
    desk.answer("ann", task, "a")
    pull(desk.client, desk.store)
    assert [item.mode for item in stored(desk)] == ["assisted"]


def test_what_the_server_loses_with_a_user_stays_and_is_reported_missing(desk):
    tasks = desk.push(ITEMS)
    desk.answer("ann", tasks[0], "a")
    desk.answer("bob", tasks[0], "b")
    pull(desk.client, desk.store)
    desk.delete_person("ann")
    pulled = pull(desk.client, desk.store)
    assert pulled.missing == [(tasks[0].id, desk.people["ann"])]
    (warning,) = pulled.warnings()
    assert tasks[0].id in warning
    assert len(counted_judgements(stored(desk)).kept) == 2


def test_what_the_server_loses_with_a_dataset_stays_and_is_reported_missing(desk):
    tasks = desk.push(ITEMS)
    desk.answer("ann", tasks[0], "a")
    pull(desk.client, desk.store)
    desk.client.delete(f"/datasets/{desk.dataset_id}")
    pulled = pull(desk.client, desk.store)
    assert [item.task_id for item in pulled.missing] == [tasks[0].id]
    assert pulled.absent == [(f"prefs-{desk.mark}", f"desk-{desk.mark}")]
    assert len(counted_judgements(stored(desk)).kept) == 1


def test_a_person_keeps_the_name_that_their_stored_answers_have(desk):
    tasks = desk.push(ITEMS)
    desk.answer("ann", tasks[0], "a")
    pull(desk.client, desk.store)
    desk.client.patch(f"/users/{desk.user_ids['ann']}", {"username": f"anna-{desk.mark}"})
    desk.answer("ann", tasks[1], "a")
    pulled = pull(desk.client, desk.store)
    assert (pulled.counts, pulled.missing) == ({"NEW": 1, "UNCHANGED": 1}, [])
    assert {item.annotator.name for item in stored(desk)} == {desk.people["ann"]}


def test_an_answer_to_a_record_of_another_store_is_counted_and_its_mending_told(desk, tmp_path):
    tasks = desk.push(ITEMS)
    desk.answer("ann", tasks[0], "a")
    empty = AnnotationStore(tmp_path / "lost")
    pulled = pull(desk.client, empty, datasets=[f"prefs-{desk.mark}"])
    assert (pulled.counts, pulled.unknown_tasks) == ({"UNKNOWN_TASK": 1}, [tasks[0].id])
    (warning,) = pulled.warnings()
    assert "restore the store's folder, or push with the config" in warning
    assert list(empty.judgements.read()) == []


def test_a_pull_of_some_datasets_leaves_the_others_alone(argilla_server, tmp_path):
    first, second = (
        Desk(argilla_server.url, argilla_server.api_key, tmp_path, ("ann",), overlap=1)
        for _ in range(2)
    )
    for desk in (first, second):
        (task, *_) = desk.push(ITEMS)
        desk.answer("ann", task, "a")
    one = [f"prefs-{first.mark}"]
    assert pull(first.client, first.store, datasets=one).counts["NEW"] == 1
    first.delete_person("ann")
    second.delete_person("ann")
    pulled = pull(first.client, first.store, datasets=one)
    assert [item.annotator for item in pulled.missing] == [first.people["ann"]]
    assert pull(first.client, first.store, datasets=[]).datasets == []


def test_a_store_made_again_by_a_push_understands_the_answers(desk, tmp_path):
    tasks = desk.push(ITEMS)
    desk.answer("ann", tasks[0], "a")
    pull(desk.client, desk.store)
    before = stored(desk)
    desk.store = AnnotationStore(tmp_path / "again")
    desk.push(ITEMS)
    pull(desk.client, desk.store)
    assert stored(desk) == before


def test_a_record_that_shows_the_texts_in_another_order_is_refused(desk, tmp_path):
    (task, *_) = desk.push(ITEMS)
    desk.answer("ann", task, "a")
    turned = LabelTask(
        **{
            **{name: getattr(task, name) for name in LabelTask.model_fields if name != "id"},
            "candidates": task.candidates[::-1],
        }
    )
    assert turned.id == task.id
    store = AnnotationStore(tmp_path / "turned")
    store.tasks.append([turned])
    pulled = pull(desk.client, store)
    ((task_id, annotator, reason, message),) = pulled.unreadable
    assert (task_id, annotator, reason) == (task.id, desk.people["ann"], "OTHER_TEXT")
    assert "order" in message
    assert list(store.judgements.read()) == []


def test_forgotten_people_and_prompts_are_not_pulled_again(desk):
    tasks = desk.push(ITEMS)
    for task in tasks:
        desk.answer("ann", task, "a")
        desk.answer("bob", task, "b")
    pull(desk.client, desk.store)
    desk.store.forget_annotator(desk.people["ann"])
    desk.store.forget_prompt(tasks[0].prompt.id)
    pulled = pull(desk.client, desk.store)
    assert pulled.counts == {"FORGOTTEN": 5, "UNCHANGED": 3}
    assert pulled.missing == []
    assert pulled.unknown_tasks == []
    assert {item.annotator.name for item in stored(desk)} == {desk.people["bob"]}


def test_a_dataset_without_any_answer_is_pulled_as_such(desk):
    desk.push(ITEMS)
    pulled = pull(desk.client, desk.store)
    assert (pulled.counts, pulled.datasets[0].records, stored(desk)) == ({}, 4, [])


def test_an_empty_store_asks_for_no_dataset(desk):
    assert pull(desk.client, desk.store).datasets == []


def test_records_pushed_while_they_are_listed_are_each_read_once(desk, argilla_server):
    desk.push(ITEMS)
    many = [item(f"Many {n}?", f"x {n}", f"y {n}") for n in range(100)]
    dataset_id = desk.dataset_id
    pushing = threading.Thread(target=desk.push, args=([*ITEMS, *many],))
    pushing.start()
    reader = Client(argilla_server.url, argilla_server.api_key)
    while pushing.is_alive():
        ids = read_records(reader, dataset_id, lambda record: record["id"], page=37)
        assert len(ids) == len(set(ids))
    pushing.join()
    assert len(read_records(reader, dataset_id, lambda record: record["id"], page=37)) == 104


class Listing:
    """A server of one listing whose records come and go between two pages."""

    url = "http://a.test"

    def __init__(self, changes: dict[int, Any]) -> None:
        self.ids = [f"r{n:03}" for n in range(20)]
        self.calls = 0
        self.changes = changes

    def get(self, path: str, *, params: dict[str, Any]) -> dict[str, Any]:
        self.calls += 1
        self.changes.get(self.calls, lambda ids: None)(self.ids)
        page = self.ids[params["offset"] : params["offset"] + params["limit"]]
        return {"items": [{"id": name} for name in page], "total": len(self.ids)}


@pytest.mark.parametrize(
    "change",
    [
        lambda ids: ids.append("late"),
        lambda ids: ids.insert(2, "early"),
        lambda ids: ids.insert(9, "near"),
        lambda ids: ids.remove("r000"),
        lambda ids: ids.remove("r006"),
        lambda ids: ids.remove("r007"),
        lambda ids: ids.remove("r019"),
        lambda ids: (ids.remove("r001"), ids.append("late")),
        lambda ids: ids.insert(10, ids.pop(3)),
        lambda ids: ids.clear(),
    ],
)
@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_listing_that_shifts_between_pages_is_read_again_from_its_start(
    change, call, monkeypatch
):
    monkeypatch.setattr("curation.argilla.reading.time.sleep", lambda seconds: None)
    server = Listing({call: change})
    ids = read_records(server, "d", lambda record: record["id"], page=8)
    assert sorted(ids) == sorted(server.ids)


def test_a_listing_that_never_holds_still_is_an_error_and_not_a_part(monkeypatch):
    monkeypatch.setattr("curation.argilla.reading.time.sleep", lambda seconds: None)
    server = Listing({n: lambda ids: ids.pop(0) for n in range(2, 50, 2)})
    with pytest.raises(ConnectionError, match="kept coming and going"):
        read_records(server, "d", lambda record: record["id"], page=4)
