"""Several answers of one prompt with a rating each, as UltraFeedback and distilabel write them."""

import sys
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from curation.conflicts import Scale, contradicts
from curation.formats.json_values import RowError, json_list

_ANSWER_COLUMNS = ("generations", "completions", "responses")
_RATING_COLUMNS = ("ratings", "rating")
_OVERALL = Scale(1, 10)
_ASPECT = Scale(1, 5)
"""The scales that UltraFeedback asked its judge to use; no other file's scale is known."""


class RatedAnswers(NamedTuple):
    answers: list[Any]
    """Texts, or messages."""
    ratings: list[Any]
    """One an answer, in the same order, as the file has them."""


class BestAndWorst(NamedTuple):
    chosen: Any
    rejected: Any
    chosen_rating: Any
    rejected_rating: Any


def rated_answers(row: Mapping[str, Any]) -> RatedAnswers | None:
    """The row's answers and their ratings; None where it does not list both.

    They stand in two lists, or in UltraFeedback's `completions`, each with its `overall_score`.

    Raises:
        RowError: RATING_COUNT_MISMATCH.
    """
    if scored := _ultrafeedback(row):
        return RatedAnswers(
            [one["response"] for one in scored], [one["overall_score"] for one in scored]
        )
    answers, ratings = (
        next((found for name in names if (found := json_list(row.get(name))) is not None), None)
        for names in (_ANSWER_COLUMNS, _RATING_COLUMNS)
    )
    if answers is None or ratings is None:
        return None
    if len(answers) != len(ratings):
        raise RowError(
            "RATING_COUNT_MISMATCH",
            f"the row has {len(answers)} answers but {len(ratings)} ratings; expected one rating "
            "an answer",
        )
    return RatedAnswers(answers, ratings)


def best_and_worst(rated: RatedAnswers) -> BestAndWorst:
    """The answers with the highest and the lowest rating, of several the first.

    Raises:
        RowError: BAD_NUMBER, TOO_FEW_CANDIDATES, TIE where all ratings are equal, or
            EMPTY_COMPLETION where one of the two answers is null.
    """
    ratings = [number_of(rating) for rating in rated.ratings]
    for position, rating in enumerate(ratings):
        if not is_number(rating):
            raise RowError(
                "BAD_NUMBER", f"rating {position} is {rating!r}; expected a finite number"
            )
    if len(ratings) < 2:
        raise RowError(
            "TOO_FEW_CANDIDATES", f"the row has {len(ratings)} rated answers; expected two or more"
        )
    best, worst = ratings.index(max(ratings)), ratings.index(min(ratings))
    if best == worst:
        raise RowError("TIE", "all answers are rated alike; a tie is no preference")
    chosen, rejected = rated.answers[best], rated.answers[worst]
    if chosen is None or rejected is None:
        raise RowError("EMPTY_COMPLETION", f"answer {best if chosen is None else worst} is null")
    return BestAndWorst(chosen, rejected, ratings[best], ratings[worst])


def check_signals(row: Mapping[str, Any], *answers: Any) -> None:
    """Refuse a pair of which UltraFeedback's overall score and aspect ratings disagree.

    A score of 1 that became 10 shows so: its aspects stayed near the worst. Aspects without a
    number are not asked, and rows of other files never.

    Raises:
        RowError: SIGNAL_CONFLICT, or OUT_OF_SCALE; nothing is rescaled.
    """
    for one in _ultrafeedback(row):
        overall = number_of(one["overall_score"])
        if one["response"] not in answers or not is_number(overall):
            continue
        aspects = list(_aspects(one.get("annotations")))
        try:
            conflict = contradicts(
                _OVERALL.share(overall), [_ASPECT.share(rating) for rating in aspects]
            )
        except ValueError as error:
            raise RowError("OUT_OF_SCALE", str(error)) from None
        if conflict:
            raise RowError(
                "SIGNAL_CONFLICT",
                f"an answer has the overall score {overall:g} of 1 to 10, but its aspects' mean is "
                f"{sum(aspects) / len(aspects):g} of 1 to 5; the two contradict each other",
            )


def number_of(value: Any) -> Any:
    """The number that a text or a decimal holds, as CSV cells do; an empty text is None."""
    if isinstance(value, Decimal):
        return float(value)
    if not isinstance(value, str):
        return value
    try:
        return float(value) if value.strip() else None
    except ValueError:
        return value


def is_number(value: Any) -> bool:
    """Whether it is a finite number; true and false are none, nor is what no float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max


def _ultrafeedback(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The row's completions where all are such as UltraFeedback has; else none."""
    listed = row.get("completions")
    if not isinstance(listed, list):
        return []
    keys = {"response", "overall_score"}
    ours = all(isinstance(one, dict) and keys <= one.keys() for one in listed)
    return listed if ours else []


def _aspects(annotations: Any) -> Iterator[float]:
    """The numbers among the aspects' ratings; the dataset writes some as text, some as N/A."""
    if not isinstance(annotations, Mapping):
        return
    for aspect in annotations.values():
        # The hub's copy has one object an aspect, the authors' files a list of them.
        for one in aspect if isinstance(aspect, list) else [aspect]:
            rating: Any = number_of(one.get("Rating")) if isinstance(one, Mapping) else None
            if is_number(rating):
                yield float(rating)
