"""What a judge is asked: a template in which the prompt and its answers are filled in."""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from schemas.config_files import unknown_key
from schemas.records import Completion, Message, Prompt, content_hash, without_thought

CRITERIA = (
    "how helpful, correct and relevant it is, whether it follows the instructions of the "
    "conversation, and whether it says so clearly and no longer than it needs to"
)

POINTWISE = """\
You are an impartial judge. Rate the assistant's answer to the conversation below.

What counts is {criteria}.

[Conversation]
{prompt}
[End of conversation]

[Answer]
{answer}
[End of answer]

Explain your rating in a sentence or two. Then end with a line of this form, where N is a number \
from {low} (worst) to {high} (best):
Score: N"""

PAIRWISE = """\
You are an impartial judge. Two assistants answered the conversation below. Say which answer is \
better.

What counts is {criteria}. The order in which the answers are shown says nothing about them, and \
longer is not better.

[Conversation]
{prompt}
[End of conversation]

[Answer A]
{first}
[End of answer A]

[Answer B]
{second}
[End of answer B]

Explain your comparison in a sentence or two. Then end with your verdict alone on a line: [[A]] if \
answer A is better, [[B]] if answer B is better, [[tie]] if neither is."""

_FIELD = re.compile(r"\{([a-z_]+)\}")


class JudgeTemplate:
    """A text with fields in braces, such as `{prompt}`; other braces are just braces.

    `template` is a text, which has a field in it, or the path of a file that holds one.

    Raises:
        ValueError: there is no such file, a needed field is missing, or a field is unknown.
    """

    def __init__(self, template: str, *, needed: Collection[str], known: Collection[str]) -> None:
        self._text = template if _FIELD.search(template) else _read(template)
        fields = set(_FIELD.findall(self._text))
        for field in sorted(fields - {*needed, *known}):
            raise ValueError(f"judge template: {unknown_key(field, {*needed, *known})}")
        for field in sorted(set(needed) - fields):
            raise ValueError(f"judge template has no {{{field}}}; the judge must be shown it")
        self.hash = content_hash(self._text)

    def fill(self, values: Mapping[str, str]) -> str:
        """The text with its fields filled in; braces within the values stay as they are."""
        return _FIELD.sub(lambda field: values[field[1]], self._text)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ValueError(
            f"judge template '{path}' cannot be read ({why}); expected a file, or a text with "
            "fields such as {prompt}"
        ) from None


def conversation(prompt: Prompt) -> str:
    """The prompt as a judge reads it: a lone user turn as it is, else each turn with its role."""
    shown = []
    if prompt.tools:
        shown.append(f"tools: {_json(prompt.tools)}")
    if not shown and len(prompt.messages) == 1 and prompt.messages[0].role == "user":
        return prompt.messages[0].content or ""
    shown += [f"{message.role}: {_said(message)}" for message in prompt.messages]
    return "\n\n".join(shown)


def answer_text(completion: Completion) -> str:
    """The answer as a judge reads it: what it says and the tools it calls, not what it thought."""
    said = [
        _said(message.model_copy(update={"content": without_thought(message.content or "")}))
        for message in completion.messages
    ]
    if len(said) == 1:
        return said[0]
    turns = zip(completion.messages, said, strict=True)
    return "\n\n".join(f"{message.role}: {text}" for message, text in turns)


def reference_text(prompt: Prompt) -> str:
    """The prompt's reference answer, empty where it has none."""
    answer = prompt.answer
    return "" if answer is None else answer if isinstance(answer, str) else _json(answer)


def _said(message: Message) -> str:
    calls = [
        f"[calls {call.function.name} with {_json(call.function.arguments)}]"
        for call in message.tool_calls or ()
    ]
    return "\n".join([*([message.content] if message.content else []), *calls])


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
