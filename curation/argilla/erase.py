"""Answers and records taken off the server for good, when a person or a prompt is forgotten."""

from collections import defaultdict
from collections.abc import Iterable

from curation.argilla.client import Client, RefusedError
from curation.argilla.intake import annotator_of, people_of, what_is_stored
from curation.argilla.reading import read_records, read_sheets
from schemas.annotations import AnnotationStore
from schemas.labels import LabelTask

BATCH = 100
"""Records that Argilla deletes in one request."""
_GONE = 404


def answers_of(client: Client, store: AnnotationStore, name: str) -> list[str]:
    """The ids of all responses of that person to the store's datasets, whatever their status.

    It is whom a pull would store under that name, so an account renamed since is found too.

    Raises:
        ConnectionError: the server cannot be reached, or its records keep changing.
    """
    stored = what_is_stored(store)
    found = read_sheets(client, stored.tasks)
    people = people_of(found.sheets, client.users(), stored)
    return [
        response.id
        for sheet in found.sheets
        for record in sheet.records
        for response in record.responses
        if annotator_of(response, people, stored) == name
    ]


def erase_answers(client: Client, response_ids: Iterable[str]) -> int:
    """How many of the responses were there and are deleted; the account is left.

    Raises:
        ConnectionError: the server went away; do it again.
    """
    erased = 0
    for response_id in response_ids:
        try:
            client.delete(f"/responses/{response_id}", about="delete an answer")
        except RefusedError as refusal:
            if refusal.status != _GONE:
                raise
        else:
            erased += 1
    return erased


def erase_records(client: Client, tasks: Iterable[LabelTask]) -> int:
    """How many of the tasks' records were there and are deleted, with all answers to them.

    Raises:
        ConnectionError: the server went away; do it again.
    """
    wanted: dict[tuple[str, str], set[str]] = defaultdict(set)
    for task in tasks:
        wanted[task.workspace, task.dataset].add(task.id)
    workspaces = client.workspace_names()
    erased = 0
    for dataset in client.datasets():
        ids = wanted.get((workspaces.get(dataset["workspace_id"], ""), dataset["name"]), set())
        if not ids:
            continue
        rows = read_records(client, dataset["id"], lambda row: (row["id"], row["external_id"]))
        there = [record_id for record_id, task_id in rows if task_id in ids]
        for start in range(0, len(there), BATCH):
            batch = there[start : start + BATCH]
            client.delete(
                f"/datasets/{dataset['id']}/records",
                params={"ids": ",".join(batch)},
                about=f"delete {len(batch)} records",
            )
        erased += len(there)
    return erased
