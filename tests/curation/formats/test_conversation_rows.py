"""Rows of anybody's files as conversations to fine-tune on."""

import json
from typing import Any

import pytest

from curation.formats.conversation_rows import conversation_row, shape_of
from curation.formats.json_values import RowError
from schemas.records import Message, Prompt

HI_YO = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]


def said(row: dict[str, Any]) -> list[tuple[str, str | None]]:
    messages = conversation_row(row).conversation.messages
    return [(message.role, message.content) for message in messages]


def code_of(row: dict[str, Any]) -> str:
    with pytest.raises(RowError) as caught:
        conversation_row(row)
    return caught.value.code


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ({"prompt": "hi", "completion": "yo"}, "text"),
        ({"question": "hi", "answer": "yo"}, "text"),
        ({"prompt": HI_YO[:1], "completion": HI_YO[1:]}, "messages"),
        ({"messages": HI_YO}, "messages"),
        ({"messages": json.dumps(HI_YO)}, "messages"),
        (
            {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]},
            "messages",
        ),
        ({"instruction": "hi", "input": "", "output": "yo"}, "instruction"),
        ({"instruction": "hi", "instances": [{"input": "", "output": "yo"}]}, "instruction"),
    ],
)
def test_every_usual_form_is_the_same_conversation(row: dict[str, Any], shape: str) -> None:
    assert said(row) == [("user", "hi"), ("assistant", "yo")]
    assert conversation_row(row).shape == shape
    same = conversation_row({"messages": HI_YO}).conversation
    assert conversation_row(row).conversation.id == same.id


def test_the_shape_is_told_of_rows_that_are_no_conversation_too() -> None:
    assert shape_of({"prompt": "hi", "completion": HI_YO[1:]}) == "mixed"
    assert shape_of({"prompt": "hi", "completion": 3}) == "text"
    assert shape_of({"prompt": 3, "completion": HI_YO[1:]}) == "mixed"
    assert shape_of({"text": "hi"}) is None


def test_an_input_goes_with_its_instruction() -> None:
    row = {"instruction": "Translate.", "input": "Guten Tag", "output": "Good day"}
    assert said(row)[0] == ("user", "Translate.\n\nGuten Tag")


def test_a_system_column_comes_first_and_makes_text_a_conversation() -> None:
    row = {"system": "Be brief.", "prompt": "hi", "completion": "yo"}
    assert said(row)[0] == ("system", "Be brief.")
    assert conversation_row(row).shape == "instruction"


def test_tools_and_calls_are_kept() -> None:
    call = {"type": "function", "function": {"name": "look", "arguments": {"at": "sky"}}}
    row = {
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "blue"},
            {"role": "assistant", "content": "It is blue."},
        ],
        "tools": json.dumps([{"type": "function", "function": {"name": "look"}}]),
    }
    conversation = conversation_row(row).conversation
    assert conversation.tools == [{"type": "function", "function": {"name": "look"}}]
    assert conversation.messages[1].tool_calls is not None


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"text": "hi yo"}, "MISSING_COLUMN"),
        ({"prompt": "hi"}, "MISSING_COLUMN"),
        ({"prompt": "", "completion": "yo"}, "EMPTY_PROMPT"),
        ({"prompt": "hi", "completion": ""}, "EMPTY_COMPLETION"),
        ({"prompt": "hi", "completion": HI_YO[1:]}, "MIXED_FORMAT"),
        ({"prompt": "hi", "completion": 3}, "BAD_MESSAGE"),
        ({"messages": HI_YO[:1]}, "NO_ASSISTANT_TURN"),
        ({"messages": []}, "EMPTY_PROMPT"),
        ({"messages": [HI_YO[0], {"role": "assistant", "content": " "}]}, "EMPTY_PROMPT"),
        ({"messages": "hi"}, "BAD_MESSAGE"),
        ({"messages": [{"role": "bard", "content": "hi"}]}, "UNKNOWN_ROLE"),
        ({"prompt": "hi\ud83d", "completion": "yo"}, "BAD_UNICODE"),
        ({"prompt": "hi", "completion": "yo", "tools": "look"}, "BAD_TOOLS"),
        ({"instruction": "hi", "instances": [{"output": "yo"}, {"output": "no"}]}, "BAD_ROW"),
    ],
)
def test_a_row_that_is_no_conversation_says_why(row: dict[str, Any], code: str) -> None:
    assert code_of(row) == code


def test_conversations_that_ask_the_same_share_the_group_of_the_prompt() -> None:
    one = conversation_row({"prompt": "Why is  the SKY blue?", "completion": "yo"}).conversation
    other = conversation_row({"prompt": "why is the sky blue?", "completion": "no"}).conversation
    prompt = Prompt(messages=(Message(role="user", content="Why is the sky blue?"),))
    assert one.group == other.group == prompt.group
    assert one.id != other.id
