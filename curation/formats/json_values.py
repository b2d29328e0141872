"""Values as anybody's file has them: what can be stored, and what its reader calls them."""

import json
import math
from collections.abc import Mapping
from typing import Any

_DEEPEST = 100


class RowError(ValueError):
    """A row that cannot be used; `code` is the reason it is quarantined under."""

    def __init__(self, code: str, message: str) -> None:
        # A message may quote the row, and what is wrong with the row may be half a character.
        super().__init__(message.encode("utf-8", "replace").decode())
        self.code = code


def type_name(value: Any) -> str:
    """What a reader of a JSON file calls the value."""
    names: dict[type, str] = {dict: "an object", list: "a list", str: "text", bool: "a boolean"}
    if value is None:
        return "null"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "a number"
    return names.get(type(value), f"a {type(value).__name__}")


def opened_json(text: str) -> Any:
    """The value that the JSON text stands for.

    Raises:
        ValueError: it is no JSON, or nested deeper than Python reads.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def json_list(value: Any) -> list[Any] | None:
    """The list that the value is, or is the JSON text of; None for anything else."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = opened_json(value)
        except ValueError:
            return None
    return value if isinstance(value, list) else None


def check_storable(value: Any) -> None:
    """Refuse what no JSON, Parquet or labelling server can hold.

    Raises:
        RowError: BAD_UNICODE (a lone surrogate), NUL_CHARACTER (damaged text: no text that a
            person typed has one, and databases refuse it), BAD_NUMBER (NaN, infinity or more than
            64 bits), TOO_DEEP (more than 100 levels) or NOT_JSON (bytes, dates).
    """
    _check_storable(value, 0)


def _check_storable(value: Any, depth: int) -> None:
    if _is_too_deep(value, depth):
        raise RowError("TOO_DEEP", f"lists or objects are nested more than {_DEEPEST} deep")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check_storable(key, depth + 1)
            _check_storable(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_storable(item, depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise RowError("BAD_NUMBER", f"{value} is not a number that JSON has")
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise RowError("BAD_NUMBER", f"{value} does not fit 64 bits; write it as text")
    elif value is not None:
        raise RowError("NOT_JSON", f"{type_name(value)} is nothing that JSON can hold")


def whole_characters(value: Any) -> Any:
    """The value with half surrogate pairs replaced by U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [whole_characters(item) for item in value]
    if isinstance(value, dict):
        return {whole_characters(key): whole_characters(item) for key, item in value.items()}
    return value


def as_json(value: Any) -> Any:
    """The value as JSON can hold it: what JSON lacks, such as NaN, bytes, dates, becomes its text.

    Of what is nested too deep to be stored an ellipsis is left.
    """
    return _as_json(value, 0)


def _as_json(value: Any, depth: int) -> Any:
    if _is_too_deep(value, depth):
        return "..."
    if isinstance(value, Mapping):
        return {str(key): _as_json(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item, depth + 1) for item in value]
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return str(value)[:1000]


def _is_too_deep(value: Any, depth: int) -> bool:
    return depth >= _DEEPEST and isinstance(value, Mapping | list | tuple)


def _check_text(text: str) -> None:
    if "\0" in text:
        raise RowError(
            "NUL_CHARACTER", f"a NUL character at position {text.index(chr(0))} of a text"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RowError(
            "BAD_UNICODE",
            f"half a surrogate pair (U+{ord(text[error.start]):04X}) at position {error.start} "
            "of a text",
        ) from None
