"""Preference rows out of anybody's file: prompt, chosen and rejected as messages, or why not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from curation.formats.files import Row, is_table, open_rows, read_jsonl, read_rows
from curation.formats.json_values import (
    RowError,
    check_storable,
    type_name,
    whole_characters,
)
from curation.formats.messages import (
    normalise_messages,
    normalise_tools,
    opened_cell,
    refuse_history,
    with_system_text,
)
from curation.formats.rated import best_and_worst, check_signals, rated_answers

__all__ = [
    "RawFileRow",
    "RowError",
    "normalise_messages",
    "normalise_tools",
    "preference_rows",
    "read_jsonl",
    "read_rows",
]

_PAIR_COLUMNS = ("prompt", "chosen", "rejected", "tools")
_PROMPT_COLUMNS = ("prompt", "conversations", "instruction")
"""Where the prompt is looked for, in this order."""

Messages = list[dict[str, Any]]


class RawFileRow(NamedTuple):
    """A preference as a file has it; nothing is promised but its shape."""

    row_id: str
    """`line 7` of a JSONL file, else `row 7`."""
    prompt: Any
    """Messages, as are chosen and rejected; what the file has where `error` is set."""
    chosen: Any
    rejected: Any
    tools: Any
    extra: dict[str, Any]
    """The other columns: p_chosen, weight, margin, pair_id ...; a pair out of several rated answers
    has `chosen_rating` and `rejected_rating`."""
    error: tuple[str, str] | None = None
    """Code and message where the row cannot be a pair."""


def preference_rows(
    path: str | Path, *, split: str = "train", fix: bool = False
) -> Iterator[RawFileRow]:
    """The preferences of a file, in its order, one a row.

    A row has an explicit prompt and two completions, or two conversations that share their first
    messages: the prompt is then the longest shared start that the assistant answers to. Text
    becomes a message; no text is ever cut, so texts without a prompt share none. Of several rated
    answers the best is set against the worst.

    A row that is no pair comes with its `error`: BAD_ROW, MISSING_COLUMN, EMPTY_PROMPT,
    EMPTY_COMPLETION, NO_SHARED_PROMPT, PROMPT_REPEATED_IN_COMPLETION, or a code of
    `normalise_messages`, `normalise_tools`, `with_system_text`, `check_storable`, `rated_answers`,
    `best_and_worst` or `check_signals`. With `fix`, a repeated prompt is taken off the completions
    and half a surrogate pair becomes U+FFFD.

    Raises:
        ValueError: the file cannot be read.
    """
    unit, rows = open_rows(path, split=split)
    only_text = is_table(path)
    for number, row in rows:
        if only_text and isinstance(row, dict):
            row = _opened(row)
        yield _preference_row(f"{unit} {number}", row, fix)


def _opened(row: dict[str, Any]) -> Row:
    try:
        return {name: opened_cell(cell) for name, cell in row.items()}
    except RowError as error:
        return error


def _preference_row(row_id: str, row: Row, fix: bool) -> RawFileRow:
    if isinstance(row, RowError):
        return RawFileRow(row_id, None, None, None, None, {}, (row.code, str(row)))
    pair: dict[str, Any] = {name: row.get(name) for name in _PAIR_COLUMNS}
    extra = {name: value for name, value in row.items() if name not in _PAIR_COLUMNS}
    error = None
    try:
        pair["prompt"] = _asked(row)
        if pair["chosen"] is None and pair["rejected"] is None and (rated := rated_answers(row)):
            found = best_and_worst(rated)._asdict()
            pair.update({name: found.pop(name) for name in ("chosen", "rejected")})
            check_signals(row, pair["chosen"], pair["rejected"])
            extra = found
        missing = [name for name in ("chosen", "rejected") if pair[name] is None]
        if missing:
            columns = ", ".join(map(str, row)) or "none"
            raise RowError(
                "MISSING_COLUMN",
                f"no '{missing[0]}', nor generations with ratings; the row's columns: {columns}",
            )
        if fix:
            pair = whole_characters(pair)
        pair["tools"] = normalise_tools(pair["tools"])
        check_storable(pair)
        pair.update(_split(pair["prompt"], pair["chosen"], pair["rejected"], fix))
        pair["prompt"] = with_system_text(pair["prompt"], row)
    except RowError as problem:
        error = (problem.code, str(problem))
    return RawFileRow(row_id, **pair, extra=extra, error=error)


def _asked(row: dict[str, Any]) -> Any:
    name = next((name for name in _PROMPT_COLUMNS if row.get(name) is not None), "prompt")
    if name == "instruction":
        refuse_history(row)
    if name == "instruction" and row.get("input"):
        raise RowError(
            "BAD_ROW", "'input' goes with 'instruction'; expected both in one column 'prompt'"
        )
    return row.get(name)


def _split(prompt: Any, chosen: Any, rejected: Any, fix: bool) -> dict[str, Messages]:
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if side in ("", []):
            raise RowError("EMPTY_COMPLETION", f"{name} is empty")
    if prompt is None:
        return _without_shared_start(chosen, rejected)
    if prompt in ("", []):
        raise RowError("EMPTY_PROMPT", "the prompt is empty")
    start = _messages("prompt", prompt)
    sides = {
        name: _messages(name, side, role="assistant")
        for name, side in (("chosen", chosen), ("rejected", rejected))
    }
    repeated = {name: _repeated(start, side) for name, side in sides.items()}
    if any(repeated.values()) and not fix:
        named = " and ".join(name for name, turns in repeated.items() if turns)
        amount = "the whole" if max(repeated.values()) == len(start) else "the end of the"
        raise RowError(
            "PROMPT_REPEATED_IN_COMPLETION",
            f"{amount} prompt comes again in {named}; fix takes it off",
        )
    for name, turns in repeated.items():
        sides[name] = sides[name][turns:]
        if not sides[name]:
            raise RowError("EMPTY_COMPLETION", f"{name} is the prompt and nothing more")
    return {"prompt": start, **sides}


def _messages(name: str, value: Any, role: str = "user") -> Messages:
    try:
        return normalise_messages(value, role=role)
    except RowError as error:
        raise RowError(error.code, f"{name}: {error}") from None


def _repeated(start: Messages, side: Messages) -> int:
    """How many turns from the end of the prompt the side begins with."""
    if side[: len(start)] == start:
        return len(start)
    asks = start[-1]["role"] != "assistant"
    lengths = range(min(len(start), len(side)), 0, -1) if asks else ()
    return next((turns for turns in lengths if side[:turns] == start[-turns:]), 0)


def _without_shared_start(chosen: Any, rejected: Any) -> dict[str, Messages]:
    """Prompt and completions of two conversations that start alike."""
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if not isinstance(side, list):
            raise RowError(
                "NO_SHARED_PROMPT",
                f"there is no prompt and {name} is {type_name(side)}, which is never cut; give "
                "the prompt a column of its own",
            )
    ours, theirs = _messages("chosen", chosen), _messages("rejected", rejected)
    length = 0
    while length < min(len(ours), len(theirs)) and ours[length] == theirs[length]:
        length += 1
    while length and ours[length - 1]["role"] == "assistant":
        length -= 1
    answers = [side[length]["role"] for side in (ours, theirs) if length < len(side)]
    if not length or any(role != "assistant" for role in answers):
        raise RowError(
            "NO_SHARED_PROMPT",
            f"chosen and rejected share {length} messages, and what follows answers no common "
            "prompt",
        )
    if len(answers) < 2:
        raise RowError("EMPTY_COMPLETION", "a side ends where the shared prompt ends")
    return {"prompt": ours[:length], "chosen": ours[length:], "rejected": theirs[length:]}
