"""Rewards that compare an answer with the prompt's reference answer."""

import re
import threading
from fractions import Fraction
from functools import lru_cache
from typing import Any

from pydantic import Field

from curation.rewards.numbers import DecimalMark, Number, final_number, last_boxed, plain_number
from curation.rewards.rules import Rule
from schemas.records import Completion, Prompt, normalise


class ExactAnswer(Rule):
    """1 where the answer equals the reference (or one of a list of references), else 0.

    Case, white space, Unicode forms, quotes around the answer and a full stop after it do not
    count. A prompt without a reference abstains.
    """

    name: str = "exact_answer"

    def score(self, prompt: Prompt, completion: Completion) -> float | None:
        if prompt.answer is None:
            return None
        given = _bare(completion.said)
        return float(given != "" and given in _accepted(prompt))

    def judges(self, prompt: Prompt) -> bool:
        return prompt.answer is not None

    def check(self, prompt: Prompt) -> None:
        if prompt.answer is not None:
            _accepted(prompt)


def _bare(text: str) -> str:
    return normalise(text).strip("\"'“”‘’").removesuffix(".").strip("\"'“”‘’ ")


def _accepted(prompt: Prompt) -> set[str]:
    references = prompt.answer if isinstance(prompt.answer, list) else [prompt.answer]
    if not references or not all(_is_answer(reference) for reference in references):
        raise ValueError(
            f"prompt '{prompt.id}': the reference answer is {prompt.answer!r}; "
            "expected a text, a number or a list of these"
        )
    return {_bare(_written(reference)) for reference in references}


def _written(reference: Any) -> str:
    """The reference as an answer writes it: a table with gaps makes 3.0 of the 3 in it."""
    whole = isinstance(reference, float) and reference.is_integer()
    return str(int(reference) if whole else reference)


def _is_answer(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


class NumericAnswer(Rule):
    """1 where the final number of the answer equals the reference number, else 0.

    `final_number` says which number is final and how numbers may be written. They are compared
    exactly, as fractions. `25%` equals `25%`; it also equals 0.25 and, where the other side left
    the sign out, 25. An answer without a number is wrong. A prompt without a reference abstains.

    math-verify compares where one side is an expression: a reference such as `2x+1`, or
    `\\boxed{\\sqrt{16}}` in the answer. It does not read the numbers of running text, for there it
    takes "3-5" for a difference, does not know the minus sign U+2212, and needs 15 ms an answer.
    """

    name: str = "numeric_answer"
    tolerance: float = Field(default=0.0, ge=0)
    """The largest difference that still counts as equal, as a share of the reference."""
    decimal_mark: DecimalMark = "."
    """`,` reads 1.234,5 as German, Spanish and French write it."""

    def score(self, prompt: Prompt, completion: Completion) -> float | None:
        if prompt.answer is None:
            return None
        reference, text = _reference(prompt), completion.said
        expected = plain_number(reference)
        if expected is None:
            return float(_same_expression(reference, text))
        box = last_boxed(text)
        if box and plain_number(box, decimal_mark=self.decimal_mark) is None:
            return float(_same_expression(reference, f"\\boxed{{{box}}}"))
        given = final_number(text, decimal_mark=self.decimal_mark)
        return float(given is not None and self._equal(given, expected))

    def judges(self, prompt: Prompt) -> bool:
        return prompt.answer is not None

    def check(self, prompt: Prompt) -> None:
        if prompt.answer is not None:
            _reference(prompt)

    def _equal(self, given: Number, expected: Number) -> bool:
        have, want, slack = given.value, expected.value, Fraction(self.tolerance)
        readings = [(have, want)]
        if given.percent and not expected.percent:
            readings.append((have / 100, want))
        if expected.percent and not given.percent:
            readings.append((have, want / 100))
        return any(abs(x - y) <= slack * abs(y) for x, y in readings)


def _reference(prompt: Prompt) -> str:
    """The part of the reference that is the answer itself: a number or an expression."""
    if _is_answer(prompt.answer):
        text = str(prompt.answer)
        final = text.rpartition("####")[2].strip() if "####" in text else text.strip()
        final = last_boxed(final) or final
        if re.search(r"\d|\\[a-z]", final):
            return final
    raise ValueError(
        f"prompt '{prompt.id}': the reference answer {prompt.answer!r} holds no number; "
        "expected one for numeric_answer (ExactAnswer compares texts)"
    )


def _same_expression(reference: str, text: str) -> bool:
    """Whether math-verify finds the expression in the text and holds both for equal."""
    from math_verify import parse, verify

    # The limit is an alarm signal, which only the main thread can set; without it `9^{9^{9^9}}`
    # would never end.
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            f"numeric_answer compares the expression '{reference}' under a time limit, which works "
            "in the main thread only; call the reward there"
        )
    given = parse(text, parsing_timeout=_SECONDS)
    return bool(verify(_parsed_reference(reference), given, timeout_seconds=_SECONDS))


_SECONDS = 5
"""What one expression may take; one that takes longer is not the same."""


@lru_cache(maxsize=4096)
def _parsed_reference(reference: str) -> list[Any]:
    from math_verify import parse

    marked = reference if "$" in reference else f"${reference}$"
    return list(parse(marked, parsing_timeout=_SECONDS))
