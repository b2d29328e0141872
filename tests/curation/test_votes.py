"""Each person's latest independent answer is one vote a pair, whatever was shown first."""

from itertools import combinations, permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.votes import counted_judgements, votes_of
from schemas.records import Annotator, Judgement


def judgement(name: str = "ann", **fields: Any) -> Judgement:
    plain: dict[str, Any] = {"prompt_id": "p", "candidates": ("t-a", "t-b"), "ranks": (1, 2)}
    kind = fields.pop("by", "human")
    return Judgement(annotator=Annotator(kind=kind, name=name), **{**plain, **fields})


@pytest.mark.parametrize(
    ("shown", "ranks", "winner", "first"),
    [
        (("t-a", "t-b"), (1, 2), "left", "left"),
        (("t-a", "t-b"), (2, 1), "right", "left"),
        (("t-b", "t-a"), (1, 2), "right", "right"),
        (("t-b", "t-a"), (2, 1), "left", "right"),
        (("t-b", "t-a"), (1, 1), "tie", "right"),
    ],
)
def test_a_pair_has_one_order_and_its_winner_stays(shown, ranks, winner, first):
    (vote,) = votes_of([judgement(candidates=shown, ranks=ranks)])
    assert (vote.left, vote.right) == ("t-a", "t-b")
    assert (vote.winner, vote.shown_first) == (winner, first)
    assert vote.pair == ("p", "t-a", "t-b")


@settings(deadline=None)
@given(st.permutations(["t-1", "t-2", "t-3", "t-4"]), st.lists(st.integers(1, 3), min_size=4))
def test_a_ranking_is_all_its_pairs_in_any_order_shown(order, places):
    opinion = dict(zip(["t-1", "t-2", "t-3", "t-4"], places, strict=False))
    best = min(opinion.values())
    ranks = tuple(opinion[name] - best + 1 for name in order)
    votes = votes_of([judgement(candidates=tuple(order), ranks=ranks)])
    assert {vote.pair[1:] for vote in votes} == set(combinations(sorted(order), 2))
    assert len(votes) == 6
    for vote in votes:
        left, right = opinion[vote.left], opinion[vote.right]
        assert vote.winner == ("tie" if left == right else "left" if left < right else "right")
        shown_first = order.index(vote.left) < order.index(vote.right)
        assert vote.shown_first == ("left" if shown_first else "right")


def test_the_best_of_three_answers_by_hand():
    """Ranks 3, 1, 1: the second and the third beat the first and tie."""
    votes = votes_of([judgement(candidates=("r1", "r2", "r3"), ranks=(3, 1, 1))])
    assert [(vote.left, vote.right, vote.winner) for vote in votes] == [
        ("r1", "r2", "right"),
        ("r1", "r3", "right"),
        ("r2", "r3", "tie"),
    ]


def test_both_bad_is_a_tie_and_says_so():
    (vote,) = votes_of([judgement(ranks=None, both_bad=True)])
    assert (vote.winner, vote.both_bad) == ("tie", True)


def test_scores_alone_and_what_was_taken_back_are_no_tie():
    assert votes_of([judgement(ranks=None, scores=(0.1, 0.9), by="reward_model")]) == []
    assert votes_of([judgement(ranks=None, status="discarded")]) == []


def test_each_judgement_that_does_not_count_has_its_reason():
    counted = counted_judgements(
        [
            judgement("ann"),
            judgement("bob", status="draft"),
            judgement("cem", status="discarded"),
            judgement("dan", mode="assisted"),
            judgement("eve"),
            judgement("fay", question="truth"),
            judgement("rm", by="reward_model"),
            judgement("gil"),
            judgement("gil", ranks=(2, 1), revision=1),
        ],
        excluded=["eve"],
    )
    assert [item.annotator.name for item in counted.kept] == ["ann", "gil"]
    assert counted.kept[1].ranks == (2, 1)
    assert counted.left_out == {
        "DRAFT": 1,
        "DISCARDED": 1,
        "ASSISTED": 1,
        "EXCLUDED": 1,
        "OTHER_QUESTION": 1,
        "MACHINE": 1,
        "SUPERSEDED": 1,
    }


def test_the_latest_revision_holds_in_whatever_order_they_are_read():
    history = [
        judgement(task_id="l-1"),
        judgement(task_id="l-1", ranks=(2, 1), revision=1),
        judgement(task_id="l-1", ranks=(1, 1), revision=2),
    ]
    for order in permutations(history):
        counted = counted_judgements(order)
        assert [item.ranks for item in counted.kept] == [(1, 1)]
        assert counted.left_out == {"SUPERSEDED": 2}


@pytest.mark.parametrize(
    "last", [{"status": "draft"}, {"status": "discarded"}, {"mode": "assisted"}]
)
def test_an_answer_taken_back_or_changed_under_a_suggestion_leaves_no_vote(last):
    taken_back = [judgement(task_id="l-1"), judgement(task_id="l-1", revision=1, **last)]
    for order in permutations(taken_back):
        assert counted_judgements(order).kept == []


def test_the_two_records_of_a_mirrored_pair_are_two_answers():
    counted = counted_judgements(
        [
            judgement(task_id="l-1"),
            judgement(task_id="l-2", candidates=("t-b", "t-a"), ranks=(1, 2)),
        ]
    )
    assert [vote.winner for vote in votes_of(counted.kept)] == ["left", "right"]


def test_without_a_task_the_same_candidates_in_another_order_are_the_same_question():
    counted = counted_judgements(
        [judgement(), judgement(candidates=("t-b", "t-a"), ranks=(1, 2), revision=1)]
    )
    assert [vote.winner for vote in votes_of(counted.kept)] == ["right"]


def test_questions_are_never_mixed():
    both = [judgement(), judgement(question="truth", ranks=(2, 1))]
    assert [item.ranks for item in counted_judgements(both).kept] == [(1, 2)]
    assert [item.ranks for item in counted_judgements(both, question="truth").kept] == [(2, 1)]


def test_two_answers_against_one_are_two_votes_against_one():
    """Borda of abc, bac, acb is 5, 3, 1; by pairs a beats b 2:1, a beats c 3:0, b beats c 2:1."""
    rankings = {"u1": (1, 2, 3), "u2": (2, 1, 3), "u3": (1, 3, 2)}
    votes = votes_of(
        judgement(name, candidates=("a", "b", "c"), ranks=ranks) for name, ranks in rankings.items()
    )
    wins = {
        pair: sum(vote.winner == "left" for vote in votes if vote.pair[1:] == pair)
        for pair in (("a", "b"), ("a", "c"), ("b", "c"))
    }
    assert wins == {("a", "b"): 2, ("a", "c"): 3, ("b", "c"): 2}
