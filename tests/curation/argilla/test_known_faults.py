"""What others lost with Argilla, on a live server: nothing is replaced, guessed or refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curation.argilla.accounts import ensure_annotators
from curation.argilla.names import dataset_name
from curation.argilla.pull import pull
from curation.argilla.push import push
from curation.argilla.suggest import suggest
from curation.argilla.tasks import plan_tasks
from curation.votes import counted_judgements, votes_of
from schemas.configs import LabelConfig, WorkspaceConfig
from schemas.records import Annotator, Judgement
from tests.curation.argilla.desk import Desk, item


@pytest.fixture
def desk(argilla_server: Any, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(argilla_server.url, argilla_server.api_key, tmp_path)
    yield desk
    desk.client.close()


def test_a_second_subset_joins_the_first_and_replaces_nothing(desk: Desk) -> None:
    (first,) = desk.push([item("p1", "x", "y")])
    (second,) = desk.push([item("p2", "x", "y")])
    assert desk.records().keys() == {first.id, second.id}
    desk.push([item("p1", "x", "y")])
    assert desk.records().keys() == {first.id, second.id}
    # Another candidate is another question; another order is the same one.
    desk.push([item("p1", "y", "x")])
    assert len(desk.records()) == 2
    desk.push([item("p1", "x", "z")])
    assert len(desk.records()) == 3


@pytest.mark.parametrize(
    ("workspace", "people", "title"),
    [
        ("My Team", ["Ann Smith", "ann@example.org"], "My Prefs v1"),
        ("équipe", ["Zoë", "'quoted\""], "DS_NAME: \N{GRINNING FACE}"),
    ],
)
def test_names_as_people_write_them_reach_the_server(
    desk: Desk, workspace: str, people: list[str], title: str
) -> None:
    mark = desk.mark
    config = LabelConfig(
        dataset=f"{title} {mark}",
        workspaces={
            f"{workspace} {mark}": WorkspaceConfig(
                annotators=tuple(f"{name} {mark}" for name in people)
            )
        },
        criteria=("Helpful & honest", "安全"),
        overlap=1,
    )
    ensure_annotators(desk.client, config)
    plan = plan_tasks(config, [item("q", "x", "y")], [], [], seed=0)
    (pushed,) = push(desk.client, desk.store, plan).datasets
    assert (pushed.dataset, pushed.added) == (dataset_name(config.dataset), 1)


def test_a_ranking_left_half_done_places_nothing(argilla_server: Any, tmp_path: Path) -> None:
    desk = Desk(argilla_server.url, argilla_server.api_key, tmp_path, kind="ranking")
    (task,) = desk.push([item("q", "x", "y", "z")])
    (dataset,) = [one for one in desk.client.datasets() if one["name"] == task.dataset]
    record_id = desk.records(dataset["id"])[task.id]["id"]
    values = {"overall": {"value": [{"value": "1", "rank": 1}]}}
    body = {"items": [{"record_id": record_id, "status": "draft", "values": values}]}
    (answer,) = desk.clients["ann"].post("/me/responses/bulk", body)["items"]
    assert answer["error"] is None
    assert pull(desk.client, desk.store).counts == {"DRAFT": 1}
    assert list(desk.store.judgements.read()) == []


@pytest.mark.parametrize("name", ["org/RM 8B (v1)", "-rm", "奖励", "n" * 300])
def test_raw_rewards_of_a_machine_of_any_name_are_taken_as_a_suggestion(
    desk: Desk, name: str
) -> None:
    (task,) = desk.push([item("q", "x", "y")])
    for who in ("ann", "bob"):
        desk.answer(who, task, "a")
    opinion = Judgement(
        prompt_id=task.prompt.id,
        annotator=Annotator(kind="reward_model", name=name),
        candidates=task.shown,
        scores=(-3.2, 1e6),
    )
    assert suggest(desk.client, desk.store, desk.config, [opinion]).attached == 1
    (suggestion,) = desk.records()[task.id]["suggestions"]
    assert (suggestion["value"], suggestion["score"]) == ("b", 1.0)
    # And a suggestion is nobody's vote.
    pulled = pull(desk.client, desk.store)
    assert pulled.counts == {"NEW": 2, "SUGGESTION": 1}
    votes = votes_of(counted_judgements(desk.store.judgements.read()).kept)
    assert len(votes) == 2
