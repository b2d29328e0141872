"""How far annotators are, counted by what each of them submitted."""

from pathlib import Path
from typing import Any

import pytest

from curation.argilla.pull import pull
from curation.argilla.status import DatasetStatus, status
from tests.curation.argilla.desk import Desk, item

ITEMS = [item(f"Question {n}?", f"good {n}", f"bad {n}") for n in range(3)]


@pytest.fixture
def desk(argilla_server: Any, tmp_path: Path) -> Desk:
    return Desk(
        argilla_server.url, argilla_server.api_key, tmp_path, ("ann", "bob", "cem"), overlap=3
    )


def test_a_discarded_answer_does_not_complete_a_record(desk):
    tasks = desk.push(ITEMS)
    desk.answer("ann", tasks[0], "a")
    desk.answer("bob", tasks[0], "a")
    desk.answer("cem", tasks[0], None, status="discarded")
    for who in ("ann", "bob", "cem"):
        desk.answer(who, tasks[1], "tie")
    desk.answer("ann", tasks[2], "a", status="draft")
    found = status(desk.client, desk.store)
    assert found.needs_more == {tasks[0].id: 1, tasks[2].id: 3}
    assert found.datasets == [
        DatasetStatus(
            dataset=f"prefs-{desk.mark}",
            workspace=f"desk-{desk.mark}",
            records=3,
            complete=1,
            needs_more=2,
            answers_needed=4,
            submitted=5,
            drafts=1,
            discarded=1,
            to_pull=5,
            unreadable=0,
        )
    ]


def test_each_annotator_has_a_row_also_who_did_nothing(desk):
    tasks = desk.push(ITEMS)
    desk.answer("ann", tasks[0], "a")
    desk.answer("ann", tasks[1], "a", status="draft")
    desk.answer("bob", tasks[0], None, status="discarded")
    pull(desk.client, desk.store)
    desk.answer("ann", tasks[2], "b")
    rows = {row.annotator: row for row in status(desk.client, desk.store).annotators}
    figures = {
        short: (row.submitted, row.drafts, row.discarded, row.left, row.to_pull)
        for short, name in desk.people.items()
        for row in [rows[name]]
    }
    assert figures == {"ann": (2, 1, 0, 0, 1), "bob": (0, 0, 1, 2, 0), "cem": (0, 0, 0, 3, 0)}


def test_a_complete_record_is_left_to_nobody(argilla_server, tmp_path):
    people = ("ann", "bob", "cem")
    desk = Desk(argilla_server.url, argilla_server.api_key, tmp_path, people, overlap=2)
    tasks = desk.push(ITEMS)
    for task in tasks:
        desk.answer("ann", task, "a")
    rows = status(desk.client, desk.store).annotators
    assert [(row.annotator, row.left) for row in rows] == [
        (desk.people["ann"], 0),
        (desk.people["bob"], 3),
        (desk.people["cem"], 3),
    ]
    for task in tasks:
        desk.answer("bob", task, "a")
    assert [row.left for row in status(desk.client, desk.store).annotators] == [0, 0, 0]


def test_an_excluded_persons_answers_do_not_complete_a_record(desk):
    (task, *_) = desk.push(ITEMS[:1])
    for who in ("ann", "bob", "cem"):
        desk.answer(who, task, "a")
    assert status(desk.client, desk.store).needs_more == {}
    desk.store.decide(desk.people["cem"], "exclude", "always A")
    found = status(desk.client, desk.store)
    assert found.needs_more == {task.id: 1}
    assert [row.annotator for row in found.annotators if row.excluded] == [desk.people["cem"]]
    desk.store.decide(desk.people["cem"], "include", "a mistake")
    assert status(desk.client, desk.store).needs_more == {}


def test_an_answer_that_the_server_lost_still_completes_its_record(desk):
    (task, *_) = desk.push(ITEMS[:1])
    for who in ("ann", "bob", "cem"):
        desk.answer(who, task, "a")
    pull(desk.client, desk.store)
    desk.delete_person("cem")
    found = status(desk.client, desk.store)
    assert found.needs_more == {}
    assert [row.submitted for row in found.datasets] == [2]


def test_after_a_pull_nothing_is_left_to_pull_until_an_answer_changes(desk):
    tasks = desk.push(ITEMS)
    for task in tasks:
        desk.answer("ann", task, "a")
    assert status(desk.client, desk.store).datasets[0].to_pull == 3
    pull(desk.client, desk.store)
    assert status(desk.client, desk.store).datasets[0].to_pull == 0
    desk.answer("ann", tasks[0], "b")
    desk.answer("ann", tasks[1], None, status="discarded")
    assert status(desk.client, desk.store).datasets[0].to_pull == 2


def test_a_dataset_that_the_server_has_not_is_named_and_nothing_is_complete(desk):
    desk.push(ITEMS)
    desk.client.delete(f"/datasets/{desk.dataset_id}")
    found = status(desk.client, desk.store)
    assert found.absent == [(f"prefs-{desk.mark}", f"desk-{desk.mark}")]
    assert (found.datasets, found.needs_more) == ([], {})
