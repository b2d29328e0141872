"""What a person gave to the server is found whole, and nobody else's with it."""

from pathlib import Path
from typing import Any

import pytest

from curation.argilla.erase import answers_of, erase_answers
from curation.argilla.pull import pull
from tests.curation.argilla.desk import Desk, item

ITEMS = [item(f"Question {n}?", f"good {n}", f"bad {n}") for n in range(4)]


@pytest.fixture
def desk(argilla_server: Any, tmp_path: Path) -> Desk:
    return Desk(argilla_server.url, argilla_server.api_key, tmp_path)


def left(desk: Desk) -> dict[str, int]:
    """How many responses of each person the server has."""
    users = {user_id: short for short, user_id in desk.user_ids.items()}
    counts = dict.fromkeys(users.values(), 0)
    for record in desk.records().values():
        for response in record["responses"]:
            counts[users[response["user_id"]]] += 1
    return counts


def test_answers_since_the_last_pull_drafts_and_discards_go_too(desk: Desk) -> None:
    tasks = desk.push(ITEMS)
    desk.answer("ann", tasks[0], "a")
    desk.answer("bob", tasks[0], "a")
    pull(desk.client, desk.store)
    desk.answer("ann", tasks[1], "b")
    desk.answer("ann", tasks[2], "a", status="draft")
    desk.answer("ann", tasks[3], None, status="discarded")
    desk.answer("bob", tasks[3], None, status="discarded")
    theirs = answers_of(desk.client, desk.store, desk.people["ann"])
    assert erase_answers(desk.client, theirs) == 4
    assert left(desk) == {"ann": 0, "bob": 2}
    assert answers_of(desk.client, desk.store, desk.people["ann"]) == []
    assert erase_answers(desk.client, theirs) == 0


def test_an_account_that_was_renamed_is_still_the_same_person(desk: Desk) -> None:
    tasks = desk.push(ITEMS)
    desk.answer("ann", tasks[0], "a")
    pull(desk.client, desk.store)
    desk.client.patch(f"/users/{desk.user_ids['ann']}", {"username": f"anna-{desk.mark}"})
    desk.answer("ann", tasks[1], "b", status="draft")
    assert len(answers_of(desk.client, desk.store, desk.people["ann"])) == 2


def test_another_stores_dataset_is_left_alone(argilla_server: Any, tmp_path: Path) -> None:
    ours = Desk(argilla_server.url, argilla_server.api_key, tmp_path / "ours")
    other = Desk(argilla_server.url, argilla_server.api_key, tmp_path / "other", people_of=ours)
    for desk in (ours, other):
        (task, *_) = desk.push(ITEMS)
        desk.answer("ann", task, "a")
    theirs = answers_of(ours.client, ours.store, ours.people["ann"])
    assert erase_answers(ours.client, theirs) == 1
    assert left(other) == {"ann": 1, "bob": 0}
