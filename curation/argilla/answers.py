"""From an answer on the server to judgements, by the task as it was put.

What was shown where is known from the local task alone; an answer that does not say exactly what
the person did is refused, never guessed.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from schemas.labels import LabelTask
from schemas.records import Annotator, Judgement

OVERALL, STRENGTH, REASON = "overall", "strength", "reason"

CHOICES: dict[str, tuple[int, int]] = {"a": (1, 2), "b": (2, 1), "tie": (1, 1), "both_bad": (1, 1)}
"""The ranks of the answer shown first and the one shown second, by the option's value."""

STRENGTHS = {1: 1 / 3, 2: 2 / 3, 3: 1.0}
"""Slightly, clearly, much."""


class UnreadableError(ValueError):
    """An answer that does not say what the person did; `reason` is its code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Answer(NamedTuple):
    """One person's response to one record."""

    id: str
    """The response's id on the server."""
    annotator: str
    status: str
    values: Mapping[str, Any]
    """By question: `{"value": ...}`."""
    changed_at: datetime | None = None
    assisted: bool = False
    """A machine's ranking was on the page when it was given or last changed."""


def judgements_of(task: LabelTask, answer: Answer, questions: Collection[str]) -> list[Judgement]:
    """What a submitted answer says, one judgement a question, the overall one first.

    `questions` are the overall one and the criteria; a criterion left out is not judged. The
    revision is 0: whether this changes an earlier answer is for the store to say.

    Raises:
        UnreadableError: with the reason NO_ANSWER, UNKNOWN_VALUE, RANKS_UNAVAILABLE,
            RANKS_INCOMPLETE, UNKNOWN_OPTION, DUPLICATE_OPTION or OUT_OF_SCALE.
    """
    if _value(answer, OVERALL) is None:
        raise UnreadableError(
            "NO_ANSWER", f"question '{OVERALL}' has no value; a submitted answer has one"
        )
    criteria = sorted(name for name in questions if name != OVERALL)
    return [
        _judgement(task, answer, name)
        for name in (OVERALL, *criteria)
        if _value(answer, name) is not None
    ]


def dense(ranks: Collection[int]) -> tuple[int, ...]:
    """The ranks without gaps: (1, 3, 3) becomes (1, 2, 2)."""
    places = {rank: place for place, rank in enumerate(sorted(set(ranks)), start=1)}
    return tuple(places[rank] for rank in ranks)


def _judgement(task: LabelTask, answer: Answer, question: str) -> Judgement:
    value = _value(answer, question)
    overall = question == OVERALL
    return Judgement(
        prompt_id=task.prompt.id,
        annotator=Annotator(kind="human", name=answer.annotator),
        question=question,
        candidates=task.shown,
        ranks=_chosen(value, question)
        if task.kind == "pairwise"
        else _ranked(task, value, question),
        strength=_strength(answer) if overall else None,
        both_bad=value == "both_bad",
        mode="assisted" if answer.assisted else "blind",
        rationale=_rationale(answer) if overall else None,
        external_id=answer.id,
        task_id=task.id,
        purpose=task.purpose,
        created_at=answer.changed_at,
    )


def _chosen(value: Any, question: str) -> tuple[int, ...]:
    if not isinstance(value, str) or value not in CHOICES:
        raise UnreadableError(
            "UNKNOWN_VALUE",
            f"question '{question}' has the value {_brief(value)}; expected one of "
            f"{', '.join(CHOICES)}",
        )
    return CHOICES[value]


def _ranked(task: LabelTask, value: Any, question: str) -> tuple[int, ...]:
    """Dense ranks in the order shown; ties share one."""
    options = [str(number) for number in range(1, len(task.candidates) + 1)]
    if not isinstance(value, list):
        raise UnreadableError(
            "RANKS_UNAVAILABLE", f"question '{question}' has no list of ranks but {_brief(value)}"
        )
    ranks: dict[str, int] = {}
    for item in value:
        rank = item.get("rank") if isinstance(item, Mapping) else None
        if type(rank) is not int:
            raise UnreadableError(
                "RANKS_UNAVAILABLE",
                f"question '{question}' has no rank for {_brief(item)}; the order of a list is no "
                "answer",
            )
        option = item.get("value")
        if option not in options:
            raise UnreadableError(
                "UNKNOWN_OPTION",
                f"question '{question}' ranks {_brief(option)}; expected one of "
                f"{', '.join(options)}",
            )
        if option in ranks:
            raise UnreadableError(
                "DUPLICATE_OPTION", f"question '{question}' ranks option {option} twice"
            )
        if not 1 <= rank <= len(options):
            raise UnreadableError(
                "OUT_OF_SCALE",
                f"question '{question}' gives the rank {rank}; expected 1 to {len(options)}",
            )
        ranks[option] = rank
    if len(ranks) != len(options):
        raise UnreadableError(
            "RANKS_INCOMPLETE",
            f"question '{question}' ranks {len(ranks)} of {len(options)} answers; a submitted "
            "ranking has all",
        )
    return dense([ranks[option] for option in options])


def _strength(answer: Answer) -> float | None:
    value = _value(answer, STRENGTH)
    if value is None:
        return None
    if type(value) is not int or value not in STRENGTHS:
        raise UnreadableError(
            "OUT_OF_SCALE",
            f"question '{STRENGTH}' has the value {_brief(value)}; expected 1, 2 or 3",
        )
    return STRENGTHS[value]


def _rationale(answer: Answer) -> str | None:
    value = _value(answer, REASON)
    if value is not None and not isinstance(value, str):
        raise UnreadableError(
            "UNKNOWN_VALUE", f"question '{REASON}' has no text but {_brief(value)}"
        )
    return value or None


def _value(answer: Answer, question: str) -> Any:
    given = answer.values.get(question)
    return given.get("value") if isinstance(given, Mapping) else None


def _brief(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else text[:60] + "..."
