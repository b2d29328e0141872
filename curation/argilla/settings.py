"""A dataset on the server: its page, its questions, and the records' fields.

A record has one field, `conversation`, an Argilla custom field whose value is

    {"messages": [{"role": "user", "content": "..."}, ...],
     "answers": [{"title": "A", "text": "..."}, {"title": "B", "text": "..."}]}

with every text as `text.escaped(text.visible(...))` writes it; `shown_texts` reads it back. There
is nothing else to see: no ids of candidates, no scores, no model's name, and the metadata (the
order shown, and whether a record is the second of a mirrored two) is hidden from annotators.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from curation.argilla.names import question_names
from curation.argilla.text import (
    escaped,
    shown_answer,
    shown_messages,
    unescaped,
)
from schemas.configs import LabelConfig
from schemas.labels import LabelTask

FIELD = "conversation"
CHOICES = {"a": "A is better", "b": "B is better", "tie": "Tie", "both_bad": "Both are bad"}
STRENGTHS = (1, 2, 3)
LONGEST_GUIDELINES = 10_000
"""Characters, as Argilla allows."""
_HERE = Path(__file__).parent


class DatasetSettings(NamedTuple):
    """What a dataset is made of, as the server's API takes it."""

    guidelines: str
    overlap: int
    fields: list[dict[str, Any]]
    questions: list[dict[str, Any]]
    metadata: list[dict[str, Any]]


def dataset_settings(config: LabelConfig, task: LabelTask) -> DatasetSettings:
    """The settings of the dataset that the task belongs to.

    Raises:
        ValueError: the guidelines cannot be read, or two criteria have one name.
    """
    titles = [title for title, _ in _titled_answers(task)]
    page = (_HERE / "page" / "page.html").read_text("utf-8").replace("@LAYOUT@", config.layout)
    return DatasetSettings(
        guidelines=guidelines(config, task.kind),
        overlap=task.overlap,
        fields=[
            {
                "name": FIELD,
                "title": "Conversation",
                "required": True,
                "settings": {"type": "custom", "template": page, "advanced_mode": True},
            }
        ],
        questions=_questions(config, titles, ranking=task.kind == "ranking"),
        metadata=[
            {
                "name": name,
                "title": title,
                "settings": {"type": "terms"},
                "visible_for_annotators": False,
            }
            for name, title in (("shown", "Order shown"), ("mirrored", "Mirrored"))
        ],
    )


def guidelines(config: LabelConfig, kind: str) -> str:
    """What annotators read before they begin.

    Raises:
        ValueError: the file is missing, empty, no text, or longer than Argilla takes.
    """
    if config.guidelines is None:
        return (_HERE / "guidelines" / f"{kind}.md").read_text("utf-8")
    where = f"label.guidelines '{config.guidelines}'"
    try:
        text = config.guidelines.read_text("utf-8-sig").strip().replace("\x00", "")
    except FileNotFoundError:
        raise ValueError(f"{where} does not exist; expected a Markdown file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{where} cannot be read ({type(error).__name__}); expected a Markdown file in UTF-8"
        ) from None
    if not 0 < len(text) <= LONGEST_GUIDELINES:
        raise ValueError(f"{where} has {len(text)} characters; expected 1 to {LONGEST_GUIDELINES}")
    return text


def record_fields(task: LabelTask) -> dict[str, Any]:
    """The record's fields, as the page and the API show them."""
    return {
        FIELD: {
            "messages": [
                {"role": turn["role"], "content": escaped(turn["content"])}
                for turn in shown_messages(task.prompt)
            ],
            "answers": [
                {"title": title, "text": escaped(text)} for title, text in _titled_answers(task)
            ],
        }
    }


def record_metadata(task: LabelTask) -> dict[str, Any]:
    """What annotators do not see: the candidates' `text_id`s in the order shown."""
    return {"shown": list(task.shown), "mirrored": "yes" if task.mirrored else "no"}


def shown_texts(fields: Mapping[str, Any]) -> tuple[list[dict[str, str]], list[str]]:
    """The conversation and the answers, in the order shown, as a reader of the page sees them.

    Raises:
        ValueError: the fields are not such as `record_fields` makes.
    """
    try:
        value = fields[FIELD]
        messages = [
            {"role": turn["role"], "content": unescaped(turn["content"])}
            for turn in value["messages"]
        ]
        return messages, [unescaped(answer["text"]) for answer in value["answers"]]
    except (KeyError, TypeError):
        raise ValueError(f"a record has no field '{FIELD}' with messages and answers") from None


def shown_differently(task: LabelTask, fields: Mapping[str, Any]) -> str | None:
    """Why answers to a record with these fields say nothing about the task; None where they do."""
    try:
        messages, answers = shown_texts(fields)
    except ValueError as error:
        return str(error)
    expected = [text for _, text in _titled_answers(task)]
    if messages != shown_messages(task.prompt):
        return "another conversation was shown"
    if answers != expected:
        return (
            "the answers were shown in another order"
            if sorted(answers) == sorted(expected)
            else "other answers were shown"
        )
    return None


def _titled_answers(task: LabelTask) -> list[tuple[str, str]]:
    count = len(task.candidates)
    titles = ["A", "B"] if task.kind == "pairwise" else [f"Answer {n + 1}" for n in range(count)]
    texts = [shown_answer(candidate.completion) for candidate in task.candidates]
    return list(zip(titles, texts, strict=True))


def _questions(
    config: LabelConfig, titles: Sequence[str], *, ranking: bool
) -> list[dict[str, Any]]:
    criteria = question_names(config.criteria)
    if ranking:
        options = [
            {"value": str(number), "text": title} for number, title in enumerate(titles, start=1)
        ]
        kind: dict[str, Any] = {"type": "ranking", "options": options}
        overall = "Rank the answers, the best first; equals share a place"
        ask = "{}: rank the answers"
    else:
        options = [{"value": value, "text": text} for value, text in CHOICES.items()]
        kind = {"type": "label_selection", "options": options, "visible_options": len(options)}
        overall = "Which answer is better?"
        ask = "{}: which answer is better?"
    questions = [_question("overall", overall, kind)]
    questions += [_question(name, ask.format(title), kind) for name, title in criteria.items()]
    if not ranking:
        strengths: dict[str, Any] = {
            "type": "rating",
            "options": [{"value": value} for value in STRENGTHS],
        }
        title = "How much better? 1 slightly, 2 clearly, 3 much (S, C, M)"
        questions.append(_question("strength", title, strengths, required=False))
    reason = {"type": "text", "use_markdown": False}
    questions.append(
        _question("reason", "Why? (optional; Ctrl+Enter submits)", reason, required=False)
    )
    return questions


def _question(
    name: str, title: str, settings: dict[str, Any], *, required: bool = True
) -> dict[str, Any]:
    return {"name": name, "title": title, "required": required, "settings": settings}
