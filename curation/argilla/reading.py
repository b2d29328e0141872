"""The records of our datasets as the server holds them, each with all its responses."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from curation.argilla.answers import CHOICES
from curation.argilla.client import Client
from curation.argilla.settings import shown_differently
from schemas.labels import LabelTask

T = TypeVar("T")

PAGE = 500
PASSES = 6
"""How often a listing is begun again because records came or went in the middle of it."""


class Response(NamedTuple):
    """A response as the server sends it, whatever its status."""

    id: str
    user_id: str | None
    status: str
    values: Mapping[str, Any]
    changed_at: datetime | None


class ServerRecord(NamedTuple):
    """What pulling needs of a record."""

    task_id: str
    problem: str | None
    """Why its answers cannot be understood although the task is known."""
    responses: list[Response]
    suggestions: int
    suggested_at: datetime | None
    """When the first of its suggestions was attached."""
    complete: bool = False
    """Whether the server counts it as complete, and so puts it before nobody any more."""


class Sheet(NamedTuple):
    """One dataset on the server."""

    dataset: str
    workspace: str
    workspace_id: str
    questions: set[str]
    """Those that are answered by a choice of ours or a ranking: the overall one and criteria."""
    records: list[ServerRecord]


class Found(NamedTuple):
    sheets: list[Sheet]
    absent: list[tuple[str, str]]
    """Dataset and workspace of tasks in the store that this server has not got."""


def read_sheets(
    client: Client, tasks: Mapping[str, LabelTask], *, datasets: Collection[str] = ()
) -> Found:
    """The datasets that the tasks are in, and those named of which no task is known."""
    workspaces = client.workspace_names()
    wanted = dict.fromkeys((task.dataset, task.workspace) for task in tasks.values())
    unknown = set(datasets) - {task.dataset for task in tasks.values()}
    sheets = []
    for dataset in client.datasets():
        name = dataset["name"]
        workspace = workspaces.get(dataset["workspace_id"], "")
        if (name, workspace) not in wanted and name not in unknown:
            continue

        def slim(item: dict[str, Any]) -> ServerRecord:
            task_id = item["external_id"] or item["id"]
            task = tasks.get(task_id)
            problem = None if task is None else shown_differently(task, item["fields"])
            return _server_record(item, task_id, problem)

        sheets.append(
            Sheet(
                dataset=name,
                workspace=workspace,
                workspace_id=dataset["workspace_id"],
                questions=_judged(client.get(f"/datasets/{dataset['id']}/questions")["items"]),
                records=read_records(client, dataset["id"], slim),
            )
        )
    found = {(sheet.dataset, sheet.workspace) for sheet in sheets}
    return Found(sheets, [place for place in wanted if place not in found])


def read_records(
    client: Client, dataset_id: str, slim: Callable[[dict[str, Any]], T], *, page: int = PAGE
) -> list[T]:
    """Each record of the dataset once, as `slim` makes it, in the order they were added.

    The server pages by offset alone, so a record that comes or goes in between shifts what
    follows. Each page therefore begins with the last record of the one before, and the listing
    starts again where that does not hold or the count does not agree.

    Raises:
        ConnectionError: the records kept changing.
    """
    with ThreadPoolExecutor(1) as ahead:
        for number in range(PASSES):
            time.sleep(0.5 * number)
            records = _read_through(client, dataset_id, slim, page, ahead)
            if records is not None:
                return records
    raise ConnectionError(
        f"the records of dataset {dataset_id} on {client.url} kept coming and going while they "
        "were listed; pull again when nothing deletes records there"
    )


def _read_through(
    client: Client,
    dataset_id: str,
    slim: Callable[[dict[str, Any]], T],
    page: int,
    ahead: ThreadPoolExecutor,
) -> list[T] | None:
    """The records, read once from first to last; None where they moved meanwhile."""

    def ask(offset: int) -> Any:
        params = {"include": ["responses", "suggestions"], "offset": offset, "limit": page}
        return client.get(f"/datasets/{dataset_id}/records", params=params)

    records: dict[str, T] = {}
    last = None
    asked = ahead.submit(ask, 0)
    while True:
        listed = asked.result()
        items = listed["items"]
        follows = max(len(records) - 1, 0) + len(items) - 1
        more = follows + 1 < listed["total"]
        if more:
            # The server makes the next page ready while this one is looked at.
            asked = ahead.submit(ask, follows)
        if last is not None and (not items or items.pop(0)["id"] != last):
            return None
        fresh = {item["id"]: slim(item) for item in items}
        if len(fresh) < len(items) or fresh.keys() & records.keys():
            return None
        records |= fresh
        if not more:
            return list(records.values()) if len(records) == listed["total"] else None
        if not fresh:
            return None
        last = items[-1]["id"]


def _server_record(item: dict[str, Any], task_id: str, problem: str | None) -> ServerRecord:
    suggestions = item.get("suggestions") or []
    return ServerRecord(
        task_id=task_id,
        problem=problem,
        responses=[
            Response(
                id=response["id"],
                user_id=response["user_id"],
                status=response["status"],
                values=response["values"] or {},
                changed_at=moment(response["updated_at"] or response["inserted_at"]),
            )
            for response in item.get("responses") or []
        ],
        suggestions=len(suggestions),
        suggested_at=_earliest(moment(each["inserted_at"]) for each in suggestions),
        complete=item["status"] == "completed",
    )


def moment(text: str | None) -> datetime | None:
    """A time of the server's, which says them in UTC without saying so."""
    if text is None:
        return None
    time_of_day = datetime.fromisoformat(text)
    return time_of_day if time_of_day.tzinfo else time_of_day.replace(tzinfo=UTC)


def _earliest(moments: Iterable[datetime | None]) -> datetime | None:
    return min((each for each in moments if each is not None), default=None)


def _judged(questions: Iterable[dict[str, Any]]) -> set[str]:
    """The questions whose options are those that we read."""
    return {question["name"] for question in questions if _is_ours(question["settings"])}


def _is_ours(settings: dict[str, Any]) -> bool:
    values = [option["value"] for option in settings.get("options", ())]
    if settings["type"] == "label_selection":
        return set(values) == set(CHOICES)
    if settings["type"] == "ranking":
        return values == [str(number) for number in range(1, len(values) + 1)]
    return False
