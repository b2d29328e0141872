"""Tasks become records on the server, each once, whatever was cut short before.

Everything is checked before the first request. The annotation store learns of a task before the
server does, so that no answer can come back that is not understood. A record's `external_id` is
its task's id: what is there already is left as it is, and never edited.
"""

import contextlib
import fcntl
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic_core import PydanticSerializationError

from curation.argilla.accounts import workspace_ids
from curation.argilla.client import Client, RefusedError
from curation.argilla.datasets import ensure_dataset
from curation.argilla.names import check_account_names
from curation.argilla.reading import read_records
from curation.argilla.settings import (
    DatasetSettings,
    dataset_settings,
    record_fields,
    record_metadata,
    shown_differently,
)
from curation.argilla.tasks import LabelPlan
from schemas.annotations import AnnotationStore
from schemas.labels import LabelTask
from schemas.records import content_hash

BATCH_RECORDS = 250
BATCH_BYTES = 4_000_000
LONGEST_RECORD = 1_000_000
"""Characters of the record's JSON; a page with more cannot be read by a person anyway."""


PATIENCE = 20.0
"""Seconds that a push waits for another with the same annotation store."""


class RefusedTask(NamedTuple):
    """A task that was not sent."""

    task_id: str
    reason: str
    """DUPLICATE, TOO_LARGE, NOT_UNICODE, FORGOTTEN, or SHOWN_DIFFERENTLY."""
    message: str

    @property
    def for_good(self) -> bool:
        """Whether no later push sends it either, so that nobody can answer it."""
        return self.reason in ("TOO_LARGE", "NOT_UNICODE", "FORGOTTEN")


class PushedDataset(NamedTuple):
    dataset: str
    workspace: str
    id: str
    """Its id on the server: the page is at `/dataset/<id>/annotation-mode`."""
    added: int
    present: int
    """Records that were there already."""


class Pushed(NamedTuple):
    """What a push did."""

    datasets: list[PushedDataset]
    refused: list[RefusedTask]

    @property
    def added(self) -> int:
        return sum(item.added for item in self.datasets)

    @property
    def present(self) -> int:
        return sum(item.present for item in self.datasets)


class _Prepared(NamedTuple):
    task: LabelTask
    body: dict[str, Any]
    size: int


