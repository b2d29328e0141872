"""Several rated answers of one prompt."""

from decimal import Decimal
from typing import Any

import pytest

from curation.formats.json_values import RowError
from curation.formats.rated import (
    BestAndWorst,
    RatedAnswers,
    best_and_worst,
    number_of,
    rated_answers,
)


@pytest.mark.parametrize("answers", ["generations", "completions", "responses"])
@pytest.mark.parametrize("ratings", ["ratings", "rating"])
def test_answers_and_ratings_are_found_by_their_usual_names(answers: str, ratings: str) -> None:
    row = {answers: ["x", "y"], ratings: [1, 5]}
    assert rated_answers(row) == RatedAnswers(["x", "y"], [1, 5])


def test_lists_may_be_json_text() -> None:
    row = {"generations": '["x", "y"]', "ratings": "[1, 5]"}
    assert rated_answers(row) == RatedAnswers(["x", "y"], [1, 5])


@pytest.mark.parametrize(
    "row", [{}, {"generations": ["x"]}, {"ratings": [1]}, {"generations": ["x"], "ratings": 1}]
)
def test_a_row_without_both_lists_has_no_rated_answers(row: dict[str, Any]) -> None:
    assert rated_answers(row) is None


@pytest.mark.parametrize("ratings", [[], [1], [1, 5, 3]])
def test_another_number_of_ratings_than_answers_is_refused(ratings: list[int]) -> None:
    with pytest.raises(RowError, match=f"2 answers but {len(ratings)} ratings") as caught:
        rated_answers({"generations": ["x", "y"], "ratings": ratings})
    assert caught.value.code == "RATING_COUNT_MISMATCH"


def test_the_best_is_set_against_the_worst_and_of_equals_the_first_counts() -> None:
    rated = RatedAnswers(["a", "b", "c", "d", "e"], ["3", 5, 1.0, 5, 1])
    assert best_and_worst(rated) == BestAndWorst("b", "c", 5, 1.0)


@pytest.mark.parametrize(
    ("ratings", "code"),
    [
        ([3, 3, 3], "TIE"),
        ([3], "TOO_FEW_CANDIDATES"),
        ([], "TOO_FEW_CANDIDATES"),
        ([3, None, 1], "BAD_NUMBER"),
        ([3, float("nan")], "BAD_NUMBER"),
        ([3, True], "BAD_NUMBER"),
        ([3, "good"], "BAD_NUMBER"),
        ([3, 10**400], "BAD_NUMBER"),
    ],
)
def test_ratings_that_make_no_preference_are_refused(ratings: list[Any], code: str) -> None:
    with pytest.raises(RowError) as caught:
        best_and_worst(RatedAnswers(["x"] * len(ratings), ratings))
    assert caught.value.code == code


@pytest.mark.parametrize("answers", [[None, "x"], ["x", None]])
def test_an_answer_that_is_null_is_an_empty_one(answers: list[Any]) -> None:
    with pytest.raises(RowError) as caught:
        best_and_worst(RatedAnswers(answers, [5, 1]))
    assert caught.value.code == "EMPTY_COMPLETION"


def test_a_number_may_be_written_as_text_or_as_a_decimal() -> None:
    assert [number_of(value) for value in ("0.5", " ", Decimal("1.5"), "much", 3, None)] == [
        *(0.5, None, 1.5, "much", 3, None)
    ]
