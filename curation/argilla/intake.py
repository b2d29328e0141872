"""What each response on the server comes to, beside what the annotation store holds already."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from curation.argilla.answers import OVERALL, Answer, UnreadableError, judgements_of
from curation.argilla.reading import Response, ServerRecord, Sheet
from schemas.annotations import AnnotationStore
from schemas.labels import LabelTask
from schemas.records import Annotator, Judgement, content_hash

Outcome = Literal[
    "NEW",
    "CHANGED",
    "UNCHANGED",
    "RETRACTED",
    "DRAFT",
    "DISCARDED",
    "DUPLICATE",
    "FORGOTTEN",
    "UNKNOWN_TASK",
    "UNREADABLE",
]
"""RETRACTED: an answer that was submitted before is a draft now, or discarded."""

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Stored(NamedTuple):
    """What the store knows before the server is read."""

    tasks: dict[str, LabelTask]
    latest: dict[tuple[str, str], dict[str, Judgement]]
    """By annotator and task, the latest judgement on each question."""
    names: dict[str, str]
    """Annotators by response id."""
    forgotten: set[str]
    """`content_hash`es of annotators' names, prompts' ids and their tasks' ids."""


class Taken(NamedTuple):
    """What one response comes to."""

    annotator: str
    task_id: str
    status: str
    outcome: Outcome
    fresh: Sequence[Judgement] = ()
    """What the store has not got."""
    reason: str = ""
    message: str = ""
    """Why it is unreadable: a code, and a sentence."""


def what_is_stored(store: AnnotationStore, datasets: Collection[str] | None = None) -> Stored:
    """The tasks of the datasets named, or of all, people's latest answers to them, and who and
    what is to be left alone.
    """
    tasks = {
        task.id: task for task in store.tasks.read() if datasets is None or task.dataset in datasets
    }
    latest: dict[tuple[str, str], dict[str, Judgement]] = {}
    names = {}
    for judgement in store.judgements.read():
        if judgement.annotator.kind != "human" or judgement.task_id is None:
            continue
        if judgement.external_id is not None:
            names[judgement.external_id] = judgement.annotator.name
        if datasets is not None and judgement.task_id not in tasks:
            continue
        given = latest.setdefault((judgement.annotator.name, judgement.task_id), {})
        before = given.get(judgement.question)
        if before is None or judgement.revision >= before.revision:
            given[judgement.question] = judgement
    return Stored(
        tasks=tasks,
        latest=latest,
        names=names,
        forgotten=store.forgotten("annotator")
        | store.forgotten("prompt")
        | store.forgotten("task"),
    )


def people_of(sheets: Iterable[Sheet], users: Mapping[str, str], stored: Stored) -> dict[str, str]:
    """Names by user id: whose answers are stored under a name keeps it when the account changes.

    Who has taken that name meanwhile is somebody else, and goes by the id.
    """
    kept = {
        response.user_id: stored.names[response.id]
        for sheet in sheets
        for record in sheet.records
        for response in record.responses
        if response.user_id is not None and response.id in stored.names
    }
    held = set(kept.values())
    others = {user: f"user:{user}" if name in held else name for user, name in users.items()}
    return {**others, **kept}


def annotator_of(response: Response, people: Mapping[str, str], stored: Stored) -> str:
    """Who gave the response, always under the same name.

    It is `user:<id>` where the server knows no name, and `deleted:<response id>` where it does not
    even say which user it was: two of those are two people.
    """
    if response.user_id is None:
        return stored.names.get(response.id, f"deleted:{response.id}")
    return people.get(response.user_id, f"user:{response.user_id}")


def take(
    sheet: Sheet, record: ServerRecord, people: Mapping[str, str], stored: Stored
) -> Iterator[Taken]:
    """What each response to the record comes to; of one person's several the latest counts."""
    theirs: dict[str, list[Response]] = {}
    for response in record.responses:
        theirs.setdefault(annotator_of(response, people, stored), []).append(response)
    for annotator, responses in theirs.items():
        said = [response for response in responses if _says_something(response)] or responses
        chosen = max(said, key=lambda response: response.changed_at or _LONG_AGO)
        for response in responses:
            if response is not chosen:
                yield Taken(annotator, record.task_id, response.status, "DUPLICATE")
        yield _take(sheet, record, _answer(record, chosen, annotator, stored), said, stored)


