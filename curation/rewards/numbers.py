"""The number that a text gives as its answer."""

import re
from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple

DecimalMark = Literal[".", ","]


class Number(NamedTuple):
    value: Fraction
    """Exact; where a percent sign stands behind it, the number before the sign."""
    percent: bool = False


def final_number(text: str, *, decimal_mark: DecimalMark = ".") -> Number | None:
    """The number that the text gives as its answer; None where it holds none.

    It is looked for in this order: the last number in the last `\\boxed{}`; the first after the
    last `####`; the first after the last "answer is" or "answer:" (also in German, Spanish, French
    and Chinese) up to the end of the sentence, behind its `=` if there is one; the last of all.

    A number has a sign, decimals, thousands separators (`1,234`, `1{,}234`, a no-break or thin
    space), an exponent (`1e5`), or is a fraction (`3/4`, `1 3/4`, `\\frac{3}{4}`); a currency
    before it and a percent sign or unit behind it are no part of it. The hyphen of a range (`3-5`)
    is no sign, digits in names (`H2O`, `m2`) are no numbers.
    """
    text = _plain(text, decimal_mark)
    box = last_boxed(text)
    in_box = [_last(box)] if box is not None else []
    marked = [_first(text.rpartition("####")[2])] if "####" in text else []
    cued = [_first(_behind(cue)) for cue in list(_CUE.finditer(text))[-1:]]
    found = (number for number in (*in_box, *marked, *cued) if number is not None)
    return next(found, None) or _last(text)


@lru_cache(maxsize=4096)
def plain_number(text: str, *, decimal_mark: DecimalMark = ".") -> Number | None:
    """The number of a text that is one number, perhaps with words or a unit; None for all else."""
    text = _plain(re.sub(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}", r" \1", text), decimal_mark)
    numbers = list(_NUMBER.finditer(text))
    if len(numbers) != 1:
        return None
    before, after = text[: numbers[0].start()], text[numbers[0].end() :]
    in_words = re.fullmatch(r"(?:[^\W\d_]{2,}(?![^\W\d_])|[\s:*])*", before)
    with_unit = re.fullmatch(r"(?:[\s.°*][^\W\d_]*)*", after)
    return _value(numbers[0]) if in_words and with_unit else None


def last_boxed(text: str) -> str | None:
    """What stands between the braces of the last \\boxed{}, nested braces included."""
    openings = list(re.finditer(r"\\f?boxed\s*\{", text))
    if not openings:
        return None
    inner, depth = text[openings[-1].end() :], 1
    for end, char in enumerate(inner):
        depth += {"{": 1, "}": -1}.get(char, 0)
        if depth == 0:
            return inner[:end]
    return inner


_CUE = re.compile(
    r"(?:\banswer|\bantwort|\brespuesta|\bréponse|答案)[*_]*\s*"
    r"(?:\b(?:is|ist|lautet|es|est)\b|[是为為]|(?=[:：=]))\s*[:：=]?\s*([^\n]*)",
    re.IGNORECASE,
)


def _behind(cue: re.Match[str]) -> str:
    sentence = re.split(r"[.!?](?:\s|$)|。", cue.group(1))[0]
    return sentence.rpartition("=")[2]


_ASCII = str.maketrans("０１２３４５６７８９．，％−﹣－", "0123456789.,%---")


_FRAC = re.compile(
    r"(?P<sign>(?<![\w)}])-)?\\[dt]?frac\s*(?P<top>\{-?\d+\}|\d)\s*(?P<bottom>\{\d+\}|\d(?!\d))"
)


def _fraction(found: re.Match[str]) -> str:
    top, bottom = (found[part].strip("{}") for part in ("top", "bottom"))
    return f" {found['sign'] or ''}{top}/{bottom} "


def _plain(text: str, decimal_mark: DecimalMark) -> str:
    """The text with every way to write a number brought down to one: -1234.5, 3/4, 5%."""
    text = text.translate(_ASCII)
    text = _FRAC.sub(_fraction, text)
    text = re.sub(r"\\([$%])", r"\1", text)
    if decimal_mark == ",":
        text = re.sub(r"(?<=\d)[.,](?=\d)", lambda mark: {".": ",", ",": "."}[mark.group()], text)
    text = re.sub(r"(?<=\d)(?:\{,\}|\\[,!; ])(?=\d{3})", ",", text)
    return re.sub(
        r"(?<![\d.,])\d{1,3}(?:[,\u00a0\u2009\u202f]\d{3})+(?!\d)",
        lambda grouped: re.sub(r"\D", "", grouped.group()),
        text,
    )


_NUMBER = re.compile(
    r"""
    (?<![A-Za-z_\d./])                          # in no name (H2O), no date, no other number
    (?P<sign>(?<![\w)])-(?=[$€£¥]?[\d.]))?      # "3-5" is a range, "- 5" a list item
    [$€£¥]?\s?(?P<inner>(?<=[$€£¥])-(?=[\d.]))?
    (?:
        (?:(?P<whole>\d{1,50})\ )?(?P<top>\d{1,50})\ ?/\ ?(?P<bottom>0*[1-9]\d{0,49})(?![\d/])
      | (?P<decimal>(?:\d{1,50}(?:\.\d{1,50})?|\.\d{1,50})(?:[eE][-+]?\d{1,2})?)(?!\d|\ ?/\ ?\d)
    )
    (?P<percent>\s?(?:%|percent\b|per\ cent\b))?
    """,
    re.VERBOSE,
)


def _first(text: str) -> Number | None:
    found = _NUMBER.search(text)
    return _value(found) if found else None


def _last(text: str) -> Number | None:
    found = list(_NUMBER.finditer(text))
    return _value(found[-1]) if found else None


def _value(found: re.Match[str]) -> Number:
    if found["decimal"]:
        size = Fraction(found["decimal"])
    else:
        size = int(found["whole"] or 0) + Fraction(int(found["top"]), int(found["bottom"]))
    negative = bool(found["sign"] or found["inner"])
    return Number(-size if negative else size, percent=found["percent"] is not None)
