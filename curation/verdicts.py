"""What a judge said of two answers: read strictly, and held against what it said the other way
round."""

import json
import re
from typing import Literal, NamedTuple

Verdict = Literal["first", "second", "tie"]

_WORDS: dict[str, Verdict] = {"a": "first", "b": "second", "tie": "tie"}
_MARK = re.compile(r"\[\[\s*(A|B|C|tie)\s*\]\]", re.IGNORECASE)
_FENCE = re.compile(r"\A```(?:json)?\s*(.*?)\s*```\Z", re.DOTALL)
_DECORATION = " \t\r\n*_`\"'.()[]"
_KEYS = ("verdict", "winner", "better", "choice", "answer")


class Compared(NamedTuple):
    """What a judge said of two answers, asked in both orders; both in the terms of the first."""

    forward: Verdict | None
    """Shown as given; None: no verdict."""
    backward: Verdict | None
    """Shown the other way round, turned back: `first` is the same answer in both."""

    @property
    def share(self) -> float | None:
        """Of the win that the first one has: 1, 0, or 0.5 for a tie or orders that differ; None
        where an order has no verdict."""
        if self.forward is None or self.backward is None:
            return None
        if self.forward != self.backward:
            return 0.5
        return {"first": 1.0, "tie": 0.5, "second": 0.0}[self.forward]

    @property
    def flipped(self) -> bool:
        """The two orders name different winners: the place decided and not the answer."""
        return {self.forward, self.backward} == {"first", "second"}


def turned(verdict: Verdict | None) -> Verdict | None:
    """The same verdict in the terms of the other answer."""
    swapped: dict[Verdict, Verdict] = {"first": "second", "second": "first", "tie": "tie"}
    return None if verdict is None else swapped[verdict]


def parse_verdict(text: str) -> Verdict | None:
    """The verdict in a judge's text, None where it has none or several that differ.

    A verdict is `[[A]]`, `[[B]]` or `[[tie]]` (`[[C]]` is a tie too, as in MT-Bench) anywhere in
    the text; or a text that is nothing but A, B or tie; or JSON with such a word under verdict,
    winner, better, choice or answer. Prose is not guessed at.
    """
    marks = {word.lower() for word in _MARK.findall(text)}
    if marks:
        found = {"tie" if word == "c" else _WORDS[word] for word in marks}
        return found.pop() if len(found) == 1 else None
    bare = text.strip(_DECORATION).lower()
    return _WORDS[bare] if bare in _WORDS else _in_json(text)


def _in_json(text: str) -> Verdict | None:
    fenced = _FENCE.match(text.strip())
    try:
        data = json.loads(fenced[1] if fenced else text)
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    found = {str(data[key]).strip().lower() for key in _KEYS if key in data}
    return _WORDS.get(found.pop()) if len(found) == 1 else None