def _take(
    sheet: Sheet, record: ServerRecord, answer: Answer, said: Sequence[Response], stored: Stored
) -> Taken:
    whose = (answer.annotator, record.task_id, answer.status)
    task = stored.tasks.get(record.task_id)
    concerned = [answer.annotator, record.task_id, *([task.prompt.id] if task else [])]
    if stored.forgotten and any(content_hash(name) in stored.forgotten for name in concerned):
        return Taken(*whose, "FORGOTTEN")
    if task is None:
        return Taken(*whose, "UNKNOWN_TASK")
    before = stored.latest.get((answer.annotator, task.id), {})
    try:
        if len({response.status for response in said}) > 1:
            raise UnreadableError(
                "STATUS_CONFLICT", "one person has responses of different status to the record"
            )
        if answer.status in ("draft", "discarded"):
            taken_back = [_taken_back(item, answer) for item in before.values() if _counts(item)]
            if taken_back:
                return Taken(*whose, "RETRACTED", taken_back)
            return Taken(*whose, "DRAFT" if answer.status == "draft" else "DISCARDED")
        given = _understood(sheet, record, task, answer)
    except UnreadableError as error:
        return Taken(*whose, "UNREADABLE", reason=error.reason, message=str(error))
    fresh = [
        _revised(item, before.get(item.question))
        for item in given
        if not _same(item, before.get(item.question))
    ]
    answered = {item.question for item in given}
    fresh += [
        _taken_back(item, answer)
        for question, item in before.items()
        if question not in answered and _counts(item)
    ]
    if not fresh:
        return Taken(*whose, "UNCHANGED")
    return Taken(*whose, "CHANGED" if before else "NEW", fresh)


def _understood(
    sheet: Sheet, record: ServerRecord, task: LabelTask, answer: Answer
) -> list[Judgement]:
    if answer.status != "submitted":
        raise UnreadableError(
            "UNKNOWN_STATUS", f"the status is '{answer.status}', which is none that Argilla has"
        )
    if record.problem is not None:
        raise UnreadableError("OTHER_TEXT", record.problem)
    if OVERALL not in sheet.questions:
        raise UnreadableError(
            "OTHER_QUESTIONS",
            f"question '{OVERALL}' of dataset '{sheet.dataset}' has not the options it was made "
            "with; put them back on the server",
        )
    return judgements_of(task, answer, sheet.questions)


def _answer(record: ServerRecord, response: Response, annotator: str, stored: Stored) -> Answer:
    task = stored.tasks.get(record.task_id)
    seen = (
        record.suggested_at is not None
        and response.changed_at is not None
        and response.changed_at >= record.suggested_at
    )
    return Answer(
        id=response.id,
        annotator=annotator,
        status=response.status,
        values=response.values,
        changed_at=response.changed_at,
        assisted=seen or (task is not None and task.assisted),
    )


def _says_something(response: Response) -> bool:
    value = response.values.get(OVERALL)
    return isinstance(value, Mapping) and value.get("value") is not None


def _counts(judgement: Judgement) -> bool:
    return judgement.status == "submitted"


def _same(given: Judgement, before: Judgement | None) -> bool:
    """Whether a person says what they said before; seeing a suggestion since is no new answer."""
    if before is None or not _counts(before):
        return False
    said = ("candidates", "ranks", "both_bad", "strength", "rationale")
    return all(getattr(given, field) == getattr(before, field) for field in said)


def _revised(given: Judgement, before: Judgement | None) -> Judgement:
    if before is None:
        return given
    fields = given.model_dump(exclude={"id"})
    return Judgement.model_validate({**fields, "revision": before.revision + 1})


def _taken_back(before: Judgement, answer: Answer) -> Judgement:
    """The revision that says that the answer no longer stands."""
    return Judgement(
        prompt_id=before.prompt_id,
        annotator=Annotator(kind="human", name=answer.annotator),
        question=before.question,
        candidates=before.candidates,
        mode="assisted" if answer.assisted else "blind",
        status="draft" if answer.status == "draft" else "discarded",
        revision=before.revision + 1,
        external_id=answer.id,
        task_id=before.task_id,
        purpose=before.purpose,
        created_at=answer.changed_at,
    )
