"""One row of anybody's file as a prompt: where it is asked, what is known about a right answer."""

import json
from typing import Any, NamedTuple

from pydantic import ValidationError

from curation.formats.files import is_table
from curation.formats.json_values import RowError, check_storable, json_list, opened_json
from curation.formats.messages import (
    check_asks,
    normalise_messages,
    normalise_tools,
    opened_cell,
    refuse_history,
    with_system_text,
)
from schemas.arrow import first_error
from schemas.configs import PromptSource
from schemas.records import Prompt

PROMPT_COLUMNS = ("messages", "prompt", "conversations", "question", "text", "turns")
"""Where a row's prompt is looked for, in this order, when the source names no column."""

_ANSWER_COLUMNS = ("answer", "reference", "ground_truth", "solution")


class PromptRow(NamedTuple):
    prompt: Prompt
    later_turns: bool
    """Whether the row had user turns after the first, which are no part of the prompt."""


def prompt_row(row: dict[str, Any], source: PromptSource, *, name: str) -> PromptRow:
    """The prompt that a row of the source holds; `name` is what the prompt calls its source.

    What Alpaca's rows have in `input` comes after their `instruction`. A list of texts (`turns`) is
    no conversation, since the answers between are missing: its first turn is the prompt.

    Raises:
        RowError: it holds none that can be used.
    """
    column, asked = _asked(row, source)
    later_turns = False
    if _is_turns(asked):
        later_turns, asked = len(asked) > 1, asked[0]
    if asked == "" or asked == []:
        raise RowError("EMPTY_PROMPT", f"'{column}' is empty")
    fields: dict[str, Any] = {
        "messages": with_system_text(normalise_messages(asked), row),
        "tools": normalise_tools(row.get("tools")),
        "answer": _answer(row),
        "instructions": _instructions(row),
        "tags": row_tags(row, source),
        "licence": source.licence or _text(row, "licence") or _text(row, "license"),
    }
    check_storable(fields)
    _check_turns(fields["messages"])
    try:
        prompt = Prompt(**fields, source=name)
    except ValidationError as error:
        raise RowError("BAD_ROW", first_error(error)) from None
    return PromptRow(prompt, later_turns)


def row_tags(row: dict[str, Any], source: PromptSource) -> list[str]:
    """The source's tags, the row's own, and those made of its columns, each once."""
    columns = [tag for column in source.tag_columns for tag in _column_tag(row, column)]
    return list(dict.fromkeys([*source.tags, *_own_tags(row), *columns]))


def _asked(row: dict[str, Any], source: PromptSource) -> tuple[str, Any]:
    """The column that holds the prompt, and what it holds."""
    names = PROMPT_COLUMNS if source.column is None else (source.column,)
    column = next((name for name in names if row.get(name) is not None), None)
    if column is None:
        found = ", ".join(sorted(map(str, row))) or "none"
        raise RowError("MISSING_COLUMN", f"no column {' or '.join(names)}; it has: {found}")
    asked = row[column]
    if isinstance(asked, str) and is_table(source.path):
        asked = opened_cell(asked)
    if isinstance(asked, str) and column in ("messages", "conversations"):
        asked = _messages_in_text(asked)
    if column == "instruction":
        refuse_history(row)
        if isinstance(asked, str) and _text(row, "input"):
            asked = f"{asked}\n\n{row['input']}"
    return column, asked


def _is_turns(asked: Any) -> bool:
    return isinstance(asked, list) and bool(asked) and all(isinstance(turn, str) for turn in asked)


def _messages_in_text(text: str) -> Any:
    """Messages written as JSON into a text column, as CSV files have them; else the text."""
    if not text.lstrip().startswith("["):
        return text
    try:
        return opened_json(text)
    except ValueError:
        raise RowError(
            "BAD_MESSAGE", "the column is text that starts like a list but is not JSON"
        ) from None


def _check_turns(messages: list[dict[str, Any]]) -> None:
    if messages[-1]["role"] == "assistant":
        raise RowError(
            "ENDS_WITH_ASSISTANT",
            "the conversation ends with an assistant message, so nothing is asked; drop that "
            "message, or name another column (column: ...)",
        )
    check_asks(messages)


def _answer(row: dict[str, Any]) -> Any:
    """The reference answer; of a list with one a turn, the first turn's."""
    for name in _ANSWER_COLUMNS:
        answer = row.get(name)
        if answer is None or answer == "":
            continue
        turns = row.get("turns")
        if isinstance(answer, list) and isinstance(turns, list) and len(answer) == len(turns):
            return answer[0]
        return answer
    return None


def _instructions(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The verifiable instructions: a list of name and kwargs, or IFEval's two columns."""
    listed, names = json_list(row.get("instructions")), json_list(row.get("instruction_id_list"))
    if listed is not None:
        for item in listed:
            if not (isinstance(item, dict) and isinstance(item.get("name"), str)):
                raise RowError(
                    "BAD_INSTRUCTIONS", "'instructions' is not a list of {name, kwargs} objects"
                )
        names = [item["name"] for item in listed]
        arguments = [item.get("kwargs") for item in listed]
    elif names is not None:
        arguments = json_list(row.get("kwargs")) or [None] * len(names)
        if len(arguments) != len(names) or not all(isinstance(name, str) for name in names):
            raise RowError(
                "BAD_INSTRUCTIONS",
                f"{len(names)} names in 'instruction_id_list' but {len(arguments)} in 'kwargs'; "
                "expected one kwargs object a name",
            )
    else:
        return []
    return [
        {"name": name.removeprefix("en:"), "kwargs": _kwargs(value)}
        for name, value in zip(names, arguments, strict=True)
    ]


def _kwargs(value: Any) -> dict[str, Any]:
    """The arguments that are set: where files share one set of keys, the others are null."""
    if isinstance(value, str):
        try:
            value = opened_json(value)
        except ValueError:
            value = 0
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RowError("BAD_INSTRUCTIONS", "an instruction's kwargs are no object")
    return {key: item for key, item in value.items() if item is not None}


def _own_tags(row: dict[str, Any]) -> list[str]:
    listed = json_list(row.get("tags"))
    if listed is not None:
        return [str(tag) for tag in listed if tag is not None]
    tag = _text(row, "tags")
    return [] if tag is None else [tag]


def _column_tag(row: dict[str, Any], column: str) -> list[str]:
    value = row.get(column)
    if value is None or value == "":
        return []
    return [f"{column}:{value if isinstance(value, str) else json.dumps(value, default=str)}"]


def _text(row: dict[str, Any], column: str) -> str | None:
    value = row.get(column)
    return value if isinstance(value, str) and value else None
