"""Rules that look at the answer alone: its length, a pattern, its form."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, NoReturn, Self

from pydantic import Field, field_validator, model_validator

from curation.rewards.text import sentences, words_or_characters
from schemas.records import Completion, Prompt, Record, without_thought


class Rule(Record, ABC):
    """A `RewardFunction` that scores each completion by itself.

    What counts is `Completion.said`: a thought in front of the answer is none of it, whether it
    stands in the content or in a field of its own.
    """

    kind: ClassVar[Literal["rule"]] = "rule"
    name: str

    @abstractmethod
    def score(self, prompt: Prompt, completion: Completion) -> float | None:
        """The score of one completion; None abstains."""

    def check(self, prompt: Prompt) -> None:
        """Nothing, if answers to this prompt can be scored.

        Raises:
            ValueError: what the prompt says about a right answer is of no use to this rule.
        """

    def judges(self, prompt: Prompt) -> bool:
        """Whether the prompt holds what answers to it are compared with."""
        return True

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> list[float | None]:
        return [self.score(*pair) for pair in zip(prompts, completions, strict=True)]


class LengthReward(Rule):
    """1 within the limits, and the ratio of length and nearer limit outside; an empty answer is 0.

    With `at_most=20`, an answer of 40 words scores 0.5; with `at_least=20`, one of 10 does. In a
    script that is written without spaces, as Chinese and Thai are, each character is a word.
    """

    name: str = "length"
    unit: Literal["words", "characters", "sentences"] = "words"
    at_least: int | None = Field(default=None, ge=1)
    at_most: int | None = Field(default=None, ge=1)
    target: int | None = Field(default=None, ge=1)
    """The one length that scores 1; in place of the limits."""

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        limits = [limit for limit in (self.at_least, self.at_most) if limit is not None]
        if bool(limits) == (self.target is not None):
            raise ValueError("a length reward needs either target, or at_least, at_most or both")
        if limits != sorted(limits):
            raise ValueError(f"at_least is {self.at_least}, more than at_most ({self.at_most})")
        return self

    def score(self, prompt: Prompt, completion: Completion) -> float:
        text = completion.said.strip()
        length = len(_UNITS[self.unit](text))
        if length == 0:
            return 0.0
        low = self.target or self.at_least or 1
        high = self.target or self.at_most or length
        return min(1.0, length / low, high / length)


_UNITS: dict[str, Callable[[str], Sequence[str]]] = {
    "words": words_or_characters,
    "characters": str,
    "sentences": sentences,
}


class RegexReward(Rule):
    """1 where the pattern is found in the answer (or is absent from it), else 0.

    The pattern sees a thought that the content holds, too. An empty answer is 0 either way: silence
    is no way to leave a word out.
    """

    name: str = "regex"
    pattern: str
    expect: Literal["match", "absence"] = "match"
    ignore_case: bool = False

    @field_validator("pattern")
    @classmethod
    def _pattern_compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"'{pattern}' is not a regular expression: {error}") from None
        return pattern

    def score(self, prompt: Prompt, completion: Completion) -> float:
        text = completion.text
        found = re.search(self.pattern, text, re.IGNORECASE if self.ignore_case else 0)
        return float(bool(text.strip()) and (found is not None) == (self.expect == "match"))


class FormatReward(Rule):
    """1 where the answer has the form, else 0.

    json: the whole answer, but for a code fence around it, is valid JSON. bullet_list: two bullet
    items or more. numbered_list: two items or more, numbered 1, 2, 3 ... think: one
    `<think>...</think>` block opens the answer and something follows it.
    """

    name: str = "format"
    form: Literal["json", "bullet_list", "numbered_list", "think"]
    prefill: str = ""
    """What the template opens every answer with, such as `<think>`: where the answer does not open
    with it, it is put back before the form is checked."""

    def score(self, prompt: Prompt, completion: Completion) -> float:
        text = _with_reasoning(completion)
        if self.prefill and not text.lstrip().startswith(self.prefill.strip()):
            text = self.prefill + text
        return float(_FORMS[self.form](text if self.form == "think" else without_thought(text)))


def _with_reasoning(completion: Completion) -> str:
    """The text, with reasoning that is kept beside the content put back in front of it."""
    reasoning = "".join(message.reasoning_content or "" for message in completion.messages)
    return f"<think>{reasoning}</think>{completion.text}" if reasoning else completion.text


def is_json(text: str) -> bool:
    """Whether the text, but for a code fence around it, is valid JSON (NaN is not)."""
    fenced = re.fullmatch(r"```(?:json)?\s*\n?(.*?)\s*```", text.strip(), re.DOTALL | re.IGNORECASE)
    try:
        json.loads(fenced.group(1) if fenced else text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _is_bullet_list(text: str) -> bool:
    return len(re.findall(r"^[ \t]*[-*+•][ \t]+\S", text, re.MULTILINE)) >= 2


def _is_numbered_list(text: str) -> bool:
    numbers = [int(n) for n in re.findall(r"^[ \t]*(\d{1,3})[.)][ \t]+\S", text, re.MULTILINE)]
    return len(numbers) >= 2 and numbers == list(range(1, len(numbers) + 1))


def _thinks_first(text: str) -> bool:
    once = text.count("<think>") == text.count("</think>") == 1
    return once and re.fullmatch(r"\s*<think>.*</think>\s*\S.*", text, re.DOTALL) is not None


_FORMS: dict[str, Callable[[str], bool]] = {
    "json": is_json,
    "bullet_list": _is_bullet_list,
    "numbered_list": _is_numbered_list,
    "think": _thinks_first,
}
