"""How a template opens an answer, and how a sampled text becomes a message that renders as sampled.

A generation prompt may open the answer, most often with `<think>`. The sampled text then lacks
what the rendered conversation must have once: some templates take it in the content, some take
reasoning in a field of its own, some write an empty thought where they find none. Which it is, is
found by rendering.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from schemas.records import Message

_MARK = "PROBETEXT"
_TAG = re.compile(r"([<\[])(\w+)([>\]])")

Render = Callable[[Message | None, bool], str]
"""Renders one user turn with that answer, or with none; the flag adds the generation prompt."""


class Opening(NamedTuple):
    """What stands before an answer's own text."""

    prefill: str
    """What the generation prompt opens the answer with and the content has to repeat."""
    inserted: str
    """What the template writes in front of a plain answer, beyond the generation prompt."""
    open_tag: str
    close_tag: str
    """The tags around a thought, empty where there are none."""

    @property
    def plain(self) -> bool:
        """Whether a sampled text is the content as it is."""
        return not (self.prefill or self.inserted or self.close_tag)

    def forms(self, text: str) -> Iterator[Message]:
        """The messages that a sampled text may be, the likeliest first."""
        yield Message(role="assistant", content=self.prefill + text)
        if self.prefill:
            yield Message(role="assistant", content=text)
        thought, closed, answer = (self.prefill + text).partition(self.close_tag or "\0")
        if closed:
            reasoning = thought.partition(self.open_tag)[2].strip("\n")
            content = answer.strip("\n")
            yield Message(role="assistant", content=content, reasoning_content=reasoning)

    def sample(self) -> str:
        """A text as the model may sample it after the generation prompt."""
        return f"{_MARK}\n{self.close_tag}\n\n{_MARK}" if self.close_tag and self.prefill else _MARK


def opening_of(render: Render) -> Opening:
    """How the template that renders so opens an answer."""
    unopened, opened = render(None, False), render(None, True)
    plain = render(Message(role="assistant", content=_MARK), False)
    inserted = ""
    if plain.startswith(opened):
        inserted = plain[len(opened) :].partition(_MARK)[0]
        if not inserted:
            return Opening("", "", "", "")
    added = opened.removeprefix(unopened)
    open_tag, close_tag, thought = _thought(added, inserted)
    openings = [Opening(end, inserted, open_tag, close_tag) for end in _ends_of(added)]
    for sample in dict.fromkeys([*(opening.sample() for opening in openings), _MARK]):

        def renders(form: Message, sampled: str = opened + sample) -> bool:
            return render(form, False).startswith(sampled)

        for opening in openings:
            if renders(next(opening.forms(sample))):
                return opening
        for opening in openings:
            if opening.prefill == thought and any(map(renders, opening.forms(sample))):
                return opening
    return Opening("", inserted, open_tag, close_tag)


def _thought(added: str, inserted: str) -> tuple[str, str, str]:
    """The tags of a thought, and the end of the generation prompt from its opening tag on."""
    found = re.search(_TAG.pattern + r"\s*$", added)
    prefill = found[0] if found else ""
    found = found or _TAG.search(inserted)
    if found is None:
        return "", "", ""
    left, name, right = found.groups()
    return f"{left}{name}{right}", f"{left}/{name}{right}", prefill


def _ends_of(added: str) -> list[str]:
    """The ends of what the generation prompt adds, shortest first: one may be of the answer."""
    starts = {0, *(found.start() for found in re.finditer(r"(?<=\n).|[<\[]", added))}
    return [added[start:] for start in sorted(starts, reverse=True)]
