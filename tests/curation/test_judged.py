from collections.abc import Callable, Sequence
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.aggregation import Unranked
from curation.judged import abstained, compare_orders, rankings_from_judges
from curation.pairs import AllPairs, propose_pairs
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

RANKS = {">": (1, 2), "<": (2, 1), "=": (1, 1)}


def judgement(
    first: str, sign: str, second: str, *, prompt: str = "p", name: str = "judge"
) -> Judgement:
    """What a judge said of two answers in the order shown; `?` is no verdict."""
    return Judgement(
        prompt_id=prompt,
        annotator=Annotator(kind="judge", name=name),
        candidates=(first, second),
        ranks=RANKS.get(sign),
        scores=(None, None) if sign == "?" else None,
        rationale="UNPARSABLE: hm" if sign == "?" else "because",
    )


def said(*verdicts: str, prompt: str = "p") -> list[Judgement]:
    """`a>b` in both orders; `a!b`: each order names the one shown first."""
    judgements = []
    for first, sign, second in map(tuple, verdicts):
        back = {">": "<", "<": ">", "!": ">"}.get(sign, sign)
        judgements.append(judgement(first, sign.replace("!", ">"), second, prompt=prompt))
        judgements.append(judgement(second, back, first, prompt=prompt))
    return judgements


def ranked(*verdicts: str) -> dict[str, int]:
    (ranking,) = rankings_from_judges(said(*verdicts))
    assert isinstance(ranking, Ranking)
    return dict(zip(ranking.candidates, ranking.ranks, strict=True))


def test_a_judge_that_agrees_with_itself_ranks() -> None:
    (ranking,) = rankings_from_judges(said("a>b", "b>c", "a>c"))
    assert isinstance(ranking, Ranking)
    assert (ranking.candidates, ranking.ranks) == (("a", "b", "c"), (1, 2, 3))
    assert ranking.method == "bradley-terry"
    assert ranking.probabilities is None
    assert ranking.scores is not None
    assert ranking.scores[0] > ranking.scores[1] > ranking.scores[2]
    assert ranking.scores[1] == pytest.approx(0, abs=1e-9)
    assert len(ranking.judgement_ids) == 6


def test_orders_that_contradict_each_other_are_a_tie() -> None:
    assert ranked("a!b") == {"a": 1, "b": 1}
    assert ranked("a!b", "a>c", "b>c") == {"a": 1, "b": 1, "c": 2}


def test_a_win_in_one_order_and_a_tie_in_the_other_is_a_tie() -> None:
    judgements = [judgement("a", ">", "b"), judgement("b", "=", "a")]
    (ranking,) = rankings_from_judges(judgements)
    assert isinstance(ranking, Ranking)
    assert ranking.ranks == (1, 1)


def test_one_order_alone_is_no_verdict() -> None:
    judgements = [judgement("a", ">", "b"), judgement("b", "?", "a")]
    assert list(rankings_from_judges(judgements)) == [Unranked("p", "INCONCLUSIVE")]
    (ranking,) = rankings_from_judges([*judgements, *said("a>c")])
    assert isinstance(ranking, Ranking)
    assert ranking.candidates == ("a", "c")


def test_verdicts_in_a_circle_share_a_rank() -> None:
    assert ranked("a>b", "b>c", "c>a") == {"a": 1, "b": 1, "c": 1}


def test_a_tie_that_the_other_verdicts_would_break_is_no_preference() -> None:
    """a beats c and c beats b, so that strengths alone would set a above b, with whom it ties."""
    (ranking,) = rankings_from_judges(said("a>c", "c>b", "a=b"))
    assert isinstance(ranking, Ranking)
    assert set(ranking.ranks) == {1}
    assert ranking.method == "bradley-terry+circular"
    assert ranked("a>c", "c>b", "a=b", "a>d", "b>d", "c>d") == {"a": 1, "b": 1, "c": 1, "d": 2}


def test_of_candidates_that_nothing_connects_the_largest_set_is_ranked() -> None:
    assert ranked("a>b", "c>d", "d>e") == {"c": 1, "d": 2, "e": 3}


def test_candidates_that_were_not_compared_are_ranked_through_others() -> None:
    assert ranked("a>b", "b>c") == {"a": 1, "b": 2, "c": 3}


def test_people_and_other_questions_have_no_say() -> None:
    human = judgement("b", ">", "a").model_copy(
        update={"annotator": Annotator(kind="human", name="ann"), "id": ""}
    )
    other = judgement("b", ">", "a").model_copy(update={"question": "style", "id": ""})
    (ranking,) = rankings_from_judges([*said("a>b"), human, other])
    assert isinstance(ranking, Ranking)
    assert ranking.ranks == (1, 2)
    assert len(ranking.judgement_ids) == 2


