"""One row of anybody's file as a conversation to fine-tune on, or why it is none."""

from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from curation.formats.json_values import RowError, check_storable, json_list
from curation.formats.messages import (
    check_asks,
    normalise_messages,
    normalise_tools,
    refuse_history,
    with_system_text,
)
from schemas.arrow import first_error
from schemas.records import Json, Message, Prompt, Record, content_hash

Shape = Literal["messages", "text", "instruction"]
"""Lists of messages, a text and the text that goes on from it, or an instruction and its answer."""

_WHOLE_COLUMNS = ("messages", "conversations")
_PROMPT_COLUMNS = ("prompt", "question")
_ANSWER_COLUMNS = ("completion", "response", "answer", "output")
"""Looked for in this order; beside `instruction` the same."""


class Conversation(Record):
    """What is said, and the tools that may be called."""

    messages: tuple[Message, ...]
    tools: Json = None

    @property
    def id(self) -> str:
        """The hash of the content: rows that say the same have the same."""
        return f"s-{content_hash([turn.to_dict() for turn in self.messages], self.tools)}"

    @property
    def group(self) -> str:
        """The `Prompt.group` of the first user turn alone: what asks the same shares a split."""
        asked = next((turn for turn in self.messages if turn.role == "user"), self.messages[0])
        return Prompt(messages=(Message(role="user", content=asked.content),)).group


class ConversationRow(NamedTuple):
    conversation: Conversation
    shape: Shape


def shape_of(row: dict[str, Any]) -> Shape | Literal["mixed"] | None:
    """How the row holds its conversation; None where it has no column for one.

    `mixed`: one of prompt and completion is text, the other a list of messages.
    """
    if any(row.get(name) is not None for name in _WHOLE_COLUMNS):
        return "messages"
    prompt, answer = _first(row, _PROMPT_COLUMNS), _first(row, _ANSWER_COLUMNS)
    if prompt is not None and answer is not None:
        kinds = [isinstance(row[name], list | dict) for name in (prompt, answer)]
        return "messages" if all(kinds) else "mixed" if any(kinds) else "text"
    if isinstance(row.get("instruction"), str) and answer is not None:
        return "instruction"
    return None


def conversation_row(row: dict[str, Any]) -> ConversationRow:
    """The conversation that the row holds.

    Raises:
        RowError: MISSING_COLUMN, EMPTY_PROMPT, EMPTY_COMPLETION, NO_ASSISTANT_TURN, BAD_ROW, or a
            code of `normalise_messages`, `normalise_tools`, `with_system_text`, `check_storable`.
    """
    row = _with_instance(row)
    shape = shape_of(row)
    if shape is None:
        found = ", ".join(sorted(map(str, row))) or "none"
        raise RowError(
            "MISSING_COLUMN",
            f"neither messages nor prompt and completion; the row's columns: {found}",
        )
    if shape == "mixed":
        raise RowError("MIXED_FORMAT", "one of prompt and completion is text, the other messages")
    messages = _messages(row, shape)
    tools = normalise_tools(row.get("tools"))
    with_system = with_system_text(messages, row)
    if shape == "text" and (tools or with_system != messages):
        shape = "instruction"
    check_storable([with_system, tools])
    check_asks(with_system)
    if all(message["role"] != "assistant" for message in with_system):
        raise RowError("NO_ASSISTANT_TURN", "no message is the assistant's, so nothing is trained")
    try:
        return ConversationRow(Conversation(messages=with_system, tools=tools), shape)
    except ValidationError as error:
        raise RowError("BAD_ROW", first_error(error)) from None


def _with_instance(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its one instance's input and output beside the instruction (Self-Instruct)."""
    instances = json_list(row.get("instances"))
    if not instances or not isinstance(instances[0], dict):
        return row
    if len(instances) > 1:
        raise RowError("BAD_ROW", f"{len(instances)} instances in one row; expected one each")
    return {**row, **instances[0]}


def _messages(row: dict[str, Any], shape: Shape) -> list[dict[str, Any]]:
    whole = _first(row, _WHOLE_COLUMNS)
    if whole is not None:
        value = row[whole]
        listed = json_list(value) if isinstance(value, str) else value
        if not isinstance(listed, list):
            raise RowError("BAD_MESSAGE", f"'{whole}' is no list of messages")
        if not listed:
            raise RowError("EMPTY_PROMPT", f"'{whole}' is empty")
        return normalise_messages(listed)
    asked = _first(row, _PROMPT_COLUMNS) or "instruction"
    answer = _first(row, _ANSWER_COLUMNS) or "completion"
    prompt = row[asked]
    if shape == "instruction":
        refuse_history(row)
        if isinstance(row.get("input"), str) and row["input"].strip():
            prompt = f"{prompt}\n\n{row['input']}"
    for name, value, code in (
        (asked, prompt, "EMPTY_PROMPT"),
        (answer, row[answer], "EMPTY_COMPLETION"),
    ):
        if value in ("", []):
            raise RowError(code, f"'{name}' is empty")
    return [
        *normalise_messages(prompt),
        *normalise_messages(row[answer], role="assistant"),
    ]


def _first(row: dict[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if row.get(name) is not None), None)
