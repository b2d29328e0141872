"""Several rated answers of one prompt."""

from decimal import Decimal
from typing import Any

import pytest

from curation.formats.json_values import RowError
from curation.formats.rated import (
    BestAndWorst,
    RatedAnswers,
    best_and_worst,
    check_signals,
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


def completion(text: str, overall: Any, *aspects: Any) -> dict[str, Any]:
    names = ("helpfulness", "honesty", "truthfulness", "instruction_following")
    ratings = {name: {"Rating": rating} for name, rating in zip(names, aspects, strict=False)}
    return {"response": text, "overall_score": overall, "annotations": ratings}


def test_ultrafeedback_keeps_each_score_beside_its_answer() -> None:
    row = {"completions": [completion("x", 7.5, "4"), completion("y", 1.0, "1")]}
    assert rated_answers(row) == RatedAnswers(["x", "y"], [7.5, 1.0])
    assert rated_answers({"completions": [{"role": "user", "content": "q"}]}) is None


@pytest.mark.parametrize(
    ("overall", "aspects"),
    [
        # Mean 1.25 of 1 to 5 is 0.0625 of the scale; 10 of 1 to 10 is 1.
        (10, [1, 2, 1, 1]),
        ("10", ["1", "2", "1", "1"]),
        (1, ["5", "N/A", "4", None]),
    ],
)
def test_an_overall_score_against_its_aspects_keeps_the_pair_out(
    overall: Any, aspects: list[Any]
) -> None:
    row = {"completions": [completion("x", overall, *aspects), completion("y", 5, 3)]}
    with pytest.raises(RowError, match="contradict") as caught:
        check_signals(row, "x", "y")
    assert caught.value.code == "SIGNAL_CONFLICT"
    check_signals(row, "y", "z")


@pytest.mark.parametrize(
    ("overall", "aspects"),
    [(10, [5, 5, 4, 5]), (1, [1]), (5.5, [1, 1]), (10, ["N/A"]), (10, []), (None, [1])],
)
def test_scores_that_agree_or_cannot_be_compared_are_no_conflict(
    overall: Any, aspects: list[Any]
) -> None:
    check_signals({"completions": [completion("x", overall, *aspects)]}, "x")


@pytest.mark.parametrize(("overall", "aspects"), [(11, []), (0.1, [1]), (85, [5]), (5, [6])])
def test_a_score_off_its_scale_is_refused_and_never_rescaled(
    overall: float, aspects: list[int]
) -> None:
    with pytest.raises(RowError, match="not on its scale") as caught:
        check_signals({"completions": [completion("x", overall, *aspects)]}, "x")
    assert caught.value.code == "OUT_OF_SCALE"


def test_aspects_may_be_lists_as_the_authors_files_have_them() -> None:
    one = completion("x", 10)
    one["annotations"] = {"honesty": [{"Rating": "1"}, {"Rating": "1"}], "other": "text"}
    with pytest.raises(RowError, match="mean is 1 of 1 to 5"):
        check_signals({"completions": [one]}, "x")


def test_the_scale_of_another_files_ratings_is_not_guessed() -> None:
    check_signals({"generations": ["x", "y"], "ratings": [10, 85]}, "x", "y")
