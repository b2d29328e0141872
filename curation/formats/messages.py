"""One shape for anybody's messages: what chat templates take, and nothing Arrow put there."""

import contextlib
import json
import math
from collections.abc import Mapping
from typing import Any

_ROLES = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "tool": "tool",
}
_TEXT_KEYS = ("name", "tool_call_id", "reasoning_content")


class RowError(ValueError):
    """A row that cannot be used; `code` is the reason it is quarantined under."""

    def __init__(self, code: str, message: str) -> None:
        # A message may quote the row, and what is wrong with the row may be half a character.
        super().__init__(message.encode("utf-8", "replace").decode())
        self.code = code


def normalise_messages(value: Any, *, role: str = "user") -> list[dict[str, Any]]:
    """The messages as `Message.to_dict()` writes them: role and content, other keys where set.

    Takes OpenAI messages, ShareGPT turns (`from`, `value`) and plain text, which becomes one
    message of `role`. A null key counts as an absent one; nulls inside tool arguments stay.

    Raises:
        RowError: BAD_MESSAGE, UNKNOWN_ROLE, UNSUPPORTED_CONTENT or BAD_TOOL_CALL; the message
            names the position.
    """
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if not isinstance(value, list):
        raise RowError(
            "BAD_MESSAGE", f"expected text or a list of messages, found {type_name(value)}"
        )
    messages = []
    for index, item in enumerate(value):
        try:
            messages.append(_message(item))
        except RowError as error:
            raise RowError(error.code, f"message {index}: {error}") from None
    return messages


def normalise_tools(value: Any) -> list[dict[str, Any]] | None:
    """The tool schemas, given as a list or as its JSON text; None where there are none.

    Raises:
        RowError: BAD_TOOLS.
    """
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError:
            raise RowError("BAD_TOOLS", "'tools' is text but not the JSON of a list") from None
    if not value:
        return None
    if not (isinstance(value, list) and all(isinstance(tool, dict) for tool in value)):
        raise RowError("BAD_TOOLS", "'tools' is not a list of tool schemas")
    return value


def check_storable(value: Any) -> None:
    """Refuse what no JSON, Parquet or labelling server can hold.

    Raises:
        RowError: BAD_UNICODE (a lone surrogate), NUL_CHARACTER (damaged text: no text that a
            person typed has one, and databases refuse it), BAD_NUMBER (NaN, infinity or more than
            64 bits) or NOT_JSON (bytes, dates).
    """
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            check_storable(key)
            check_storable(item)
    elif isinstance(value, list | tuple):
        for item in value:
            check_storable(item)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise RowError("BAD_NUMBER", f"{value} is not a number that JSON has")
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise RowError("BAD_NUMBER", f"{value} does not fit 64 bits; write it as text")
    elif value is not None:
        raise RowError("NOT_JSON", f"{type_name(value)} is nothing that JSON can hold")


def type_name(value: Any) -> str:
    """What a reader of a JSON file calls the value."""
    names: dict[type, str] = {dict: "an object", list: "a list", str: "text", bool: "a boolean"}
    if value is None:
        return "null"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "a number"
    return names.get(type(value), f"a {type(value).__name__}")


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


def _message(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise RowError("BAD_MESSAGE", f"expected an object with a role, found {type_name(item)}")
    keys = _set_keys(item)
    if "from" in keys and "role" not in keys:
        keys["role"] = keys.pop("from")
        if "content" not in keys and "value" in keys:
            keys["content"] = keys.pop("value")
    message: dict[str, Any] = {
        "role": _role(keys.pop("role", None)),
        "content": _content(keys.pop("content", None)),
    }
    calls = keys.pop("tool_calls", [])
    if not isinstance(calls, list):
        raise RowError("BAD_TOOL_CALL", f"tool_calls is {type_name(calls)}, not a list")
    if calls:
        message["tool_calls"] = [_tool_call(call) for call in calls]
    for key, value in keys.items():
        if key not in _TEXT_KEYS:
            known = ", ".join(("role", "content", "tool_calls", *_TEXT_KEYS))
            raise RowError("BAD_MESSAGE", f"unknown key '{key}'; a message has {known}")
        if not isinstance(value, str):
            raise RowError("BAD_MESSAGE", f"'{key}' is {type_name(value)}, not text")
        message[key] = value
    return message


def _role(name: Any) -> str:
    if not isinstance(name, str):
        raise RowError("BAD_MESSAGE", "it has no role")
    role = _ROLES.get(name.strip().casefold())
    if role is None:
        expected = ", ".join(_ROLES)
        raise RowError("UNKNOWN_ROLE", f"unknown role '{name}'; expected one of {expected}")
    return role


def _content(content: Any) -> str | None:
    """The text, also where it comes as a single text part."""
    if content is None or isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    if len(parts) == 1 and isinstance(parts[0], dict) and parts[0].get("type") == "text":
        text = parts[0].get("text")
        if isinstance(text, str):
            return text
    kinds = sorted({str(part.get("type")) for part in parts if isinstance(part, dict)})
    found = f"{len(parts)} parts of type {', '.join(kinds)}" if kinds else type_name(content)
    raise RowError("UNSUPPORTED_CONTENT", f"content is {found}; expected text or one text part")


def _tool_call(call: Any) -> dict[str, Any]:
    """The call, its arguments as an object; text that is not JSON stays as the model wrote it."""
    keys = _set_keys(call)
    function = _set_keys(keys.pop("function", None))
    call_id, kind = keys.pop("id", None), keys.pop("type", "function")
    name, arguments = function.pop("name", None), function.pop("arguments", None)
    unknown = [*keys, *function]
    if unknown:
        raise RowError("BAD_TOOL_CALL", f"a tool call has the unknown key '{unknown[0]}'")
    if not (isinstance(name, str) and kind == "function" and isinstance(call_id, str | None)):
        raise RowError(
            "BAD_TOOL_CALL",
            'a tool call is not of the form {"id": "...", "type": "function", "function": '
            '{"name": "...", "arguments": {...}}}',
        )
    if isinstance(arguments, str):
        with contextlib.suppress(ValueError, RecursionError):
            arguments = json.loads(arguments)
    plain = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return plain if call_id is None else {"id": call_id, **plain}


def _set_keys(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    return {str(key): item for key, item in value.items() if item is not None}
