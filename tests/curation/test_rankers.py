from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.aggregation import rankings_from_scores
from curation.rankers import RewardRanker
from curation.rewards.rules import LengthReward, RegexReward
from curation.rewards.weighted import WeightedSum
from schemas.arrow import from_table, to_table
from schemas.interfaces import Ranker
from schemas.records import Annotator, Candidate, Completion, Judgement, Message, Origin, Prompt


class Lengths:
    """Scores a completion by its characters and remembers how many it was asked at once."""

    name = "lengths"

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> list[float | None]:
        self.calls.append(len(completions))
        return [float(len(item.text)) if item.text else None for item in completions]


def prompt(text: str = "Say something.") -> Prompt:
    return Prompt(messages=(Message(role="user", content=text),))


def candidates(asked: Prompt, *texts: str) -> list[Candidate]:
    return [
        Candidate(
            prompt_id=asked.id,
            completion=Completion.from_text(text),
            origin=Origin(generator="test", index=index),
        )
        for index, text in enumerate(texts)
    ]


def item(text: str, *texts: str) -> tuple[Prompt, list[Candidate]]:
    return prompt(text), candidates(prompt(text), *texts)


def test_a_ranker_gives_one_judgement_a_prompt_with_the_candidates_as_given() -> None:
    ranker = RewardRanker(Lengths())
    assert isinstance(ranker, Ranker)
    first, second = item("one", "ccc", "a", ""), item("two", "bb")
    judgements = list(ranker.rank([first, second]))
    assert [judgement.prompt_id for judgement in judgements] == [first[0].id, second[0].id]
    assert judgements[0].candidates == tuple(candidate.text_id for candidate in first[1])
    assert judgements[0].scores == (3.0, 1.0, None)
    assert judgements[0].annotator == Annotator(kind="rule", name="lengths")
    assert {judgement.question for judgement in judgements} == {"overall"}


def test_the_annotator_is_who_the_caller_says_it_is() -> None:
    ranker = RewardRanker(Lengths(), name="rm-8b", kind="reward_model")
    (judgement,) = ranker.rank([item("one", "a")])
    assert judgement.annotator == Annotator(kind="reward_model", name="rm-8b")


def test_each_reward_of_a_sum_is_judged_under_its_own_name() -> None:
    reward = WeightedSum(
        [
            (LengthReward(at_most=1), 2.0, "short"),
            (RegexReward(pattern="cat"), -1.0, "cats"),
        ]
    )
    judgements = list(RewardRanker(reward).rank([item("one", "cat", "a dog")]))
    assert {judgement.question: judgement.scores for judgement in judgements} == {
        "overall": (1.0, 1.0),
        "short": (1.0, 0.5),
        "cats": (1.0, 0.0),
    }
    assert [judgement.annotator.name for judgement in judgements] == ["short+cats", "short", "cats"]


def test_a_sum_of_one_reward_is_judged_once() -> None:
    reward = WeightedSum([(LengthReward(at_most=1), 2.0, "short")])
    (judgement,) = RewardRanker(reward).rank([item("one", "a b")])
    assert (judgement.question, judgement.scores) == ("overall", (1.0,))


def test_a_reward_may_not_be_called_as_the_whole_is() -> None:
    reward = WeightedSum([(LengthReward(at_most=1), 2.0, "overall")])
    with pytest.raises(ValueError, match="a reward is called 'overall'"):
        RewardRanker(reward)


def test_a_text_from_two_samples_is_judged_once() -> None:
    (judgement,) = RewardRanker(Lengths()).rank([item("one", "same", "other", "same")])
    assert judgement.scores == (4.0, 5.0)


def test_a_prompt_without_candidates_has_no_judgement() -> None:
    assert list(RewardRanker(Lengths()).rank([item("one"), item("two")])) == []


def test_a_candidate_of_another_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match=r"answers prompt .* but is given with prompt"):
        list(RewardRanker(Lengths()).rank([(prompt("one"), candidates(prompt("two"), "a"))]))


def test_a_score_that_is_none_at_all_is_refused() -> None:
    ranker = RewardRanker(lambda prompts, completions: [float("nan")], name="broken")
    with pytest.raises(ValueError, match="reward 'broken', row 0"):
        list(ranker.rank([item("one", "a")]))


texts = st.lists(st.text("ab ", max_size=5), max_size=4)


@given(st.lists(texts, max_size=8), st.integers(1, 12))
def test_the_batch_size_does_not_change_a_judgement(groups: list[list[str]], size: int) -> None:
    items = [item(f"prompt {index}", *group) for index, group in enumerate(groups)]
    reward = Lengths()
    batched = list(RewardRanker(reward, batch_size=size).rank(items))
    assert batched == list(RewardRanker(Lengths(), batch_size=1000).rank(items))
    assert all(0 < call < size + 4 for call in reward.calls)


@given(st.permutations(["a", "bb", "cc", "dddd", ""]))
def test_permuting_candidates_permutes_their_ranks(order: list[str]) -> None:
    asked, shown = item("one", *order)
    (ranking,) = rankings_from_scores(RewardRanker(Lengths()).rank([(asked, shown)]))
    by_id = {candidate.text_id: candidate.completion.text for candidate in shown}
    ranks = {
        by_id[name]: rank for name, rank in zip(ranking.candidates, ranking.ranks, strict=True)
    }
    assert ranks == {"dddd": 1, "bb": 2, "cc": 2, "a": 3}


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=6),
    st.sampled_from([0.5, 2.0, 4.0]),
)
def test_scaling_all_weights_keeps_the_ranking(scored: list[tuple[int, int]], scale: float) -> None:
    class Column:
        def __init__(self, index: int) -> None:
            self.index = index

        def __call__(
            self, prompts: Sequence[Prompt], completions: Sequence[Completion]
        ) -> list[float | None]:
            return [scored[int(answer.text)][self.index] for answer in completions]

    def ranks(factor: float) -> tuple[int, ...]:
        weights = (1.0 * factor, -0.5 * factor)
        reward = WeightedSum([(Column(0), weights[0], "x"), (Column(1), weights[1], "y")])
        numbered = item("one", *map(str, range(len(scored))))
        (ranking,) = rankings_from_scores(RewardRanker(reward).rank([numbered]))
        return ranking.ranks

    assert ranks(scale) == ranks(1.0)


def test_the_place_a_candidate_was_shown_at_is_kept_apart_from_its_rank() -> None:
    asked, shown = item("one", "c", "aaa", "bb")
    judgements = list(RewardRanker(Lengths()).rank([(asked, shown)]))
    judgements.append(
        Judgement(
            prompt_id=asked.id,
            annotator=Annotator(kind="human", name="anna"),
            candidates=tuple(candidate.text_id for candidate in reversed(shown)),
            ranks=(2, 1, 3),
        )
    )
    machine, person = from_table(to_table(judgements, Judgement), Judgement)
    by_text = {candidate.completion.text: candidate.text_id for candidate in shown}

    def positions(judgement: Judgement) -> dict[str, int]:
        return {text: judgement.candidates.index(name) for text, name in by_text.items()}

    assert positions(machine) == {"c": 0, "aaa": 1, "bb": 2}
    assert positions(person) == {"bb": 0, "aaa": 1, "c": 2}
    (ranking,) = rankings_from_scores([machine])
    rank_of = dict(zip(ranking.candidates, ranking.ranks, strict=True))
    assert {text: rank_of[name] for text, name in by_text.items()} == {"aaa": 1, "bb": 2, "c": 3}
    assert person.ranks == (2, 1, 3)
