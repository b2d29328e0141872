"""Checks on the text of a row: can it be written, is there anything to read, is it plain text."""

import unicodedata
from collections.abc import Callable, Sequence

from curation.formats.messages import RowError, check_storable
from curation.validation.row import Failure, Messages, RawRow

_UNSEEN = {"Cc", "Cf", "Zs", "Zl", "Zp"}
"""Unicode categories that show nothing: controls, zero-width and other format signs, spaces."""


def unstorable(row: RawRow) -> Failure | None:
    """A text or value that no file can hold, such as half of a surrogate pair (BAD_UNICODE)."""
    for name, part in (("prompt", row.prompt), *row.sides(), ("tools", row.tools)):
        try:
            check_storable(part)
        except RowError as error:
            return Failure(error.code, f"{name} holds {error}")
    return None


def empty_completion(row: RawRow) -> Failure | None:
    """A side says nothing: no message, or a last one without visible text or tool call."""
    for name, messages in row.sides():
        if not messages:
            return Failure("EMPTY_COMPLETION", f"{name} has no message; expected an answer")
        last = messages[-1]
        if not last.get("tool_calls") and not _is_visible(last.get("content") or ""):
            text = ascii(last.get("content"))
            return Failure("EMPTY_COMPLETION", f"{name} is {text}; expected an answer to read")
    return None


def identical_sides(row: RawRow) -> Failure | None:
    """Chosen and rejected are the same, white space around the text aside."""
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
            markers = markers_in(message.get("content") or "")
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


def _is_visible(text: str) -> bool:
    return any(unicodedata.category(character) not in _UNSEEN for character in text)


def _compared(messages: Messages) -> Messages:
    return [
        {
            key: value.strip() if key == "content" and isinstance(value, str) else value
            for key, value in message.items()
            if value is not None and value != []
        }
        for message in messages
    ]
