"""Several answers of one prompt with a rating each, as UltraFeedback and distilabel write them."""

import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from curation.formats.json_values import RowError, json_list

_ANSWER_COLUMNS = ("generations", "completions", "responses")
_RATING_COLUMNS = ("ratings", "rating")


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

    Raises:
        RowError: RATING_COUNT_MISMATCH.
    """
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
