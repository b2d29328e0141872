"""How far annotators are: counted by people's own submitted answers, not by the server's word."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from curation.argilla.client import Client
from curation.argilla.intake import Stored, Taken, people_of, take, what_is_stored
from curation.argilla.reading import Sheet, read_sheets
from schemas.annotations import AnnotationStore

_SUBMITTED = {"NEW", "CHANGED", "UNCHANGED"}
_TO_PULL = {"NEW", "CHANGED", "RETRACTED"}


class DatasetStatus(NamedTuple):
    """One dataset: how many of its records have the answers that they need."""

    dataset: str
    workspace: str
    records: int
    complete: int
    """Records answered by as many different people as planned, excluded people left out."""
    needs_more: int
    """Records of the store's that are not complete."""
    answers_needed: int
    """How many answers they lack, all together."""
    submitted: int
    drafts: int
    discarded: int
    to_pull: int
    """Answers on the server that the store has not got, or has otherwise."""
    unreadable: int


class AnnotatorStatus(NamedTuple):
    """One person's answers in one dataset."""

    dataset: str
    workspace: str
    annotator: str
    submitted: int
    drafts: int
    discarded: int
    left: int
    """Records that the server still puts before them: not complete, without an answer of theirs."""
    to_pull: int
    excluded: bool


class LabelStatus(NamedTuple):
    datasets: list[DatasetStatus]
    annotators: list[AnnotatorStatus]
    needs_more: dict[str, int]
    """The answers that each record lacks, by task id; complete records are not in it."""
    absent: list[tuple[str, str]]
    """Datasets, each with its workspace, that the store has tasks of and the server has not."""


def status(
    client: Client, store: AnnotationStore, *, datasets: Collection[str] | None = None
) -> LabelStatus:
    """How far each dataset and annotator is, those without any answer among them.

    It reads the datasets named, or else all that the store has tasks of.

    Raises:
        ConnectionError: the server cannot be reached, or its records keep changing.
    """
    stored, excluded = what_is_stored(store, datasets), store.excluded()
    found = read_sheets(client, stored.tasks, datasets=datasets or ())
    people = people_of(found.sheets, client.users(), stored)
    sheets = []
    annotators: list[AnnotatorStatus] = []
    needs_more: dict[str, int] = {}
    teams = {
        workspace_id: _team(client, workspace_id)
        for workspace_id in dict.fromkeys(sheet.workspace_id for sheet in found.sheets)
    }
    for sheet in found.sheets:
        rows = [row for record in sheet.records for row in take(sheet, record, people, stored)]
        lacking = _lacking(sheet, rows, stored, set(excluded))
        needs_more |= lacking
        known = sum(record.task_id in stored.tasks for record in sheet.records)
        sheets.append(_dataset_status(sheet, rows, known - len(lacking), lacking))
        team = [people[user_id] for user_id in teams[sheet.workspace_id]]
        annotators += _annotators(sheet, rows, team, set(excluded))
    return LabelStatus(sheets, annotators, needs_more, found.absent)


def _team(client: Client, workspace_id: str) -> list[str]:
    """The user ids of the workspace's annotators."""
    members = client.get(f"/workspaces/{workspace_id}/users")["items"]
    return [user["id"] for user in members if user["role"] == "annotator"]


def _lacking(
    sheet: Sheet, rows: Sequence[Taken], stored: Stored, excluded: set[str]
) -> dict[str, int]:
    """The answers that each known record lacks; one that the server has lost still counts."""
    people: dict[str, set[str]] = {record.task_id: set() for record in sheet.records}
    answered = {(row.annotator, row.task_id) for row in rows}
    for row in rows:
        if row.status == "submitted" and row.outcome in _SUBMITTED:
            people[row.task_id].add(row.annotator)
    for (annotator, task_id), given in stored.latest.items():
        stands = any(judgement.status == "submitted" for judgement in given.values())
        if stands and task_id in people and (annotator, task_id) not in answered:
            people[task_id].add(annotator)
    lacking = {
        task_id: stored.tasks[task_id].overlap - len(names - excluded)
        for task_id, names in people.items()
        if task_id in stored.tasks
    }
    return {task_id: count for task_id, count in lacking.items() if count > 0}


def _dataset_status(
    sheet: Sheet, rows: Sequence[Taken], complete: int, lacking: dict[str, int]
) -> DatasetStatus:
    counts = _counts(rows)
    return DatasetStatus(
        dataset=sheet.dataset,
        workspace=sheet.workspace,
        records=len(sheet.records),
        complete=complete,
        needs_more=len(lacking),
        answers_needed=sum(lacking.values()),
        submitted=counts["submitted"],
        drafts=counts["draft"],
        discarded=counts["discarded"],
        to_pull=counts["to_pull"],
        unreadable=counts["unreadable"],
    )


def _annotators(
    sheet: Sheet, rows: Sequence[Taken], team: Sequence[str], excluded: set[str]
) -> Iterator[AnnotatorStatus]:
    theirs: dict[str, list[Taken]] = {name: [] for name in team}
    for row in rows:
        theirs.setdefault(row.annotator, []).append(row)
    pending = {record.task_id for record in sheet.records if not record.complete}
    for name in sorted(theirs):
        counts = _counts(theirs[name])
        touched = {row.task_id for row in theirs[name]}
        yield AnnotatorStatus(
            dataset=sheet.dataset,
            workspace=sheet.workspace,
            annotator=name,
            submitted=counts["submitted"],
            drafts=counts["draft"],
            discarded=counts["discarded"],
            left=len(pending - touched) if name in team else 0,
            to_pull=counts["to_pull"],
            excluded=name in excluded,
        )


def _counts(rows: Sequence[Taken]) -> Counter[str]:
    """Responses by status, duplicates and forgotten people's left out; `to_pull`, `unreadable`."""
    rows = [row for row in rows if row.outcome not in ("DUPLICATE", "FORGOTTEN")]
    counts = Counter(row.status for row in rows)
    counts["to_pull"] = sum(row.outcome in _TO_PULL for row in rows)
    counts["unreadable"] = sum(row.outcome == "UNREADABLE" for row in rows)
    return counts
