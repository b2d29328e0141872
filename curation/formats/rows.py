"""Preference rows out of anybody's file: prompt, chosen and rejected as messages, or why not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from curation.formats.files import Row, open_rows, read_jsonl, read_rows
from curation.formats.messages import (
    RowError,
    check_storable,
    normalise_messages,
    normalise_tools,
    type_name,
)

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
    """The other columns: p_chosen, weight, margin, pair_id ..."""
    error: tuple[str, str] | None = None
    """Code and message where the row cannot be a pair."""


def preference_rows(
    path: str | Path, *, split: str = "train", fix: bool = False
) -> Iterator[RawFileRow]:
    """The preferences of a file, in its order, one a row.

    A row has an explicit prompt and two completions, or two conversations that share their first
    messages: the prompt is then the longest shared start that the assistant answers to. Text
    becomes a message; no text is ever cut, so texts without a prompt share none.

    A row that is no pair comes with its `error`: BAD_ROW, MISSING_COLUMN, EMPTY_PROMPT,
    EMPTY_COMPLETION, NO_SHARED_PROMPT, PROMPT_REPEATED_IN_COMPLETION, or a code of
    `normalise_messages`, `normalise_tools` or `check_storable`. With `fix`, a repeated prompt is
    taken off the completions and half a surrogate pair becomes U+FFFD.

    Raises:
        ValueError: the file cannot be read.
    """
    unit, rows = open_rows(path, split=split)
    for number, row in rows:
        yield _preference_row(f"{unit} {number}", row, fix)


def _preference_row(row_id: str, row: Row, fix: bool) -> RawFileRow:
    if isinstance(row, RowError):
        return RawFileRow(row_id, None, None, None, None, {}, (row.code, str(row)))
    pair: dict[str, Any] = {name: row.get(name) for name in _PAIR_COLUMNS}
    extra = {name: value for name, value in row.items() if name not in _PAIR_COLUMNS}
    error = None
    try:
        missing = [name for name in ("chosen", "rejected") if pair[name] is None]
        if missing:
            columns = ", ".join(map(str, row)) or "none"
            raise RowError("MISSING_COLUMN", f"no '{missing[0]}'; the row's columns: {columns}")
        if fix:
            pair = _with_whole_characters(pair)
        pair["tools"] = normalise_tools(pair["tools"])
        check_storable(pair)
        pair.update(_split(pair["prompt"], pair["chosen"], pair["rejected"], fix))
    except RowError as problem:
        error = (problem.code, str(problem))
    return RawFileRow(row_id, **pair, extra=extra, error=error)


def _split(prompt: Any, chosen: Any, rejected: Any, fix: bool) -> dict[str, Messages]:
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if side in ("", []):
            raise RowError("EMPTY_COMPLETION", f"{name} is empty")
    if prompt is None:
        return _without_shared_start(chosen, rejected)
    if prompt in ("", []):
        raise RowError("EMPTY_PROMPT", "the prompt is empty")
    start = normalise_messages(prompt)
    sides = {
        name: normalise_messages(side, role="assistant")
        for name, side in (("chosen", chosen), ("rejected", rejected))
    }
    repeats = [name for name, side in sides.items() if side[: len(start)] == start]
    if repeats and not fix:
        raise RowError(
            "PROMPT_REPEATED_IN_COMPLETION",
            f"the whole prompt comes again in {' and '.join(repeats)}; fix takes it off",
        )
    for name in repeats:
        sides[name] = sides[name][len(start) :]
        if not sides[name]:
            raise RowError("EMPTY_COMPLETION", f"{name} is the prompt and nothing more")
    return {"prompt": start, **sides}


def _without_shared_start(chosen: Any, rejected: Any) -> dict[str, Messages]:
    """Prompt and completions of two conversations that start alike."""
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if not isinstance(side, list):
            raise RowError(
                "NO_SHARED_PROMPT",
                f"there is no prompt and {name} is {type_name(side)}, which is never cut; give "
                "the prompt a column of its own",
            )
    ours, theirs = normalise_messages(chosen), normalise_messages(rejected)
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


def _with_whole_characters(value: Any) -> Any:
    """The value with half surrogate pairs replaced by U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_with_whole_characters(item) for item in value]
    if isinstance(value, dict):
        return {_with_whole_characters(key): _with_whole_characters(v) for key, v in value.items()}
    return value
