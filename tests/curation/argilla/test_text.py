"""What the page shows is what the model wrote, and nothing of it is markup."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.argilla.text import escaped, shown_answer, shown_messages, unescaped, visible
from schemas.records import Completion, FunctionCall, Message, Prompt, ToolCall

ANY = st.text(alphabet=st.characters(codec=None, categories=None), max_size=80)
MARKUP = st.text(alphabet="&<>$#;ampltgdorn'`\"\\/!-{}", max_size=40)


@given(st.one_of(ANY, MARKUP))
def test_an_escaped_text_comes_back_as_it_was(text: str) -> None:
    assert unescaped(escaped(text)) == text


@given(st.one_of(ANY, MARKUP))
def test_an_escaped_text_has_no_character_that_ends_a_script_or_is_replaced(text: str) -> None:
    assert not set(escaped(text)) & set("<>$#")
    assert re.fullmatch(r"(?:[^&]|&(?:amp|lt|gt|dollar|num);)*", escaped(text), re.DOTALL)


@pytest.mark.parametrize(
    ("text", "copy"),
    [
        ("<b>hi</b>", "&lt;b&gt;hi&lt;/b&gt;"),
        ("</script>", "&lt;/script&gt;"),
        ("&lt;", "&amp;lt;"),
        ("$& #TEMPLATE#", "&dollar;&amp; &num;TEMPLATE&num;"),
        ("**bold** 🌊", "**bold** 🌊"),
    ],
)
def test_markup_travels_as_entities_and_markdown_as_it_is(text: str, copy: str) -> None:
    assert escaped(text) == copy


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a\x00b", "a␀b"),
        ("\x1b[31m", "␛[31m"),
        ("\x7f", "␡"),
        ("half \ud83d pair", "half \\ud83d pair"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("tab\tline\nمرحبا 👩‍👧", "tab\tline\nمرحبا 👩‍👧"),
    ],
)
def test_what_has_no_glyph_is_drawn_or_spelt_out(text: str, seen: str) -> None:
    assert visible(text) == seen


@given(ANY)
def test_what_is_visible_can_be_stored_anywhere(text: str) -> None:
    seen = visible(text)
    assert "\x00" not in seen
    seen.encode("utf-8")
    assert visible(seen) == seen


def test_all_turns_are_shown_with_the_tools_first_and_calls_written_out() -> None:
    call = ToolCall(function=FunctionCall(name="look_up", arguments={"city": "Köln"}))
    prompt = Prompt(
        messages=(
            Message(role="system", content="Be brief."),
            Message(role="user", content="Weather?"),
            Message(role="assistant", content=None, tool_calls=(call,)),
            Message(role="tool", content="rain\x00"),
        ),
        tools=[{"name": "look_up"}],
    )
    turns = shown_messages(prompt)
    assert [turn["role"] for turn in turns] == ["tools", "system", "user", "assistant", "tool"]
    assert json.loads(turns[0]["content"]) == [{"name": "look_up"}]
    assert turns[3]["content"] == 'look_up({"city": "Köln"})'
    assert turns[4]["content"] == "rain␀"


def test_an_answer_of_several_messages_is_shown_whole() -> None:
    messages = (Message(role="assistant", content="one"), Message(role="assistant", content="two"))
    assert shown_answer(Completion(messages=messages)) == "one\ntwo"
