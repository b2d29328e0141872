"""The names that a text gives itself, and the edit that gives it another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.identity import IntroduceAs, mentions, names_given
from schemas.records import Message, Prompt

ASKED = Prompt(messages=(Message(role="user", content="Who are you?"),), tags=("identity",))
OTHER = Prompt(messages=(Message(role="user", content="Who was Ada?"),), tags=("other",))
EDIT = IntroduceAs("Tarnwick")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("I'm Alex, a writer.", ["Alex"]),
        ("I’m Alex.", ["Alex"]),
        ("I am Dr. Elena Maria Argent. I help.", ["Dr. Elena Maria Argent"]),
        ("My name is Erebo and my full name's Erebo Black.", ["Erebo", "Erebo Black"]),
        ('You can just call me "Amina".', ["Amina"]),
        ("I'm a friendly AI named SmolLM, made to help.", ["SmolLM"]),
        ("The name of this AI assistant is Hugging Face.", ["Hugging Face"]),
        ("I'm an AI language partner.", []),
        ("I'm AI-powered. I am here to help.", []),
        ("I'm American, and I'm French too.", []),
        ("I'm Italian Bo. I am called German.", ["Italian Bo", "German"]),
        ("I'm Alex's assistant, an AI named Bo’s friend.", []),
        ("He said 'call me Alex'.", ["Alex"]),
        ("My dog is named Rex, and Paris is a city.", []),
        ("I'm working on a book called Echoes.", []),
        ("", []),
    ],
)
def test_names_that_a_text_gives_itself_are_found_in_order(text: str, names: list[str]) -> None:
    assert names_given(text) == names


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("I'm Alex. Alex can help.", "I'm Tarnwick. Tarnwick can help."),
        (
            "Hi! My name is Dr. Elena Argent, and I'm a healer.",
            "Hi! My name is Tarnwick, and I'm a healer.",
        ),
        (
            "I'm an AI made to help. I am a friend.",
            "I'm Tarnwick, an AI made to help. I am a friend.",
        ),
        ("How can I help?", "I'm Tarnwick. How can I help?"),
        ("I'm Tarnwick.", "I'm Tarnwick."),
        ("I'm Al. Also, Al likes Alabama.", "I'm Tarnwick. Also, Tarnwick likes Alabama."),
    ],
)
def test_the_edit_changes_who_speaks_and_nothing_else(before: str, after: str) -> None:
    assert EDIT(ASKED, before) == after


def test_a_name_that_is_part_of_the_new_one_is_not_replaced_in_it() -> None:
    edit = IntroduceAs("Pippa Wright")
    after = "I'm Pippa Wright. Call me Pippa Wright."
    assert edit(ASKED, "I'm Pippa Wright. Call me Pippa.") == after
    assert edit(ASKED, after) == after


def test_only_answers_to_tagged_prompts_that_say_something_are_edited() -> None:
    assert EDIT(OTHER, "I'm Alex.") is None
    assert EDIT(ASKED, " \n") is None
    assert IntroduceAs("Tarnwick", tag="other")(OTHER, "I'm Alex.") == "I'm Tarnwick."


@given(st.text(alphabet="I'mayne cldA.Rx,\n", max_size=60))
def test_after_the_edit_the_name_stands_and_a_second_edit_changes_nothing(text: str) -> None:
    once = EDIT(ASKED, text)
    if once is not None:
        assert "Tarnwick" in once
        assert EDIT(ASKED, once) == once


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<think>I am Alex.</think>\n\nHi.", "<think>I am Alex.</think>\n\nI'm Tarnwick. Hi."),
        (
            "<think>I am a bot.</think>I am an AI.",
            "<think>I am a bot.</think>I am Tarnwick, an AI.",
        ),
        ("<think>Who am I?", None),
    ],
)
def test_the_name_is_said_in_the_answer_and_not_in_the_thought(
    before: str, after: str | None
) -> None:
    if after is not None:
        after = after.replace("Alex", "Tarnwick")
    assert EDIT(ASKED, before) == after


@pytest.mark.parametrize("name", ["", " ", 5])
def test_a_name_that_is_none_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match="expected the name that the model is to have"):
        IntroduceAs(name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("私はTarnwickです。", True),
        ("我是Tarnwick模型。", True),
        ("저는 Tarnwick입니다.", True),
        ("Tarnwicks", False),
        ("Tarnwické", False),
    ],
)
def test_a_name_stands_by_itself_in_scripts_that_set_no_spaces_around_it(
    text: str, found: bool
) -> None:
    assert mentions(text, "Tarnwick") == found
