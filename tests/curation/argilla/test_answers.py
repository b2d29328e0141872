"""A person's answer is read by the task as it was put, or refused."""

from datetime import UTC, datetime
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.argilla.answers import Answer, UnreadableError, dense, judgements_of
from curation.votes import votes_of
from schemas.labels import LabelTask
from schemas.records import Candidate, Completion, Message, Origin, Prompt

PROMPT = Prompt(messages=(Message(role="user", content="Which is it?"),))
QUESTIONS = {"overall", "truth"}
WHEN = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def candidate(text: str) -> Candidate:
    return Candidate(
        prompt_id=PROMPT.id,
        completion=Completion.from_text(text),
        origin=Origin(generator="import:test"),
    )


def task(*texts: str, **fields: Any) -> LabelTask:
    return LabelTask(
        dataset="prefs",
        workspace="team",
        prompt=PROMPT,
        candidates=tuple(candidate(text) for text in texts),
        **fields,
    )


def answer(**values: Any) -> Answer:
    return Answer(
        id="response-1",
        annotator="ann",
        status="submitted",
        values={name: {"value": value} for name, value in values.items()},
        changed_at=WHEN,
    )


def ranked(*ranks: int | None) -> list[dict[str, Any]]:
    return [{"value": str(n), "rank": rank} for n, rank in enumerate(ranks, start=1)]


@pytest.mark.parametrize(
    ("value", "ranks", "both_bad"),
    [
        ("a", (1, 2), False),
        ("b", (2, 1), False),
        ("tie", (1, 1), False),
        ("both_bad", (1, 1), True),
    ],
)
def test_each_choice_ranks_the_two_as_they_were_shown(value, ranks, both_bad):
    asked = task("shown first", "shown second")
    (given_answer,) = judgements_of(asked, answer(overall=value), QUESTIONS)
    assert given_answer.candidates == (
        candidate("shown first").text_id,
        candidate("shown second").text_id,
    )
    assert (given_answer.ranks, given_answer.both_bad) == (ranks, both_bad)


def test_the_winner_is_the_text_chosen_and_not_the_side():
    for first, second, choice in (("good", "bad", "a"), ("bad", "good", "b")):
        (vote,) = votes_of(judgements_of(task(first, second), answer(overall=choice), QUESTIONS))
        won = vote.left if vote.winner == "left" else vote.right
        assert won == candidate("good").text_id


def test_an_answer_keeps_who_when_where_and_what_for():
    asked = task("x", "y", purpose="gold", expected=(1, 2))
    (judgement,) = judgements_of(asked, answer(overall="a"), QUESTIONS)
    assert (judgement.annotator.kind, judgement.annotator.name) == ("human", "ann")
    assert judgement.created_at == WHEN
    assert (judgement.external_id, judgement.task_id) == ("response-1", asked.id)
    assert (judgement.purpose, judgement.status, judgement.mode) == ("gold", "submitted", "blind")


def test_an_assisted_answer_is_marked():
    seen = answer(overall="a")._replace(assisted=True)
    (judgement,) = judgements_of(task("x", "y"), seen, QUESTIONS)
    assert judgement.mode == "assisted"


def test_criteria_are_judgements_of_their_own_and_strength_and_reason_are_the_overall_ones():
    said = answer(overall="b", truth="a", strength=3, reason="shorter", liked_it="yes")
    overall, truth = judgements_of(task("x", "y"), said, QUESTIONS)
    assert (overall.question, overall.ranks, overall.strength) == ("overall", (2, 1), 1.0)
    assert overall.rationale == "shorter"
    assert (truth.question, truth.ranks, truth.strength) == ("truth", (1, 2), None)
    assert truth.rationale is None
    assert overall.id != truth.id


@pytest.mark.parametrize(("value", "strength"), [(1, 1 / 3), (2, 2 / 3), (3, 1.0), (None, None)])
def test_strength_is_thirds_of_the_scale(value, strength):
    (judgement,) = judgements_of(task("x", "y"), answer(overall="a", strength=value), QUESTIONS)
    assert judgement.strength == strength


def test_a_criterion_without_a_value_is_not_judged():
    said = answer(overall="a", truth=None)
    assert [item.question for item in judgements_of(task("x", "y"), said, QUESTIONS)] == ["overall"]


def test_ranks_of_a_ranking_come_from_the_ranks_and_not_from_the_order_of_the_list():
    asked = task("r1", "r2", "r3", kind="ranking")
    values = [{"value": "3", "rank": 1}, {"value": "1", "rank": 3}, {"value": "2", "rank": 1}]
    (judgement,) = judgements_of(asked, answer(overall=values), QUESTIONS)
    assert judgement.ranks == (2, 1, 1)
    votes = votes_of([judgement])
    r1, r2, r3 = (candidate(text).text_id for text in ("r1", "r2", "r3"))
    better = {
        (vote.left, vote.right) if vote.winner == "left" else (vote.right, vote.left)
        for vote in votes
        if vote.winner != "tie"
    }
    assert better == {(r2, r1), (r3, r1)}
    assert [set(vote.pair[1:]) for vote in votes if vote.winner == "tie"] == [{r2, r3}]


