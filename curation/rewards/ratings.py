"""The rating that a judge wrote, on the scale that it was asked to use."""

import math
import re

_NUMBER = (
    r"(?<![\w.,/-])(-?\d+(?:\.\d+)?)(?!\d|%|[eE]\d|[.,]\d|\s?[-–]\s?\d)"
    r"(?:\s(?:to|or)\s(\d+(?:\.\d+)?))?"
    r"(?:(?: stars?| points?)?\s*\(?(?:/|(?:out )?of\b)\s*(\d+))?"
)
_CUE = r"(?:score|rating|rate|grade)[\"'*_]*\s*(?:is|of|as|it)?\s*[:=]?[\s\"'*_\[(]*"

_PLACES = (
    re.compile(rf"\b(?:overall|final|total)\s+{_CUE}{_NUMBER}", re.IGNORECASE),
    re.compile(rf"\b{_CUE}{_NUMBER}", re.IGNORECASE),
    re.compile(rf"\[\[{_NUMBER}\]\]"),
    re.compile(_NUMBER),
)
"""Where a rating may stand, the surest place first."""


def parse_rating(text: str, *, scale: tuple[float, float]) -> float:
    """The rating in the text, as it stands: it is never rescaled, rounded or clipped.

    It is looked for behind "overall score", then behind "score" or "rating", in `[[7]]`, and else
    is the only number of the text. `7/10` and `7 out of 10` are ratings where 10 is the top of the
    scale.

    Raises:
        ValueError: there is no rating, there are several, or it is not on the scale.
    """
    low, high = scale
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(
            f"rating scale is {low:g} to {high:g}; expected a lower and a higher number"
        )
    wanted = f"expected one rating from {low:g} to {high:g}"
    found = next((matches for place in _PLACES if (matches := place.findall(text))), [])
    values = [value for first, second, _ in found for value in (first, second) if value]
    if len(set(map(float, values))) != 1:
        listed = ", ".join(values) or "none"
        raise ValueError(f"rating in {text!r}: found {listed}; {wanted}")
    value = float(values[0])
    tops = {float(top) for *_, top in found if top}
    if tops - {float(high)}:
        raise ValueError(f"rating in {text!r} is out of {min(tops):g}; {wanted}, not rescaled")
    if not low <= value <= high:
        raise ValueError(f"rating in {text!r} is {value:g}; {wanted}")
    return value
