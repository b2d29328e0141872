"""A dataset is made once, keeps what it asks, and is never left half made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from curation.argilla.push import push
from curation.argilla.settings import dataset_settings
from curation.argilla.tasks import LabelPlan, plan_tasks
from schemas.records import Candidate, Prompt
from tests.curation.argilla.desk import Desk, item

Item = tuple[Prompt, list[Candidate]]


@pytest.fixture
def desk(argilla_server: Any, tmp_path: Path) -> Desk:
    return Desk(argilla_server.url, argilla_server.api_key, tmp_path)


def pairs(count: int, start: int = 0) -> list[Item]:
    return [item(f"Question {n}?", f"good {n}", f"bad {n}") for n in range(start, start + count)]


def planned(desk: Desk, items: Sequence[Item], **keys: Any) -> LabelPlan:
    config = desk.config.model_copy(update=keys)
    return plan_tasks(config, items, [], desk.store.tasks.read(), seed=0)


@pytest.mark.parametrize("change", [{"overlap": 1}, {"criteria": ("Tone",)}])
def test_a_dataset_that_asks_something_else_is_never_changed(
    desk: Desk, change: dict[str, Any]
) -> None:
    desk.push(pairs(1))
    config = desk.config.model_copy(update=change)
    with pytest.raises(ValueError, match=r"give label\.dataset another name"):
        push(desk.client, desk.store, plan_tasks(config, pairs(3, start=5), [], [], seed=0))
    assert len(desk.records()) == 1


def test_new_guidelines_reach_a_dataset_that_is_there(desk: Desk, tmp_path: Path) -> None:
    desk.push(pairs(1))
    path = tmp_path / "guidelines.md"
    path.write_text("# Be kind", encoding="utf-8")
    push(desk.client, desk.store, planned(desk, pairs(1), guidelines=path))
    assert desk.client.get(f"/datasets/{desk.dataset_id}")["guidelines"] == "# Be kind"


def test_another_layout_and_a_title_reach_a_dataset_that_is_there(desk: Desk) -> None:
    before = planned(desk, pairs(1), criteria=("Tone",), layout="stacked")
    push(desk.client, desk.store, before)
    answers = desk.records()
    push(
        desk.client,
        desk.store,
        planned(desk, pairs(1), criteria=("Tone!",), layout="side_by_side"),
    )
    path = f"/datasets/{desk.dataset_id}"
    (field,) = desk.client.get(f"{path}/fields")["items"]
    assert "side_by_side" in field["settings"]["template"]
    assert field["settings"]["advanced_mode"] is True
    titles = {one["name"]: one["title"] for one in desk.client.get(f"{path}/questions")["items"]}
    assert titles["tone"] == "Tone!: which answer is better?"
    assert desk.records() == answers


@pytest.mark.parametrize("parts", [0, 1])
def test_a_dataset_left_half_made_is_finished_and_never_deleted(desk: Desk, parts: int) -> None:
    workspace = desk.client.workspaces()[next(iter(desk.config.workspaces))]
    half = {"name": f"prefs-{desk.mark}", "workspace_id": workspace}
    draft = desk.client.post("/datasets", half)["id"]
    plan = planned(desk, pairs(2))
    if parts:
        made = dataset_settings(plan.config, plan.tasks[0])
        desk.client.post(f"/datasets/{draft}/fields", made.fields[0])
        desk.client.post(f"/datasets/{draft}/questions", made.questions[0])
    push(desk.client, desk.store, plan)
    assert desk.dataset_id == draft
    assert len(desk.records()) == 2
    found = desk.client.get(f"/datasets/{draft}")
    assert (found["status"], found["allow_extra_metadata"]) == ("ready", False)
    assert found["distribution"]["min_submitted"] == 2


def test_a_draft_that_asks_something_else_is_left_as_it_is(desk: Desk) -> None:
    workspace = desk.client.workspaces()[next(iter(desk.config.workspaces))]
    half = {"name": f"prefs-{desk.mark}", "workspace_id": workspace}
    draft = desk.client.post("/datasets", half)["id"]
    theirs = {"name": "mood", "title": "Mood?", "required": True, "settings": {"type": "text"}}
    desk.client.post(f"/datasets/{draft}/questions", theirs)
    with pytest.raises(ValueError, match=r"give label\.dataset another name"):
        push(desk.client, desk.store, planned(desk, pairs(2)))
    assert [one["id"] for one in desk.client.datasets(workspace)] == [draft]
    assert desk.client.get(f"/datasets/{draft}")["status"] == "draft"