@pytest.mark.parametrize(
    ("ranks", "expected", "strict"),
    [
        ((1, 1, 3), (1, 1, 2), 2),
        ((2, 2, 2), (1, 1, 1), 0),
        ((1, 3, 3), (1, 2, 2), 2),
        ((1, 2, 3), (1, 2, 3), 3),
    ],
)
def test_gaps_in_the_ranks_are_closed_and_ties_stay(ranks, expected, strict):
    asked = task("r1", "r2", "r3", kind="ranking")
    (judgement,) = judgements_of(asked, answer(overall=ranked(*ranks)), QUESTIONS)
    assert judgement.ranks == expected
    assert sum(vote.winner != "tie" for vote in votes_of([judgement])) == strict


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=6))
def test_closing_gaps_changes_no_comparison(ranks):
    closed = dense(ranks)
    assert set(closed) == set(range(1, len(set(ranks)) + 1))
    for i, j in combinations(range(len(ranks)), 2):
        assert (ranks[i] < ranks[j]) == (closed[i] < closed[j])
        assert (ranks[i] == ranks[j]) == (closed[i] == closed[j])


@settings(deadline=None)
@given(
    st.permutations(["t1", "t2", "t3", "t4"]), st.lists(st.integers(1, 4), min_size=4, max_size=4)
)
def test_whatever_the_order_shown_each_text_has_the_rank_that_it_was_given(order, ranks):
    """The same opinion about four texts is the same votes in any order shown."""
    opinion = dict(zip(["t1", "t2", "t3", "t4"], ranks, strict=True))
    asked = task(*order, kind="ranking")
    said = answer(overall=ranked(*(opinion[text] for text in order)))
    (judgement,) = judgements_of(asked, said, QUESTIONS)
    texts = {candidate(text).text_id: text for text in opinion}
    for vote in votes_of([judgement]):
        left, right = opinion[texts[vote.left]], opinion[texts[vote.right]]
        assert vote.winner == ("tie" if left == right else "left" if left < right else "right")


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("pairwise", {"overall": None}, "NO_ANSWER"),
    ("pairwise", {}, "NO_ANSWER"),
    ("pairwise", {"truth": "a"}, "NO_ANSWER"),
    ("pairwise", {"overall": "A is better"}, "UNKNOWN_VALUE"),
    ("pairwise", {"overall": "A"}, "UNKNOWN_VALUE"),
    ("pairwise", {"overall": ["a"]}, "UNKNOWN_VALUE"),
    ("pairwise", {"overall": "a", "truth": "c"}, "UNKNOWN_VALUE"),
    ("pairwise", {"overall": "a", "strength": 4}, "OUT_OF_SCALE"),
    ("pairwise", {"overall": "a", "strength": True}, "OUT_OF_SCALE"),
    ("pairwise", {"overall": "a", "strength": "2"}, "OUT_OF_SCALE"),
    ("pairwise", {"overall": "a", "reason": 7}, "UNKNOWN_VALUE"),
    ("ranking", {"overall": ["1", "2", "3"]}, "RANKS_UNAVAILABLE"),
    ("ranking", {"overall": "1"}, "RANKS_UNAVAILABLE"),
    ("ranking", {"overall": ranked(1, 2, None)}, "RANKS_UNAVAILABLE"),
    ("ranking", {"overall": [{"value": "1"}, {"value": "2"}, {"value": "3"}]}, "RANKS_UNAVAILABLE"),
    ("ranking", {"overall": ranked(1, 2)}, "RANKS_INCOMPLETE"),
    ("ranking", {"overall": []}, "RANKS_INCOMPLETE"),
    ("ranking", {"overall": ranked(1, 2, 3, 4)}, "UNKNOWN_OPTION"),
    ("ranking", {"overall": [*ranked(1, 2), {"value": "2", "rank": 3}]}, "DUPLICATE_OPTION"),
    ("ranking", {"overall": [*ranked(1, 2), {"value": "r3", "rank": 3}]}, "UNKNOWN_OPTION"),
    ("ranking", {"overall": ranked(1, 2, 4)}, "OUT_OF_SCALE"),
    ("ranking", {"overall": ranked(0, 1, 2)}, "OUT_OF_SCALE"),
    ("ranking", {"overall": ranked(True, 2, 3)}, "RANKS_UNAVAILABLE"),
]


@pytest.mark.parametrize(("kind", "values", "reason"), REFUSED)
def test_what_cannot_be_read_is_refused_with_its_reason(kind, values, reason):
    asked = task("x", "y") if kind == "pairwise" else task("x", "y", "z", kind="ranking")
    with pytest.raises(UnreadableError) as refusal:
        judgements_of(asked, answer(**values), QUESTIONS)
    assert refusal.value.reason == reason


def test_a_refusal_does_not_repeat_all_of_a_long_value():
    with pytest.raises(UnreadableError) as refusal:
        judgements_of(task("x", "y"), answer(overall="z" * 10_000), QUESTIONS)
    assert len(str(refusal.value)) < 300
