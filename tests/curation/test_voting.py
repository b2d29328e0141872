"""Votes become verdicts and rankings: what holds for every method, and each one's own figures."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.aggregation import Unranked
from curation.pairs import AllPairs, BestVsWorst, propose_pairs
from curation.posteriors import METHODS, VoteMethod
from curation.votes import Vote, votes_of
from curation.voting import PairVerdict, aggregate_votes, one_vote_each, rankings_from_votes
from schemas.records import (
    Annotator,
    Candidate,
    Completion,
    Judgement,
    Message,
    Origin,
    Prompt,
    Ranking,
)

WINNERS = st.sampled_from(["left", "right", "tie"])
VOTES = st.lists(
    st.builds(
        Vote,
        item=st.sampled_from(["p", "q"]),
        left=st.just("x"),
        right=st.sampled_from(["y", "z"]),
        annotator=st.sampled_from(["a", "b", "c"]),
        winner=WINNERS,
    ),
    min_size=1,
    max_size=12,
)
OTHER = {"left": "right", "right": "left", "tie": "tie"}
each_method = pytest.mark.parametrize("method", METHODS)


def cast(said: str, *, by: str = "abcdefghij", item: str = "p") -> list[Vote]:
    """One vote an annotator about x and y: l, r or t."""
    winners: dict[str, Any] = {"l": "left", "r": "right", "t": "tie"}
    return [Vote(item, "x", "y", who, winners[each]) for who, each in zip(by, said, strict=False)]


def verdict(said: str, method: VoteMethod = "majority") -> PairVerdict:
    (found,) = aggregate_votes(cast(said), method).pairs
    return found


def judgement(ranks: Sequence[int] | None, *, by: str = "a", **fields: Any) -> Judgement:
    shown = fields.pop("candidates", ("x", "y", "z")[: len(ranks or "xy")])
    return Judgement(
        prompt_id=fields.pop("prompt_id", "p"),
        annotator=Annotator(kind=fields.pop("kind", "human"), name=by),
        candidates=shown,
        ranks=None if ranks is None else tuple(ranks),
        **fields,
    )


def conclude(*judgements: Judgement, **options: Any) -> Ranking | Unranked:
    (found,) = rankings_from_votes(judgements, **options)
    return found


def ranking(*judgements: Judgement, **options: Any) -> Ranking:
    found = conclude(*judgements, **options)
    assert isinstance(found, Ranking)
    return found


def ranks(found: Ranking) -> dict[str, int]:
    return dict(zip(found.candidates, found.ranks, strict=True))


def p_of(found: Ranking, better: str, worse: str) -> float | None:
    assert found.probabilities is not None
    at = found.candidates.index
    return found.probabilities[at(better)][at(worse)]


@each_method
@given(VOTES, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_the_order_of_the_rows_has_no_say(
    method: VoteMethod, votes: list[Vote], rng: random.Random
) -> None:
    shuffled = votes[:]
    rng.shuffle(shuffled)
    assert aggregate_votes(shuffled, method) == aggregate_votes(votes, method)


@each_method
@given(VOTES, st.lists(st.booleans(), min_size=12, max_size=12))
@settings(deadline=None, max_examples=40)
def test_a_vote_written_the_other_way_round_is_the_same_vote(
    method: VoteMethod, votes: list[Vote], turned: list[bool]
) -> None:
    written: list[Vote] = [
        vote._replace(left=vote.right, right=vote.left, winner=OTHER[vote.winner])  # type: ignore[arg-type]
        if turn
        else vote
        for vote, turn in zip(votes, turned, strict=False)
    ]
    assert aggregate_votes(written, method) == aggregate_votes(votes, method)


@each_method
@given(VOTES)
@settings(deadline=None, max_examples=60)
def test_names_that_sort_the_other_way_turn_the_posterior_and_no_winner(
    method: VoteMethod, votes: list[Vote]
) -> None:
    renamed = [vote._replace(left="zz") for vote in votes]
    found = aggregate_votes(votes, method).pairs
    other = aggregate_votes(renamed, method).pairs
    for plain, turned in zip(found, other, strict=True):
        assert (turned.left, turned.right) == (plain.right, "zz")
        assert turned.p_left == pytest.approx(1 - plain.p_left, abs=1e-4)
        if abs(plain.p_left - 0.5) > 1e-3:
            assert turned.winner == OTHER[plain.winner]


@each_method
@given(VOTES)
@settings(deadline=None, max_examples=60)
def test_a_winner_has_more_than_half_the_posterior(method: VoteMethod, votes: list[Vote]) -> None:
    for found in aggregate_votes(votes, method).pairs:
        assert 0 <= found.p_left <= 1
        if found.winner != "tie":
            assert (found.p_left > 0.5) == (found.winner == "left")


@each_method
def test_equal_votes_are_a_tie_in_every_order(method: VoteMethod) -> None:
    for votes in (cast("lr"), cast("rl"), cast("lr")[::-1], cast("tt"), cast("lrt")):
        (found,) = aggregate_votes(votes, method).pairs
        assert found.winner == "tie"
        assert found.p_left == pytest.approx(0.5)


@each_method
def test_a_pair_that_most_call_a_tie_stays_one(method: VoteMethod) -> None:
    assert verdict("ttttl", method).winner == "tie"


@each_method
def test_one_vote_is_no_certainty(method: VoteMethod) -> None:
    found = verdict("l", method)
    assert found.winner == "left"
    assert 0.5 < found.p_left < 0.9


@pytest.mark.parametrize(
    ("said", "p_left"),
    [
        # P(theta > 1/2) of Beta(1 + left, 1 + right), by its polynomial.
        ("l", 3 / 4),
        ("ll", 7 / 8),
        ("lll", 15 / 16),
        ("llr", 11 / 16),
        ("rr", 1 / 8),
        ("lt", 0.7122),
    ],
)
def test_the_majority_posterior_by_hand(said: str, p_left: float) -> None:
    assert verdict(said).p_left == pytest.approx(p_left, abs=1e-4)


def test_as_many_ties_as_wins_are_a_tie() -> None:
    assert verdict("llttr").winner == "tie"
    assert verdict("llltr").winner == "left"


def test_dawid_skene_and_mace_follow_the_reliable_annotators() -> None:
    # a and b always agree with each other over 40 pairs; c and d guess.
    rng = random.Random(0)
    votes = []
    for item in range(40):
        true = rng.choice("lr")
        votes += cast(true + true + rng.choice("lr") + rng.choice("lr"), item=f"{item:02}")
    votes += cast("llrr", item="split")
    for method in ("dawid-skene", "mace"):
        found = aggregate_votes(votes, method)
        (split,) = [row for row in found.pairs if row.item == "split"]
        assert split.winner == "left"
        weight = {row.annotator: row.reliability for row in found.annotators}
        assert all(weight[good] > weight[bad] for good in "ab" for bad in "cd")  # type: ignore[operator]
    (split,) = [row for row in aggregate_votes(votes).pairs if row.item == "split"]
    assert split.winner == "tie"


def test_reliability_under_majority_leaves_the_own_vote_out() -> None:
    found = aggregate_votes([*cast("llr"), *cast("l", item="alone")])
    # For a and b the others say one left, one right: no majority. For c they say left twice.
    assert [row.reliability for row in found.annotators] == [None, None, 0.0]
    assert [row.votes for row in found.annotators] == [2, 1, 1]


def test_an_adjudicator_wins_and_is_marked() -> None:
    found = aggregate_votes(cast("llr"), adjudications=cast("r", by="z"))
    (row,) = found.pairs
    assert (row.winner, row.adjudicated, row.p_left) == ("right", True, pytest.approx(0.25))
    assert (row.left_votes, row.right_votes) == (2, 1)


def test_a_thing_against_itself_and_an_unknown_method_are_refused() -> None:
    with pytest.raises(ValueError, match="item 'p': 'a' compares 'x' with itself"):
        aggregate_votes([Vote("p", "x", "x", "a", "left")])
    with pytest.raises(ValueError, match="method 'borda' is unknown; expected one of majority"):
        aggregate_votes([], "borda")  # type: ignore[arg-type]


@each_method
def test_no_votes_are_no_pairs(method: VoteMethod) -> None:
    assert aggregate_votes([], method).pairs == []


@each_method
def test_three_rankings_give_the_order_of_their_majorities(method: VoteMethod) -> None:
    # a > b > c, b > a > c, a > c > b: a beats b 2:1 and c 3:0, b beats c 2:1.
    found = ranking(
        judgement((1, 2, 3), by="u1"),
        judgement((2, 1, 3), by="u2"),
        judgement((1, 3, 2), by="u3"),
        method=method,
    )
    assert ranks(found) == {"x": 1, "y": 2, "z": 3}
    if method == "majority":
        assert p_of(found, "x", "y") == pytest.approx(11 / 16)
        assert p_of(found, "x", "z") == pytest.approx(15 / 16)


@pytest.mark.parametrize(
    ("given_ranks", "dense", "strict"),
    [
        ((1, 1, 3), (1, 1, 2), 2),
        ((1, 1, 1), (1, 1, 1), 0),
        ((1, 3, 3), (1, 2, 2), 2),
        ((1, 2, 3), (1, 2, 3), 3),
    ],
)
def test_ties_and_gaps_in_ranks_become_dense(
    given_ranks: tuple[int, ...], dense: tuple[int, ...], strict: int
) -> None:
    found = ranking(judgement(given_ranks))
    assert found.ranks == dense
    assert sum(vote.winner != "tie" for vote in votes_of([judgement(given_ranks)])) == strict


def test_a_ranking_names_the_judgements_behind_it_and_nothing_else() -> None:
    counted = judgement((1, 2), by="a")
    left_out = [
        judgement((2, 1), by="b", status="draft"),
        judgement((2, 1), by="c", status="discarded"),
        judgement((2, 1), by="d", mode="assisted"),
        judgement((2, 1), by="spam"),
        judgement((2, 1), by="e", question="style"),
        judgement((2, 1), by="rm", kind="reward_model"),
    ]
    found = ranking(counted, *left_out, excluded={"spam"})
    assert found.judgement_ids == (counted.id,)
    assert ranks(found) == {"x": 1, "y": 2}


def test_a_pair_that_nobody_compared_has_no_probability() -> None:
    found = ranking(
        judgement((1, 2), candidates=("x", "y")), judgement((1, 2), candidates=("y", "z"))
    )
    assert p_of(found, "x", "z") is None
    assert p_of(found, "x", "x") is None
    assert p_of(found, "x", "y") == pytest.approx(0.75)
    assert p_of(found, "y", "x") == pytest.approx(0.25)


def test_too_few_votes_conclude_nothing() -> None:
    votes = [judgement((1, 2), by="a"), judgement((1, 2), by="b", status="discarded")]
    assert conclude(*votes, min_votes=2) == Unranked("p", "INCONCLUSIVE")
    assert conclude(judgement((1, 2), status="draft")) == Unranked("p", "INCONCLUSIVE")
    assert conclude(judgement((1, 2), by="spam"), excluded=["spam"]).prompt_id == "p"
    assert list(rankings_from_votes([judgement((1, 2), kind="reward_model")])) == []


@each_method
def test_both_bad_is_a_tie_and_no_pair(method: VoteMethod) -> None:
    found = ranking(
        judgement(None, by="a", both_bad=True),
        judgement((1, 1), by="b", both_bad=True),
        method=method,
    )
    assert set(found.ranks) == {1}
    (row,) = aggregate_votes(
        votes_of([judgement(None, by="a", both_bad=True), judgement((1, 1), by="b")]), method
    ).pairs
    assert (row.tie_votes, row.both_bad, row.winner) == (2, 1, "tie")


def test_both_orders_of_one_annotator_are_one_vote_or_a_tie() -> None:
    first = judgement((1, 2), task_id="l-1")
    same = judgement((2, 1), candidates=("y", "x"), task_id="l-2")
    by_place = judgement((1, 2), candidates=("y", "x"), task_id="l-2")
    (one,) = one_vote_each(votes_of([first, same]))
    assert one.winner == "left"
    assert p_of(ranking(first, same), "x", "y") == pytest.approx(0.75)
    (contradictory,) = one_vote_each(votes_of([first, by_place]))
    assert contradictory.winner == "tie"
    assert set(ranking(first, by_place).ranks) == {1}


def test_an_adjudication_wins_over_the_votes_and_marks_the_method() -> None:
    votes = [judgement((1, 2), by=who) for who in "abc"]
    ruling = judgement((2, 1), by="z", purpose="adjudication")
    found = ranking(*votes, ruling)
    assert ranks(found) == {"x": 2, "y": 1}
    assert found.method == "majority+adjudication"
    assert ruling.id in found.judgement_ids
    assert ranking(*votes).method == "majority"


def test_an_adjudicated_tie_is_no_pair() -> None:
    votes = [judgement((1, 2), by=who) for who in "abc"]
    found = ranking(*votes, judgement((1, 1), by="z", purpose="adjudication"))
    assert (set(found.ranks), p_of(found, "x", "y")) == ({1}, 0.5)


def test_a_circle_of_majorities_shares_a_rank_and_is_marked() -> None:
    found = ranking(
        judgement((1, 2, 3), by="a"), judgement((3, 1, 2), by="b"), judgement((2, 3, 1), by="c")
    )
    assert (set(found.ranks), found.method) == ({1}, "majority+circular")


def test_a_tie_that_ranks_cannot_keep_is_no_preference() -> None:
    # x = y and y = z, but x > z.
    found = ranking(
        judgement((1, 1), candidates=("x", "y")),
        judgement((1, 1), candidates=("y", "z")),
        judgement((1, 2), candidates=("x", "z")),
    )
    assert ranks(found)["x"] < ranks(found)["z"]
    assert p_of(found, "x", "y") == p_of(found, "y", "z") == 0.5


def test_gold_answers_inform_the_fit_and_rank_only_what_is_known() -> None:
    gold = judgement((1, 2), prompt_id="g", purpose="gold")
    own = judgement((1, 2))
    assert [item.prompt_id for item in rankings_from_votes([gold, own])] == ["p"]
    known = rankings_from_votes([gold, own], known={"x", "y"})
    assert [item.prompt_id for item in known] == ["g", "p"]


def test_an_answer_against_its_own_criteria_is_held_out() -> None:
    answers = [
        judgement((1, 2), task_id="l-1"),
        judgement((2, 1), question="clear", task_id="l-1"),
        judgement((2, 1), question="right", task_id="l-1"),
    ]
    assert conclude(*answers) == Unranked("p", "SIGNAL_CONFLICT")
    assert ranks(ranking(*answers, hold_out_conflicts=False)) == {"x": 1, "y": 2}
    other = judgement((2, 1), by="b")
    assert ranking(*answers, other).judgement_ids == (other.id,)


def test_questions_are_aggregated_apart() -> None:
    answers = [judgement((1, 2)), judgement((2, 1), question="clear")]
    assert ranks(ranking(*answers, question="clear")) == {"x": 2, "y": 1}


def test_bradley_terry_gives_scores_that_agree_with_its_probabilities() -> None:
    found = ranking(
        judgement((1, 2, 3), by="a"), judgement((1, 3, 2), by="b"), method="bradley-terry"
    )
    assert found.scores is not None
    by_name = dict(zip(found.candidates, found.scores, strict=True))
    assert by_name["x"] > by_name["y"] == pytest.approx(by_name["z"])
    assert ranks(found) == {"x": 1, "y": 2, "z": 2}
    ruling = judgement((2, 1), by="z", purpose="adjudication")
    assert ranking(judgement((1, 2)), ruling, method="bradley-terry").scores is None


JUDGED = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.permutations("wxyz"),
        st.lists(st.integers(1, 3), min_size=4, max_size=4),
    ),
    min_size=1,
    max_size=6,
)


@each_method
@given(JUDGED)
@settings(deadline=None, max_examples=40)
def test_no_tie_becomes_a_pair_and_no_winner_is_swapped(
    method: VoteMethod, judged: list[tuple[str, list[str], list[int]]]
) -> None:
    prompt = Prompt(messages=(Message(role="user", content="q"),))
    answers = {
        name: Candidate(
            prompt_id=prompt.id,
            completion=Completion.from_text(name),
            origin=Origin(generator="import:test"),
        )
        for name in "wxyz"
    }
    judgements = [
        judgement(
            [value - min(given) + 1 for value in given],
            by=who,
            prompt_id=prompt.id,
            candidates=tuple(answers[name].text_id for name in shown),
            task_id=f"l-{number}",
        )
        for number, (who, shown, given) in enumerate(judged)
    ]
    found = ranking(*judgements, method=method)
    verdicts = aggregate_votes(one_vote_each(votes_of(judgements)), method).pairs
    winners = {
        (row.left, row.right): {"left": row.left, "right": row.right}.get(row.winner)
        for row in verdicts
    }
    for strategy in (AllPairs(), BestVsWorst()):
        (result,) = propose_pairs([(prompt, list(answers.values()), found)], strategy, seed=0)
        for pair in result.proposals:
            sides = sorted([pair.chosen.text_id, pair.rejected.text_id])
            assert winners[sides[0], sides[1]] == pair.chosen.text_id
            assert pair.p_chosen is not None
            assert pair.p_chosen > 0.5
            assert pair.margin is None or pair.margin > 0
