from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.aggregation import Unranked, aggregate_scores, rankings_from_scores
from curation.conflicts import Scale
from schemas.records import Annotator, Judgement, Ranking


def judgement(
    scores: dict[str, float | None] | None = None,
    *,
    prompt_id: str = "p",
    by: str = "rule",
    **fields: Any,
) -> Judgement:
    shown = fields.pop("candidates", None) or tuple(scores or ())
    return Judgement(
        prompt_id=prompt_id,
        annotator=Annotator(kind="judge", name=by),
        candidates=shown,
        scores=None if scores is None else tuple(scores.values()),
        **fields,
    )


def one(*judgements: Judgement, **options: Any) -> Ranking | Unranked:
    (concluded,) = aggregate_scores(judgements, **options)
    return concluded


def ranks(concluded: Ranking | Unranked) -> dict[str, int]:
    assert isinstance(concluded, Ranking)
    return dict(zip(concluded.candidates, concluded.ranks, strict=True))


def test_the_highest_score_is_rank_one_and_equal_scores_share_a_dense_rank() -> None:
    given_scores = {"a": 0.5, "b": 2.0, "c": 0.5, "d": -1.0}
    asked = judgement(dict(given_scores))
    (ranking,) = rankings_from_scores([asked])
    assert ranks(ranking) == {"a": 2, "b": 1, "c": 2, "d": 3}
    assert ranking.scores == tuple(given_scores.values())
    assert ranking.method == "score"
    assert ranking.probabilities is None
    assert ranking.judgement_ids == (asked.id,)


def test_only_scored_candidates_enter() -> None:
    assert ranks(one(judgement({"a": None, "b": 1.0, "c": 2.0}))) == {"b": 2, "c": 1}


def test_a_prompt_that_nobody_scored_is_counted_and_not_ranked() -> None:
    asked = judgement({"a": None, "b": None})
    assert one(asked) == Unranked("p", "UNSCORED")
    assert list(rankings_from_scores([asked])) == []


def test_questions_are_never_mixed() -> None:
    overall, short = judgement({"a": 1.0, "b": 2.0}), judgement({"a": 2.0, "b": 1.0}, question="s")
    assert ranks(one(overall, short)) == {"a": 2, "b": 1}
    assert ranks(one(overall, short, question="s")) == {"a": 1, "b": 2}


@pytest.mark.parametrize("status", ["draft", "discarded"])
def test_drafts_and_discarded_answers_are_no_votes(status: str) -> None:
    assert list(aggregate_scores([judgement({"a": 1.0}, status=status)])) == []


def test_a_changed_mind_replaces_the_earlier_answer() -> None:
    first = judgement({"a": 1.0, "b": 2.0})
    second = judgement({"a": 3.0, "b": 2.0}, revision=1)
    ranking = one(second, first)
    assert ranks(ranking) == {"b": 2, "a": 1}
    assert isinstance(ranking, Ranking)
    assert ranking.judgement_ids == (second.id,)
    withdrawn = judgement({"a": None, "b": 2.0}, revision=1)
    assert ranks(one(first, withdrawn)) == {"b": 1}


@pytest.mark.parametrize("status", ["draft", "discarded"])
def test_a_score_that_was_taken_back_counts_no_more(status: str) -> None:
    first = judgement({"a": 1.0, "b": 2.0})
    taken_back = judgement({"a": 1.0, "b": 2.0}, status=status, revision=1)
    assert one(taken_back, first) == Unranked("p", "UNSCORED")
    other = judgement({"a": 3.0, "b": 1.0}, by="other")
    assert ranks(one(first, taken_back, other)) == {"a": 1, "b": 2}
    again = judgement({"a": 5.0, "b": 2.0}, revision=2)
    assert ranks(one(again, taken_back, first)) == {"a": 1, "b": 2}
    draft_of_another = judgement({"a": 1.0}, by="other", status=status)
    assert ranks(one(first, draft_of_another)) == {"b": 1, "a": 2}


def test_one_annotator_may_score_the_candidates_in_parts() -> None:
    assert ranks(one(judgement({"a": 1.0}), judgement({"b": 2.0}))) == {"a": 2, "b": 1}


def test_two_scores_of_one_candidate_by_one_annotator_are_refused() -> None:
    with pytest.raises(ValueError, match="scores candidate 'a' a second time"):
        one(judgement({"a": 1.0, "b": 2.0}), judgement({"a": 3.0}))


def test_several_annotators_are_refused_unless_they_are_to_be_averaged() -> None:
    votes = [judgement({"a": 1.0}, by="short"), judgement({"a": 2.0}, by="cats")]
    with pytest.raises(ValueError, match=r"'cats', 'short' answer the same question.*WeightedSum"):
        one(*votes)


