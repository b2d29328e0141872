"""One shape for anybody's messages: what chat templates take, and nothing Arrow put there."""

import contextlib
import re
from collections.abc import Mapping
from typing import Any

from curation.formats.json_values import RowError, json_list, opened_json, type_name
from curation.formats.visible import is_visible

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
_PRINTED = re.compile(r"\s*\[\s*\{\s*'(?:role|content|from|value)':")
_SYSTEM_COLUMNS = ("system", "system_prompt")


def normalise_messages(value: Any, *, role: str = "user") -> list[dict[str, Any]]:
    """The messages as `Message.to_dict()` writes them: role and content, other keys where set.

    Takes OpenAI messages, ShareGPT turns (`from`, `value`), one such message by itself, and plain
    text, which becomes one message of `role`. A null key counts as an absent one; nulls inside tool
    arguments stay.

    Raises:
        RowError: BAD_MESSAGE, UNKNOWN_ROLE, UNSUPPORTED_CONTENT or BAD_TOOL_CALL; the message
            names the position.
    """
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, dict):
        return [_message(value)]
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
            value = opened_json(value)
        except ValueError:
            raise RowError("BAD_TOOLS", "'tools' is text but not the JSON of a list") from None
    if not value:
        return None
    if not (isinstance(value, list) and all(isinstance(tool, dict) for tool in value)):
        raise RowError("BAD_TOOLS", "'tools' is not a list of tool schemas")
    return value


def opened_cell(cell: str) -> Any:
    """The messages that a cell of a CSV file holds as JSON; else the cell.

    Raises:
        RowError: BAD_MESSAGE, where it holds them as Python prints a list.
    """
    if _PRINTED.match(cell):
        raise RowError(
            "BAD_MESSAGE", "a cell holds messages as Python prints them; expected them as JSON"
        )
    messages = json_list(cell) or []
    are_messages = all(isinstance(one, dict) and {"role", "from"} & set(one) for one in messages)
    return messages if messages and are_messages else cell


def with_system_text(messages: list[dict[str, Any]], row: Mapping[str, Any]) -> list[Any]:
    """The messages after the system text that the row keeps in a column of its own.

    Raises:
        RowError: BAD_MESSAGE, where a message holds another system text.
    """
    texts = (row.get(name) for name in _SYSTEM_COLUMNS)
    text = next((text for text in texts if isinstance(text, str) and is_visible(text)), None)
    said = [message["content"] for message in messages if message["role"] == "system"]
    if text is None or said == [text]:
        return messages
    if said:
        raise RowError("BAD_MESSAGE", "one system text is in a column, another in the messages")
    return [{"role": "system", "content": text}, *messages]


def refuse_history(row: Mapping[str, Any]) -> None:
    """Refuse an instruction's row whose earlier turns stand in a column of their own (LLaMA
    Factory), as they would be lost.

    Raises:
        RowError: BAD_ROW.
    """
    if row.get("history"):
        raise RowError(
            "BAD_ROW", "'history' holds earlier turns; expected the whole conversation as messages"
        )


def check_asks(messages: list[dict[str, Any]]) -> None:
    """Refuse a prompt that asks nothing: an empty turn, or none that says anything.

    Raises:
        RowError: EMPTY_PROMPT.
    """
    says = [is_visible(message.get("content") or "") for message in messages]
    for index, message in enumerate(messages):
        said = says[index] or message.get("tool_calls")
        if not said and message["role"] in ("user", "assistant"):
            raise RowError("EMPTY_PROMPT", f"message {index} ({message['role']}) is empty")
    if not any(says):
        raise RowError("EMPTY_PROMPT", "no message says anything")


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
        with contextlib.suppress(ValueError):
            arguments = opened_json(arguments)
    plain = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return plain if call_id is None else {"id": call_id, **plain}


def _set_keys(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    return {str(key): item for key, item in value.items() if item is not None}
