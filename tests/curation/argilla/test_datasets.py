"""A dataset is made once, keeps what it asks, and is never left half made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from curation.argilla.push import push
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


def test_a_dataset_left_half_made_is_made_anew(desk: Desk) -> None:
    workspace = desk.client.workspaces()[next(iter(desk.config.workspaces))]
    desk.client.post("/datasets", {"name": f"prefs-{desk.mark}", "workspace_id": workspace})
    desk.push(pairs(2))
    assert len(desk.records()) == 2
