"""Messages from anybody's file in one shape."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.formats.json_values import RowError
from curation.formats.messages import (
    check_asks,
    normalise_messages,
    normalise_tools,
)
from schemas.records import Message

CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}


def code_of(value: Any) -> str:
    with pytest.raises(RowError) as caught:
        normalise_messages(value)
    return caught.value.code


def test_plain_text_becomes_one_message() -> None:
    assert normalise_messages("hi") == [{"role": "user", "content": "hi"}]
    assert normalise_messages("yo", role="assistant") == [{"role": "assistant", "content": "yo"}]


def test_sharegpt_names_are_read_whatever_their_case_and_spaces() -> None:
    turns = [
        {"from": "human", "value": "q"},
        {"from": "gpt", "value": "a"},
        {"from": "Human ", "value": "r"},
        {"from": "assistant", "value": "b"},
    ]
    assert [message["role"] for message in normalise_messages(turns)] == [
        "user",
        "assistant",
        "user",
        "assistant",
    ]
    assert normalise_messages(turns)[2] == {"role": "user", "content": "r"}


def test_an_unknown_role_is_named_with_its_position() -> None:
    turns = [{"from": "human", "value": "q"}] * 4 + [{"from": "bing", "value": "c"}]
    with pytest.raises(RowError, match="message 4: unknown role 'bing'") as caught:
        normalise_messages(turns)
    assert caught.value.code == "UNKNOWN_ROLE"


def test_null_keys_are_as_good_as_absent() -> None:
    message = {"role": "user", "content": "hi", "tool_calls": None, "name": None, "weight": None}
    assert normalise_messages([message]) == [{"role": "user", "content": "hi"}]
    empty = {"role": "assistant", "content": "yo", "tool_calls": []}
    assert normalise_messages([empty]) == [{"role": "assistant", "content": "yo"}]


def test_an_unknown_key_with_a_value_is_refused_by_name() -> None:
    with pytest.raises(RowError, match="message 0: unknown key 'function_call'"):
        normalise_messages([{"role": "assistant", "content": "", "function_call": {"name": "f"}}])


def test_tool_calls_keep_their_arguments_and_the_nulls_in_them() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": None, "y": [1]}}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    assert normalise_messages([message]) == [message]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('{"x": null}', {"x": None}),
        ("not json {", "not json {"),
        ('"a text"', "a text"),
    ],
)
def test_arguments_that_are_json_text_are_opened(written: str, read: Any) -> None:
    call = {"id": "call_1", "function": {"name": "f", "arguments": written}}
    (message,) = normalise_messages([{"role": "assistant", "tool_calls": [call]}])
    assert message["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": read}}
    ]


def test_a_single_text_part_is_its_text_and_other_parts_are_refused() -> None:
    part = {"type": "text", "text": "hi", "image_url": None}
    assert normalise_messages([{"role": "user", "content": [part]}])[0]["content"] == "hi"
    image = [{"type": "image", "image": "x.png"}, {"type": "text", "text": "what is this?"}]
    assert code_of([{"role": "user", "content": image}]) == "UNSUPPORTED_CONTENT"
    assert code_of([{"role": "user", "content": [part, part]}]) == "UNSUPPORTED_CONTENT"
    assert code_of([{"role": "user", "content": {"text": "hi"}}]) == "UNSUPPORTED_CONTENT"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (7, "BAD_MESSAGE"),
        (["hi"], "BAD_MESSAGE"),
        ([{"content": "no role"}], "BAD_MESSAGE"),
        ([{"role": "tool", "content": "x", "tool_call_id": 7}], "BAD_MESSAGE"),
        ([{"role": "assistant", "tool_calls": {"name": "f"}}], "BAD_TOOL_CALL"),
        ([{"role": "assistant", "tool_calls": ["f"]}], "BAD_TOOL_CALL"),
        ([{"role": "assistant", "tool_calls": [{**CALL, "index": 0}]}], "BAD_TOOL_CALL"),
        ([{"role": "assistant", "tool_calls": [{**CALL, "id": 3}]}], "BAD_TOOL_CALL"),
        ([{"role": "assistant", "tool_calls": [{**CALL, "type": "code"}]}], "BAD_TOOL_CALL"),
    ],
)
def test_what_is_no_message_has_a_code(value: Any, code: str) -> None:
    assert code_of(value) == code


def test_the_error_itself_can_be_stored_whatever_it_quotes() -> None:
    with pytest.raises(RowError) as caught:
        normalise_messages([{"role": "\ud83c", "content": "x"}])
    assert str(caught.value).encode()


def test_tools_are_read_from_a_list_or_its_json_text() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert normalise_tools(tools) == tools
    assert normalise_tools(json.dumps(tools)) == tools
    nothings: list[Any] = [None, [], "", "[]"]
    assert [normalise_tools(nothing) for nothing in nothings] == [None] * 4
    wrong: list[Any] = ["f()", {"name": "f"}, ["f"]]
    for bad in wrong:
        with pytest.raises(RowError, match="'tools'"):
            normalise_tools(bad)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
tool_calls = st.fixed_dictionaries(
    {
        "function": st.fixed_dictionaries(
            {
                "name": st.text(max_size=5),
                "arguments": st.dictionaries(st.text(max_size=3), json_values, max_size=3),
            }
        )
    },
    optional={"id": st.text(max_size=5)},
)
messages = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "user", "assistant", "tool"]),
        "content": st.none() | st.text(max_size=10),
    },
    optional={
        "name": st.text(max_size=5),
        "tool_calls": st.lists(tool_calls, min_size=1, max_size=2),
        "tool_call_id": st.text(max_size=5),
        "reasoning_content": st.text(max_size=5),
    },
)


@given(st.lists(messages, max_size=3))
def test_normalised_messages_are_what_the_record_gives_back(value: list[dict[str, Any]]) -> None:
    normalised = normalise_messages(value)
    assert normalised == [Message(**message).to_dict() for message in value]
    assert normalise_messages(normalised) == normalised


def test_one_message_by_itself_is_a_list_of_one() -> None:
    plain = [{"role": "assistant", "content": "x"}]
    assert normalise_messages({"role": "assistant", "content": "x"}) == plain
    assert normalise_messages({"from": "gpt", "value": "x"}) == plain


@pytest.mark.parametrize("text", ["", " ", "\u200b", "\u3164"])
def test_a_prompt_with_an_empty_turn_asks_nothing(text: str) -> None:
    for messages in (
        [{"role": "user", "content": text}],
        [{"role": "system", "content": "s"}, {"role": "user", "content": text}],
        [{"role": "system", "content": text}],
    ):
        with pytest.raises(RowError) as caught:
            check_asks(messages)
        assert caught.value.code == "EMPTY_PROMPT"
    check_asks([{"role": "system", "content": text}, {"role": "user", "content": "q"}])
