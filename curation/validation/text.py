"""Checks on the text of a row: can it be written, is there anything to read, is it plain text."""

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from curation.formats.json_values import RowError, check_storable
from curation.formats.messages import check_asks
from curation.formats.visible import is_visible, without_unseen_ends
from curation.validation.row import Failure, Messages, RawRow

_TURN_MARKER = re.compile(
    r"<\|(?:im_start|start_header_id|user|assistant)\|>|<start_of_turn>|\[/INST\]|<｜Assistant｜>"
)
"""How the chat templates of well-known model families begin a turn."""


_A_SENTENCE = 20
"""Characters: two answers may well begin with a shorter prompt, such as a greeting."""


def unstorable(row: RawRow) -> Failure | None:
    """A text or value that no file can hold, such as half of a surrogate pair (BAD_UNICODE)."""
    for name, part in (("prompt", row.prompt), *row.sides(), ("tools", row.tools)):
        try:
            check_storable(part)
        except RowError as error:
            return Failure(error.code, f"{name} holds {error}")
    return None


def empty_prompt(row: RawRow) -> Failure | None:
    """The prompt asks nothing: a turn without visible text, or none with any."""
    try:
        check_asks(row.prompt)
    except RowError as error:
        return Failure(error.code, f"the prompt's {error}; expected a question to answer")
    return None


def empty_completion(row: RawRow) -> Failure | None:
    """A side says nothing: no message, or a last one without visible text or tool call."""
    for name, messages in row.sides():
        if not messages:
            return Failure("EMPTY_COMPLETION", f"{name} has no message; expected an answer")
        last = messages[-1]
        if not last.get("tool_calls") and not is_visible(last.get("content") or ""):
            text = ascii(last.get("content"))
            return Failure("EMPTY_COMPLETION", f"{name} is {text}; expected an answer to read")
    return None


def identical_sides(row: RawRow) -> Failure | None:
    """Chosen and rejected read the same, white space and zero-width signs around them aside."""
    if _compared(row.chosen) != _compared(row.rejected):
        return None
    return Failure("IDENTICAL_SIDES", "chosen and rejected are the same text; expected two answers")


def special_token(row: RawRow, markers_in: Callable[[str], Sequence[str]]) -> Failure | None:
    """A text spells out a special token, which the tokenizer would not read as text.

    ALREADY_RENDERED: a template was applied before, or one is quoted. SPECIAL_TOKEN_SAMPLED: the
    model itself went on past the end of its answer. Either way turns and ends of sequence would be
    trained that nobody wrote.
    """
    for name, part in (("prompt", row.prompt), *row.sides()):
        for index, message in enumerate(part):
            markers = markers_in(_all_text(message))
            if markers and name in row.sampled:
                return Failure(
                    "SPECIAL_TOKEN_SAMPLED",
                    f"{name} was sampled with '{markers[0]}' inside; expected text alone",
                )
            if markers:
                return Failure(
                    "ALREADY_RENDERED",
                    f"{name}[{index}] holds the special token '{markers[0]}' as text; expected "
                    "text to which no chat template has been applied",
                )
    return None


def repeats_question(row: RawRow) -> bool:
    """Whether both sides of a file's row begin with all that was asked last, word for word.

    Text formats that trainers take apart by themselves keep the prompt within both answers.
    """
    asked = (row.prompt[-1].get("content") or "").strip()
    return (
        row.proposal is None
        and len(asked) >= _A_SENTENCE
        and all(
            (side[0].get("content") or "").lstrip().startswith(asked) for _, side in row.sides()
        )
    )


def turn_marker(row: RawRow) -> str | None:
    """A marker of some chat template in a text of the row, whichever model it belongs to."""
    for part in (row.prompt, row.chosen, row.rejected):
        for message in part:
            found = _TURN_MARKER.search(_all_text(message))
            if found:
                return found[0]
    return None


def _all_text(message: dict[str, Any]) -> str:
    """What a template may write of the message: content, reasoning, tool calls."""
    written = [message.get("content"), message.get("reasoning_content")]
    if message.get("tool_calls"):
        written.append(json.dumps(message["tool_calls"], ensure_ascii=False))
    return "\n".join(text for text in written if text)


def _compared(messages: Messages) -> Messages:
    return [
        {
            key: _as_read(value) if key == "content" and isinstance(value, str) else value
            for key, value in message.items()
            if value is not None and value != []
        }
        for message in messages
    ]


def _as_read(text: str) -> str:
    """The text as a reader sees it: composed characters, one kind of line end, no unseen ends."""
    return without_unseen_ends(unicodedata.normalize("NFC", text).replace("\r\n", "\n"))