def test_ranks_without_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="holds ranks but no scores"):
        one(judgement(candidates=("a", "b"), ranks=(1, 2)))


def test_judgements_of_a_prompt_come_together() -> None:
    apart = [judgement({"a": 1.0}, prompt_id=name) for name in ("p", "q", "p")]
    with pytest.raises(ValueError, match="judgements of prompt 'p' lie apart"):
        list(aggregate_scores(apart))


def test_too_few_judges_are_inconclusive() -> None:
    judges = [
        judgement({"a": 9.0, "b": 1.0}, by="one"),
        judgement({"a": None, "b": None}, by="two"),
        judgement({"a": None, "b": None}, by="three"),
    ]
    assert one(*judges, min_judgements=3) == Unranked("p", "INCONCLUSIVE")
    assert one(judges[0], min_judgements=2) == Unranked("p", "INCONCLUSIVE")
    assert list(rankings_from_scores(judges, min_judgements=3)) == []


def test_enough_judges_are_averaged() -> None:
    judges = [
        judgement({"a": 9.0, "b": 1.0, "c": 5.0}, by="one"),
        judgement({"b": 9.0, "a": 7.0, "c": None}, by="two"),
    ]
    ranking = one(*judges, min_judgements=2)
    assert ranks(ranking) == {"a": 1, "b": 2}
    assert isinstance(ranking, Ranking)
    assert ranking.scores == (8.0, 5.0)
    assert ranking.method == "mean_score"
    assert ranking.judgement_ids == tuple(judge.id for judge in judges)


def test_a_quorum_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="min_judgements is 0"):
        one(judgement({"a": 1.0}), min_judgements=0)


scores = st.dictionaries(st.sampled_from("abcdef"), st.none() | st.integers(-3, 3), min_size=1)


@given(scores, st.randoms())
def test_permuting_candidates_permutes_ranks(given_scores: dict[str, Any], random: Any) -> None:
    shuffled = dict(random.sample(list(given_scores.items()), len(given_scores)))
    straight, other = one(judgement(given_scores)), one(judgement(shuffled))
    if isinstance(straight, Unranked):
        assert other == straight
        return
    assert ranks(other) == ranks(straight)
    for left, rank in ranks(straight).items():
        for right, other_rank in ranks(straight).items():
            assert (rank < other_rank) == (given_scores[left] > given_scores[right])


@given(st.lists(scores, min_size=1, max_size=4), st.randoms())
def test_the_order_of_the_judges_does_not_matter(votes: list[dict[str, Any]], random: Any) -> None:
    judges = [judgement(vote, by=f"judge {index}") for index, vote in enumerate(votes)]
    shuffled = random.sample(judges, len(judges))
    straight = one(*judges, min_judgements=2)
    other = one(*shuffled, min_judgements=2)
    if isinstance(straight, Unranked):
        assert other == straight
    else:
        assert ranks(other) == ranks(straight)


def test_scores_that_differ_by_the_last_bits_of_a_sum_share_a_rank() -> None:
    ranking = one(judgement({"a": 0.1 + 0.2, "b": 0.3, "c": 0.3 - 1e-9}))
    assert ranks(ranking) == {"a": 1, "b": 1, "c": 2}


def test_a_score_against_its_aspects_is_held_out_where_scales_are_given() -> None:
    five = Scale(1, 5)
    scales = {"overall": Scale(1, 10), "helpful": five, "honest": five}
    rated = [
        judgement({"a": 10.0, "b": 8.0, "c": 3.0}),
        judgement({"a": 1.0, "b": 4.0, "c": 2.0}, question="helpful"),
        judgement({"a": 1.5, "b": 5.0, "c": 2.0}, question="honest"),
    ]
    assert ranks(one(*rated)) == {"a": 1, "b": 2, "c": 3}
    assert ranks(one(*rated, scales=scales)) == {"b": 1, "c": 2}
    alone = [
        judgement({"a": 10.0}),
        judgement({"a": 1.0}, question="helpful"),
        judgement({"a": 2.0}, question="honest"),
    ]
    assert one(*alone, scales=scales) == Unranked("p", "SIGNAL_CONFLICT")


def test_scales_conclude_nothing_about_a_prompt_without_the_question() -> None:
    aspect = judgement({"a": 1.0}, question="helpful")
    scales = {"overall": Scale(1, 10), "helpful": Scale(1, 5)}
    assert list(aggregate_scores([aspect], scales=scales)) == []
