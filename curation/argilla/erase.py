"""Answers and records taken off the server for good, when a person or a prompt is forgotten."""

from collections import defaultdict
from collections.abc import Iterable

from curation.argilla.client import Client, RefusedError
from curation.argilla.reading import read_records
from schemas.labels import LabelTask

BATCH = 100
"""Records that Argilla deletes in one request."""
_GONE = 404


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
    workspaces = {item_id: name for name, item_id in client.workspaces().items()}
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
