"""What people answered, brought from the server into the annotation store, and nothing else.

Only submitted answers become votes. The server keeps a person's latest answer alone, so the store
is where earlier ones are kept: a changed answer is one more revision, an answer taken back is a
revision that says so, and an answer that the server has lost stays.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from curation.argilla.client import Client
from curation.argilla.intake import Stored, Taken, annotator_of, people_of, take, what_is_stored
from curation.argilla.reading import read_sheets
from schemas.annotations import AnnotationStore

_LISTED = 5
"""How many ids a warning names."""


class Unreadable(NamedTuple):
    """An answer that was refused, since what it says cannot be known."""

    task_id: str
    annotator: str
    reason: str
    message: str


class Missing(NamedTuple):
    """An answer that the store holds and the server no longer does."""

    task_id: str
    annotator: str


class PulledDataset(NamedTuple):
    dataset: str
    workspace: str
    records: int
    counts: Counter[str]
    """Responses by outcome, and SUGGESTION."""


class Pulled(NamedTuple):
    """What a pull found and did; an answer is one person's response to one record."""

    datasets: list[PulledDataset]
    unreadable: list[Unreadable]
    missing: list[Missing]
    unknown_tasks: list[str]
    """Records with answers that the store knows nothing of."""
    unknown_users: list[str]
    """The names that stand for people whom the server does not know by theirs."""
    absent: list[tuple[str, str]]
    """Datasets, each with its workspace, that the store has tasks of and the server has not."""

    @property
    def counts(self) -> Counter[str]:
        """Responses of all datasets by outcome, and SUGGESTION."""
        return sum((item.counts for item in self.datasets), Counter())

    def warnings(self) -> list[str]:
        """What a person should know, a sentence each; none where all went well."""
        return list(_warnings(self))


def pull(
    client: Client,
    store: AnnotationStore,
    *,
    datasets: Collection[str] | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Pulled:
    """Every answer on the server that the store has not got, added to the store.

    It reads the datasets named, or else all that the store has tasks of. A second pull adds
    nothing.

    Raises:
        ConnectionError: the server cannot be reached, or its records keep changing.
    """
    stored = what_is_stored(store, datasets)
    found = read_sheets(client, stored.tasks, datasets=datasets or ())
    users = client.users()
    people = people_of(found.sheets, users, stored)
    sheets = []
    taken: list[Taken] = []
    for sheet in found.sheets:
        rows = [row for record in sheet.records for row in take(sheet, record, people, stored)]
        store.judgements.append(judgement for row in rows for judgement in row.fresh)
        counts = Counter[str](row.outcome for row in rows)
        counts["SUGGESTION"] = sum(record.suggestions for record in sheet.records)
        pulled = PulledDataset(sheet.dataset, sheet.workspace, len(sheet.records), +counts)
        progress(_told(pulled))
        sheets.append(pulled)
        taken += rows
    return Pulled(
        datasets=sheets,
        unreadable=[
            Unreadable(row.task_id, row.annotator, row.reason, row.message)
            for row in taken
            if row.outcome == "UNREADABLE"
        ],
        missing=missing_answers(stored, taken),
        unknown_tasks=sorted({row.task_id for row in taken if row.outcome == "UNKNOWN_TASK"}),
        unknown_users=sorted(
            {
                annotator_of(response, people, stored)
                for sheet in found.sheets
                for record in sheet.records
                for response in record.responses
                if response.user_id not in users
            }
        ),
        absent=found.absent,
    )


def missing_answers(stored: Stored, taken: Iterable[Taken]) -> list[Missing]:
    """The stored votes whose person has no response to the record on the server, in order."""
    there = {(row.annotator, row.task_id) for row in taken}
    return sorted(
        Missing(task_id, annotator)
        for (annotator, task_id), given in stored.latest.items()
        if (annotator, task_id) not in there
        and any(judgement.status == "submitted" for judgement in given.values())
    )


def _told(pulled: PulledDataset) -> str:
    counts = ", ".join(f"{count} {name.lower()}" for name, count in pulled.counts.items())
    return (
        f"{pulled.dataset} ({pulled.workspace}): {pulled.records} records, "
        f"answers: {counts or 'none'}"
    )


def _warnings(pulled: Pulled) -> Iterator[str]:
    for reason, count in sorted(Counter(item.reason for item in pulled.unreadable).items()):
        first = next(item for item in pulled.unreadable if item.reason == reason)
        yield (
            f"{count} answers were refused as {reason}, such as that of '{first.annotator}' to "
            f"record {first.task_id}: {first.message}"
        )
    if pulled.unknown_tasks:
        yield (
            f"{pulled.counts['UNKNOWN_TASK']} answers are to {len(pulled.unknown_tasks)} records "
            f"that the annotation store does not know ({_some(pulled.unknown_tasks)}); restore the "
            "store's folder, or push with the config that made them, then pull again"
        )
    if pulled.missing:
        answers = [f"{item.annotator} on {item.task_id}" for item in pulled.missing]
        yield (
            f"{len(answers)} answers pulled before are no longer on the server; they are kept "
            f"({_some(answers)})"
        )
    if pulled.unknown_users:
        yield (
            f"{len(pulled.unknown_users)} annotators have no account on the server any more "
            f"({_some(pulled.unknown_users)})"
        )
    for dataset, workspace in pulled.absent:
        yield f"dataset '{dataset}' of workspace '{workspace}' is not on the server"


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return ", ".join(items[:_LISTED]) + more
