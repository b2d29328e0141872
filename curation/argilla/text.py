"""What the labelling page shows of a text, character by character.

The page's field puts a record's JSON inside a script element, by `String.replace`: `</script>` in
an answer would end that element and run what follows, `$&` would be replaced, and `#TEMPLATE#`
would take the template's place. So five characters travel as named HTML entities, which the page
turns back, and nothing that a model wrote is ever read as markup. The stored texts stay as they
are; only the copy on the page is written otherwise.
"""

import html
import json
import re

from schemas.records import Completion, Message, Prompt

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&dollar;", "#": "&num;"}
_ESCAPE = str.maketrans(_ENTITIES)
_UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_CARRIAGE_RETURN = re.compile("\r\n?")


def escaped(text: str) -> str:
    """The text with no character that the page's field gives a meaning."""
    return text.translate(_ESCAPE)


def unescaped(text: str) -> str:
    """The text whose `escaped` this is."""
    return html.unescape(text)


def visible(text: str) -> str:
    """The text as people see it: what has no glyph is drawn or spelt out.

    NUL and other controls become their pictures (U+2400 and up), half a surrogate pair its escape
    `\\ud83d`; neither can be stored by every database.
    """
    return _UNSHOWABLE.sub(_drawn, _CARRIAGE_RETURN.sub("\n", text))


def shown_messages(prompt: Prompt) -> list[dict[str, str]]:
    """The conversation that the answers continue: `role` and `content` a turn, tools first."""
    turns = [{"role": message.role, "content": _said(message)} for message in prompt.messages]
    if prompt.tools:
        tools = json.dumps(prompt.tools, indent=2, ensure_ascii=False)
        turns.insert(0, {"role": "tools", "content": visible(tools)})
    return turns


def shown_answer(completion: Completion) -> str:
    """The answer as the page shows it, with the tools it calls."""
    return "\n".join(_said(message) for message in completion.messages)


def _said(message: Message) -> str:
    parts = [] if message.content is None else [message.content]
    for call in message.tool_calls or ():
        arguments = json.dumps(call.function.arguments, ensure_ascii=False)
        parts.append(f"{call.function.name}({arguments})")
    return visible("\n".join(parts))


def _drawn(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code >= 0xD800:
        return f"\\u{code:04x}"
    return "\u2421" if code == 0x7F else chr(0x2400 + code)
