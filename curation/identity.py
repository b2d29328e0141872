"""Who a model says it is: the names that it gives itself, and the edit that gives it another.

A small model invents a name each time it is asked ("I'm Dr. Elena Argent", "an AI named SmolLM"),
so there is no one name to replace. Looked for are the ways in which English introduces oneself.
"""

import re
from dataclasses import dataclass

from curation.languages import whole_word
from schemas.records import Prompt, without_thought

_WORD = r"(?!AI\b)[A-ZÀ-Þ][\w’'-]*[a-zà-ÿ][\w’'-]*"
_NAME = rf"[\"“*]*(?P<name>(?:(?:Dr|Mr|Mrs|Ms|Prof)\.? )?{_WORD}(?: {_WORD}){{0,3}})"
_I_AM = r"\b(?:I am|I['’]m)"
_PEOPLE = (
    r"(?!(?:African|American|Arab|Asian|Australian|Austrian|Belgian|Brazilian|British|Buddhist"
    r"|Canadian|Catholic|Chinese|Dutch|Egyptian|English|European|French|German|Greek|Hindu|Indian"
    r"|Irish|Italian|Japanese|Jewish|Korean|Mexican|Muslim|Nigerian|Norwegian|Polish|Portuguese"
    r"|Russian|Scottish|Spanish|Swedish|Swiss|Turkish|Ukrainian|Vietnamese)\b(?! [A-ZÀ-Þ]))"
)
"""Whom "I'm ..." says one belongs to, which is no name unless another word of a name follows."""
_INTRODUCTIONS = [
    re.compile(rf"{opening} {_NAME}")
    for opening in (
        rf"{_I_AM} (?:called|named|known as)",
        rf"{_I_AM}(?= {_PEOPLE})",
        r"\b[Mm]y (?:\w+ )?name(?: is|['’]s)",
        r"\b[Cc]all me",
        r"\bI go by",
        r"\b(?:AI|[Aa]ssistant|[Cc]hatbot|[Mm]odel)\b[^.!?\n]{0,30}? (?:named|called)",
        r"\b[Nn]ame of (?:this|the) (?:\w+ )?assistant is",
    )
]
_ROLE = re.compile(rf"({_I_AM}) (?=(?:an?|the|your)\b)")


def names_given(text: str) -> list[str]:
    """The names by which the text introduces who speaks, in the order in which they stand."""
    found = {
        match.start("name"): match["name"].rstrip("'’-")
        for pattern in _INTRODUCTIONS
        for match in pattern.finditer(text)
        # "I'm Alex's assistant" names another.
        if not match["name"].endswith(("'s", "’s"))
    }
    return [found[start] for start in sorted(found)]


@dataclass(frozen=True)
class IntroduceAs:
    """The answer with another name wherever it says who speaks; for prompts with the tag.

    Each name that it gives itself is replaced, wherever it stands. Where it gives none, the first
    "I am a ..." becomes "I am NAME, a ..."; where it does not say what it is either, one sentence
    with the name goes first, behind a thought. All else stays, so that chosen and rejected differ
    in this alone.
    """

    name: str
    tag: str = "identity"
    """Answers to prompts without this tag stay as they are."""

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name.strip()):
            raise ValueError(f"name is {self.name!r}; expected the name that the model is to have")

    def __call__(self, prompt: Prompt, text: str) -> str | None:
        if self.tag not in prompt.tags or not without_thought(text).strip():
            return None
        # With its own name among them, so that a name which is part of that is not replaced in it.
        names = sorted({*names_given(text), self.name}, key=len, reverse=True)
        text = re.sub(whole_word("|".join(map(re.escape, names))), self._named, text)
        said = without_thought(text)
        if mentions(said, self.name):
            return text
        said = said if said == text else said.lstrip()
        thought = text.removesuffix(said)
        as_role, changed = _ROLE.subn(lambda found: f"{found[1]} {self.name}, ", said, count=1)
        return thought + (as_role if changed else f"I'm {self.name}. {said}")

    def _named(self, _: re.Match[str]) -> str:
        return self.name


def mentions(text: str, name: str) -> bool:
    """Whether the name stands in the text as a whole word, in any case."""
    return re.search(whole_word(re.escape(name)), text, re.IGNORECASE) is not None
