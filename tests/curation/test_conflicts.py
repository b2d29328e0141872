from typing import Any

import pytest

from curation.conflicts import Scale, conflicting_answers, conflicting_scores, contradicts
from schemas.records import Annotator, Judgement

FIVE = Scale(1, 5)
SCALES = {
    "overall": Scale(1, 10),
    "helpfulness": FIVE,
    "honesty": FIVE,
    "truthfulness": FIVE,
    "instruction_following": FIVE,
}


def answer(ranks: tuple[int, ...] | None, question: str = "overall", **fields: Any) -> Judgement:
    kind = fields.pop("kind", "human")
    return Judgement(
        prompt_id="p",
        annotator=Annotator(kind=kind, name="ann"),
        question=question,
        candidates=fields.pop("candidates", ("x", "y")),
        ranks=ranks,
        **fields,
    )


def rated(question: str, score: float | None, **fields: Any) -> Judgement:
    return Judgement(
        prompt_id="p",
        annotator=Annotator(kind=fields.pop("kind", "judge"), name="ann"),
        question=question,
        candidates=("x",),
        scores=None if score is None else (score,),
        **fields,
    )


def test_the_best_rating_with_aspects_near_the_worst_is_a_conflict() -> None:
    # Mean aspect 1.25 of 1..5 is 0.0625; the overall 10 of 10 is 1.
    assert FIVE.share(1.25) == 0.0625
    given = {
        "overall": 10,
        "helpfulness": 1,
        "honesty": 2,
        "truthfulness": 1,
        "instruction_following": 1,
    }
    ratings = [rated(question, score) for question, score in given.items()]
    assert conflicting_scores(ratings, SCALES) == {("ann", "x")}
    assert conflicting_scores([rated("overall", 4), *ratings[1:]], SCALES) == set()


def test_signals_half_a_scale_apart_are_no_conflict_yet() -> None:
    assert not contradicts(1.0, [0.5])
    assert contradicts(1.0, [0.5, 0.4])
    assert not contradicts(1.0, [])


def test_the_parts_of_a_weighted_sum_may_be_opposed() -> None:
    ratings = [
        rated("overall", 10, kind="rule"),
        *[rated(name, 1, kind="rule") for name in SCALES if name != "overall"],
    ]
    assert conflicting_scores(ratings, SCALES) == set()


def test_a_rating_off_its_scale_is_an_error_and_never_rescaled() -> None:
    with pytest.raises(ValueError, match="rating 11 is not on its scale; expected 1 to 10"):
        Scale(1, 10).share(11)
    with pytest.raises(ValueError, match="expected one for 'overall'"):
        conflicting_scores([], {"honesty": FIVE})


def test_an_answer_against_all_its_criteria_is_a_conflict() -> None:
    overall = answer((1, 2))
    against = [answer((2, 1), name) for name in ("clear", "right")]
    assert conflicting_answers([overall, *against]) == {overall.id}
    split = [answer((2, 1), "clear"), answer((1, 2), "right")]
    assert conflicting_answers([overall, *split]) == set()


def test_one_criterion_may_differ_from_the_whole() -> None:
    assert conflicting_answers([answer((1, 2)), answer((2, 1), "short")]) == set()


def test_the_order_shown_and_taken_back_answers_have_no_say() -> None:
    overall = answer((1, 2), task_id="l-1")
    against = [
        answer((1, 2), name, candidates=("y", "x"), task_id="l-1") for name in ("clear", "right")
    ]
    assert conflicting_answers([overall, *against]) == {overall.id}
    changed = answer((2, 1), task_id="l-1", revision=1)
    assert conflicting_answers([overall, changed, *against]) == set()


@pytest.mark.parametrize("status", ["draft", "discarded"])
def test_a_criterion_that_was_taken_back_contradicts_no_more(status: str) -> None:
    overall = answer((1, 2))
    against = [answer((2, 1), name) for name in ("clear", "right")]
    one_left = [*against, answer(None, "right", status=status, revision=1)]
    assert conflicting_answers([overall, *one_left]) == set()
    low = [rated("overall", 1), rated("honesty", 5), rated("helpfulness", 5)]
    assert conflicting_scores(low, SCALES) == {("ann", "x")}
    gone = rated("honesty", None, status=status, revision=1)
    assert conflicting_scores([*low, gone], SCALES) == set()
