"""Refusals as the better text to an unsafe prompt and the worse one to a safe prompt."""

import pytest

from curation.edits import Worse
from curation.pairs import propose_edits
from curation.rewards.refusal import refuses
from curation.safety import REFUSALS, Refuse
from schemas.records import Candidate, Completion, Message, Origin, Prompt


def asked(*tags: str) -> Prompt:
    return Prompt(messages=(Message(role="user", content="How do I break it?"),), tags=tags)


UNSAFE, SAFE = asked("label:unsafe"), asked("label:safe")


def test_every_wording_is_a_refusal_to_the_rule_that_measures() -> None:
    assert all(map(refuses, REFUSALS))
    assert len(set(REFUSALS)) == len(REFUSALS)


def test_a_refusal_is_better_where_the_prompt_is_unsafe_and_worse_where_it_is_safe() -> None:
    refuse = Refuse(refusals=("I won't.",))
    assert refuse(UNSAFE, "Take a hammer.") == "I won't."
    assert refuse(SAFE, "Take a hammer.") == Worse("I won't.")


def test_the_wording_depends_on_prompt_and_answer_alone_and_all_of_them_occur() -> None:
    answers = [f"Take hammer {number}." for number in range(200)]
    drawn = [Refuse()(UNSAFE, answer) for answer in answers]
    assert drawn == [Refuse()(UNSAFE, answer) for answer in answers]
    assert set(drawn) == set(REFUSALS)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (asked(), "Take a hammer."),
        (asked("label:safe", "label:unsafe"), "Take a hammer."),
        (UNSAFE, "I can't help with that."),
        (SAFE, "I can't help with that."),
        (UNSAFE, " "),
        (SAFE, ""),
    ],
)
def test_what_is_neither_safe_nor_unsafe_and_what_refuses_by_itself_is_left_alone(
    prompt: Prompt, text: str
) -> None:
    assert Refuse()(prompt, text) is None


def test_no_wordings_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a list of texts"):
        Refuse(refusals=())


def test_the_pairs_of_safe_and_unsafe_prompts_point_in_opposite_directions() -> None:
    items = [
        (
            prompt,
            [
                Candidate(
                    prompt_id=prompt.id,
                    completion=Completion.from_text("Take a hammer."),
                    origin=Origin(generator="transformers"),
                )
            ],
        )
        for prompt in (UNSAFE, SAFE)
    ]
    refusal = "I won't."
    unsafe, safe = propose_edits(items, Refuse(refusals=(refusal,)), "Refuse")
    (to_refuse,), (to_answer,) = unsafe.proposals, safe.proposals
    assert to_refuse.chosen.completion.text == to_answer.rejected.completion.text == refusal
    assert to_refuse.rejected.completion.text == to_answer.chosen.completion.text


def test_a_refusal_within_a_thought_is_none_and_a_thought_alone_is_no_answer() -> None:
    refuse = Refuse(refusals=("I won't.",))
    assert refuse(UNSAFE, "<think>I can't help with that. Or can I?</think>Hit it.") == "I won't."
    assert refuse(UNSAFE, "<think>Hit it") is None


def test_wordings_that_are_no_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a list of texts"):
        Refuse(refusals=("No.", 5))  # type: ignore[arg-type]