def test_each_prompt_is_ranked_by_its_own_verdicts() -> None:
    judgements = [*said("a>b", prompt="p"), *said("b>a", prompt="q"), *said("a?b", prompt="r")]
    found = list(rankings_from_judges(judgements))
    assert [item.prompt_id for item in found] == ["p", "q", "r"]
    assert [item.ranks for item in found if isinstance(item, Ranking)] == [(1, 2), (2, 1)]
    assert found[2] == Unranked("r", "INCONCLUSIVE")


def test_two_judges_must_both_be_heard_in_both_orders() -> None:
    first = said("a>b")
    second = [judgement("a", "<", "b", name="other"), judgement("b", ">", "a", name="other")]
    (ranking,) = rankings_from_judges([*first, *second])
    assert isinstance(ranking, Ranking)
    assert ranking.ranks == (1, 1)
    (ranking,) = rankings_from_judges([*first, second[0]])
    assert isinstance(ranking, Ranking)
    assert ranking.ranks == (1, 2)


@st.composite
def verdicts(draw: Callable[..., object]) -> list[str]:
    names = "abcde"[: draw(st.integers(2, 5))]  # type: ignore[index]
    pairs = list(combinations(names, 2))
    signs = draw(st.lists(st.sampled_from("><=!?"), min_size=len(pairs), max_size=len(pairs)))
    return [f"{one}{sign}{two}" for (one, two), sign in zip(pairs, signs, strict=True)]  # type: ignore[call-overload]


@given(verdicts(), st.randoms(use_true_random=False))
def test_no_pair_is_set_apart_against_what_was_said_of_it_and_order_has_no_say(
    given_verdicts: list[str], random: object
) -> None:
    judgements = said(*given_verdicts)
    shuffled = list(judgements)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    (one,), (other,) = rankings_from_judges(judgements), rankings_from_judges(shuffled)
    if isinstance(one, Unranked) or isinstance(other, Unranked):
        assert one == other
        return
    assert (one.candidates, one.ranks, one.scores) == (other.candidates, other.ranks, other.scores)
    rank = dict(zip(one.candidates, one.ranks, strict=True))
    assert one.scores is not None
    score = dict(zip(one.candidates, one.scores, strict=True))
    for left, sign, right in map(tuple, given_verdicts):
        if left not in rank or right not in rank:
            continue
        if sign in "=!":
            assert rank[left] == rank[right]
        elif sign in "><":
            better, worse = (left, right) if sign == ">" else (right, left)
            assert rank[better] <= rank[worse]
    for left, right in combinations(rank, 2):
        assert (rank[left] < rank[right]) == (score[left] > score[right])
        assert (rank[left] == rank[right]) == (score[left] == score[right])


def test_pairs_from_a_judge_have_a_margin_and_no_probability() -> None:
    asked = Prompt(messages=(Message(role="user", content="Which?"),))
    answers = [
        Candidate(
            prompt_id=asked.id,
            completion=Completion.from_text(text),
            origin=Origin(generator="test"),
        )
        for text in ("best", "good", "also good")
    ]
    best, good, also = (item.text_id for item in answers)
    judgements: Sequence[Judgement] = [
        judgement(first, sign, second, prompt=asked.id)
        for one, two, there, back in (
            (best, good, ">", "<"),
            (best, also, ">", "<"),
            (good, also, ">", ">"),
        )
        for first, sign, second in ((one, there, two), (two, back, one))
    ]
    (ranking,) = rankings_from_judges(judgements)
    assert isinstance(ranking, Ranking)
    (found,) = propose_pairs([(asked, answers, ranking)], AllPairs(), seed=0)
    assert {(pair.chosen.text_id, pair.rejected.text_id) for pair in found.proposals} == {
        (best, good),
        (best, also),
    }
    for pair in found.proposals:
        assert pair.p_chosen is None
        assert pair.margin is not None
        assert pair.margin > 0


def test_the_orders_of_a_judge_are_counted() -> None:
    judgements = said("a>b", "a!c", "b=c", "a?d")
    judgements += [judgement("b", ">", "d"), judgement("d", "=", "b")]
    judgements += [judgement("c", "?", "d"), judgement("d", ">", "c")]
    orders = compare_orders(judgements)
    assert (orders.pairs, orders.unanswered) == (6, 2)
    assert (orders.agreed, orders.flipped, orders.half_tied) == (2, 1, 1)
    assert orders.flip_share == 0.25
    # a>b once for the first shown and once for the second, a!c twice, b>d and d>c once each.
    assert (orders.first_won, orders.decided) == (5, 6)
    assert abstained(judgements) == {"UNPARSABLE": 3}


def test_of_no_judgement_no_share_is_known() -> None:
    orders = compare_orders([])
    assert (orders.pairs, orders.flip_share, orders.first_share) == (0, None, None)
