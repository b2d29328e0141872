"""Win rates within a group, from a judge that compares two answers."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo.group_judge import GroupJudge, Item
from schemas.records import Completion, Message, Prompt


class Said(NamedTuple):
    share: float | None


class PrefersLonger:
    """Prefers the longer text, ties equal lengths, and abstains where a text is 'silent'."""

    name = "longer"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    def compare(self, items: Sequence[Item]) -> list[Said]:
        self.asked += [(prompt.id, one.text, other.text) for prompt, one, other in items]
        return [Said(self._share(one.text, other.text)) for _, one, other in items]

    @staticmethod
    def _share(one: str, other: str) -> float | None:
        if "silent" in (one, other):
            return None
        return 0.5 if len(one) == len(other) else float(len(one) > len(other))


def _prompt(text: str) -> Prompt:
    return Prompt(messages=(Message(role="user", content=text),))


def _rates(judge: GroupJudge, groups: dict[str, list[str]]) -> list[float | None]:
    prompts = [_prompt(question) for question, answers in groups.items() for _ in answers]
    answers = [Completion.from_text(text) for texts in groups.values() for text in texts]
    components = judge.components(prompts, answers)
    assert components.keys() == {"longer"}
    return judge.combine(components)


def test_an_answer_is_worth_its_share_of_wins_within_its_own_group() -> None:
    judge = PrefersLonger()
    found = _rates(GroupJudge(judge), {"a": ["x", "xxx", "xx", "yy"], "b": ["long text", "no"]})
    # x loses thrice; xxx wins thrice; xx and yy win once, lose once, and tie.
    assert found == [0.0, 1.0, 0.5, 0.5, 1.0, 0.0]
    assert len(judge.asked) == 6 + 1


def test_equal_texts_tie_without_a_question_and_are_asked_about_once() -> None:
    judge = PrefersLonger()
    found = _rates(GroupJudge(judge), {"a": ["x", "x", "xx", "xx"], "b": ["same", "same"]})
    assert found == [pytest.approx(0.5 / 3)] * 2 + [pytest.approx(2.5 / 3)] * 2 + [0.5, 0.5]
    assert [pair[1:] for pair in judge.asked] == [("x", "xx")]


def test_an_abstained_comparison_is_left_out_and_an_answer_without_any_abstains() -> None:
    found = _rates(GroupJudge(PrefersLonger()), {"a": ["x", "silent", "xxx"]})
    assert found == [0.0, None, 1.0]


def test_a_question_is_never_asked_about_answers_to_another_prompt() -> None:
    judge = PrefersLonger()
    _rates(GroupJudge(judge), {"a": ["x", "xx"], "b": ["x", "xx"]})
    assert [asked[0] for asked in judge.asked] == [_prompt("a").id, _prompt("b").id]


def test_a_judge_that_answers_too_few_comparisons_is_an_error() -> None:
    class Short(PrefersLonger):
        def compare(self, items: Sequence[Item]) -> list[Said]:
            return super().compare(items)[1:]

    with pytest.raises(ValueError, match="judge 'longer': asked for 3 comparisons, gave 2"):
        _rates(GroupJudge(Short()), {"a": ["x", "xx", "xxx"]})


@given(st.lists(st.text("xy", max_size=4), min_size=2, max_size=6), st.randoms())
def test_win_rates_follow_their_answers_and_have_a_mean_of_one_half(
    texts: list[str], random: object
) -> None:
    found = _rates(GroupJudge(PrefersLonger()), {"a": texts})
    assert sum(rate for rate in found if rate is not None) == pytest.approx(len(texts) / 2)
    order = list(range(len(texts)))
    random.shuffle(order)  # type: ignore[attr-defined]
    moved = _rates(GroupJudge(PrefersLonger()), {"a": [texts[at] for at in order]})
    assert moved == pytest.approx([found[at] for at in order])
    for one, other in itertools.combinations(range(len(texts)), 2):
        if texts[one] == texts[other]:
            assert found[one] == pytest.approx(found[other])