def push(
    client: Client,
    store: AnnotationStore,
    plan: LabelPlan,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Pushed:
    """What was added to the server and what was there; a plan without tasks sends no request.

    `progress` is told how many records of how many are done. A push that was cut short goes on
    where it ended.

    Raises:
        ValueError: the plan cannot be pushed as it is, the server lacks workspaces or annotators
            (one error names all), or another push goes on; nothing was sent.
        ConnectionError: the server went away; what arrived stays, and is not sent again.
    """
    prepared, refused = _checked(store, plan.tasks)
    if not prepared:
        return Pushed([], refused)
    check_account_names(plan.config.workspaces, what="workspace")
    groups = _grouped(prepared)
    settings = {place: _settings(plan, group) for place, group in groups.items()}
    with _alone(store):
        ids = workspace_ids(client, plan.config)
        datasets, others = _fill(client, store, groups, settings, ids, progress)
    return Pushed(datasets, refused + others)


def _fill(
    client: Client,
    store: AnnotationStore,
    groups: Mapping[tuple[str, str], list[_Prepared]],
    settings: Mapping[tuple[str, str], DatasetSettings],
    ids: Mapping[str, str],
    progress: Callable[[int, int], None],
) -> tuple[list[PushedDataset], list[RefusedTask]]:
    """The datasets with their records on the server, and the tasks shown differently there."""
    datasets = []
    refused: list[RefusedTask] = []
    done, total = 0, sum(map(len, groups.values()))
    for (workspace, name), group in groups.items():
        dataset_id, is_new = ensure_dataset(client, name, ids[workspace], settings[workspace, name])
        there = {} if is_new else _records_there(client, dataset_id)
        missing = [item for item in group if item.task.id not in there]
        found = [item.task for item in group if item.task.id in there]
        others = _shown_differently(found, there)
        refused += others
        strange = {item.task_id for item in others}
        store.tasks.append(item.task for item in group if item.task.id not in strange)
        done += len(group) - len(missing)
        progress(done, total)
        for batch in _batches(missing):
            _send(client, name, dataset_id, batch)
            done += len(batch)
            progress(done, total)
        present = len(found) - len(others)
        datasets.append(PushedDataset(name, workspace, dataset_id, len(missing), present))
    return datasets, refused


@contextlib.contextmanager
def _alone(store: AnnotationStore) -> Iterator[None]:
    """No other push with this store goes on meanwhile."""
    store.folder.mkdir(parents=True, exist_ok=True)
    with open(store.folder / ".push.lock", "a") as file:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise ValueError(
                        f"another push with the annotations in '{store.folder}' has gone on for "
                        f"{PATIENCE:g} s; push again when it is done"
                    ) from None
                time.sleep(0.1)
        yield


def _checked(
    store: AnnotationStore, tasks: Iterable[LabelTask]
) -> tuple[list[_Prepared], list[RefusedTask]]:
    """The tasks as the server takes them, and those that must not be sent."""
    forgotten = {stone.hash for stone in store.tombstones.read() if stone.kind == "prompt"}
    prepared: list[_Prepared] = []
    refused = []
    seen = set()
    for task in tasks:
        body = {
            "external_id": task.id,
            "fields": record_fields(task),
            "metadata": record_metadata(task),
        }
        size = len(json.dumps(body, ensure_ascii=False))
        if task.id in seen:
            refused.append(RefusedTask(task.id, "DUPLICATE", "the plan holds it twice"))
        elif content_hash(task.prompt.id) in forgotten:
            refused.append(RefusedTask(task.id, "FORGOTTEN", "its prompt was forgotten for good"))
        elif not _storable(task):
            message = "half a surrogate pair in its texts is no Unicode, and no file can hold it"
            refused.append(RefusedTask(task.id, "NOT_UNICODE", message))
        elif size > LONGEST_RECORD:
            message = f"{size:,} characters; the page takes {LONGEST_RECORD:,}"
            refused.append(RefusedTask(task.id, "TOO_LARGE", message))
        else:
            prepared.append(_Prepared(task, body, size))
        seen.add(task.id)
    return prepared, refused


def _storable(task: LabelTask) -> bool:
    try:
        task.model_dump_json()
    except PydanticSerializationError:
        return False
    return True


def _grouped(prepared: Iterable[_Prepared]) -> dict[tuple[str, str], list[_Prepared]]:
    """What goes into each dataset, by workspace and name, in the plan's order."""
    groups: dict[tuple[str, str], list[_Prepared]] = {}
    for item in prepared:
        groups.setdefault((item.task.workspace, item.task.dataset), []).append(item)
    return groups


def _settings(plan: LabelPlan, group: Sequence[_Prepared]) -> DatasetSettings:
    first = group[0].task
    for item in group:
        task = item.task
        if (len(task.candidates), task.overlap) != (len(first.candidates), first.overlap):
            raise ValueError(
                f"dataset '{first.dataset}' in workspace '{first.workspace}' would hold records "
                f"with {len(first.candidates)} answers and overlap {first.overlap}, and with "
                f"{len(task.candidates)} and {task.overlap}; a dataset fixes both, so give "
                "label.dataset another name"
            )
    return dataset_settings(plan.config, first)


def _shown_differently(
    tasks: Iterable[LabelTask], there: Mapping[str, dict[str, Any]]
) -> list[RefusedTask]:
    """The tasks whose records say something else: the store that made them is not this one."""
    refused = []
    for task in tasks:
        why = shown_differently(task, there[task.id])
        if why is not None:
            message = f"{why}; push with the annotations folder it was planned with"
            refused.append(RefusedTask(task.id, "SHOWN_DIFFERENTLY", message))
    return refused


def _records_there(client: Client, dataset_id: str) -> dict[str, dict[str, Any]]:
    """The fields of the dataset's records by `external_id`."""
    rows = read_records(client, dataset_id, lambda item: (item["external_id"], item["fields"]))
    return {external_id: fields for external_id, fields in rows if external_id}


def _batches(items: Iterable[_Prepared]) -> Iterator[list[_Prepared]]:
    batch: list[_Prepared] = []
    size = 0
    for item in items:
        if batch and (len(batch) == BATCH_RECORDS or size + item.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item.size
    if batch:
        yield batch


def _send(client: Client, name: str, dataset_id: str, batch: Sequence[_Prepared]) -> None:
    """The batch is on the server, and no record that was there is changed."""
    ids = ", ".join(item.task.id for item in batch[:20])
    more = f" and {len(batch) - 20} more" if len(batch) > 20 else ""
    try:
        client.post(
            f"/datasets/{dataset_id}/records/bulk",
            {"items": [item.body for item in batch]},
            about=f"add {len(batch)} records to '{name}': {ids}{more}",
        )
    except RefusedError:
        # A batch is stored whole or not at all: a first try arrived, and its answer was lost.
        there = _records_there(client, dataset_id)
        missing = [item for item in batch if item.task.id not in there]
        if len(missing) == len(batch):
            raise
        if missing:
            _send(client, name, dataset_id, missing)
