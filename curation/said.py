"""What messages say, and whether a rendered conversation says it, apart from white space."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from curation.template import Template
from schemas.records import Message, Prompt

_PROBE = "PROBETEXT"


class Said(NamedTuple):
    """A text that stands in a message."""

    turn: int
    key: str
    text: str


def texts(messages: Sequence[Message]) -> Iterator[Said]:
    """Every text in the messages that is more than white space."""
    for turn, message in enumerate(messages):
        for key in ("reasoning_content", "content"):
            text = getattr(message, key)
            if text and not text.isspace():
                yield Said(turn, key, text)


def says(rendered: str, text: str) -> bool:
    """Whether the text is in what was rendered."""
    return text in rendered or "".join(text.split()) in "".join(rendered.split())


def begins(rendered: str, text: str) -> bool:
    """Whether what was rendered begins with the text."""
    return rendered.startswith(text) or "".join(rendered.split()).startswith("".join(text.split()))


def lost_text(template: Template, prompt: Prompt, rendered: str) -> Said | None:
    """The first text, or called tool, that the rendered prompt lacks; None where it lacks none."""
    said = list(texts(prompt.messages))
    messages = prompt.message_dicts()
    for number, (turn, key, _) in enumerate(said):
        messages[turn][key] = f"{_PROBE}{number}."
    frame = _frame(template, prompt, messages)
    probes = re.compile(rf"{_PROBE}(\d+)\.")
    told = probes.sub(lambda probe: said[int(probe[1])].text, frame)
    if not _same(told, rendered) or len(set(probes.findall(frame))) < len(said):
        for one in said:
            removed = _removed(template, prompt, rendered, one)
            if removed is not None:
                return one._replace(text=removed)
    for turn, message in enumerate(prompt.messages):
        for call in message.tool_calls or ():
            if call.function.name not in rendered:
                return Said(turn, "tool_calls", call.function.name)
    return None


def _removed(template: Template, prompt: Prompt, rendered: str, one: Said) -> str | None:
    """The part of one text that the rendered prompt lacks.

    A probe in its place shows what stands before and after it.
    """
    messages = prompt.message_dicts()
    messages[one.turn][one.key] = _PROBE
    before, found, after = _frame(template, prompt, messages).partition(_PROBE)
    if not (found and rendered.startswith(before) and rendered.endswith(after)):
        return None if says(rendered, one.text) else one.text
    kept = rendered[len(before) : len(rendered) - len(after)].strip()
    if _same(kept, one.text):
        return None
    text = one.text.strip()
    start = first_difference(text, kept)
    end = first_difference(text[start:][::-1], kept[start:][::-1])
    return text[start : len(text) - end]


def _frame(template: Template, prompt: Prompt, messages: list[dict[str, Any]]) -> str:
    return template.try_render(messages, tools=prompt.tools, add_generation_prompt=True)


def _same(one: str, other: str) -> bool:
    return one == other or "".join(one.split()) == "".join(other.split())


def first_difference(one: Sequence[Any], other: Sequence[Any]) -> int:
    """The first index at which the two differ, or at which the shorter ends."""
    for at, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return at
    return min(len(one), len(other))
