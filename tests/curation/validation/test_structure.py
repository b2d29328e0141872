"""Both sides answer one history, in roles that take turns."""

import pytest

from curation.validation.gate import Gate, GateResult, RawRow, rows_from_proposals
from schemas.configs import ValidateConfig
from schemas.records import Candidate, Completion, Message, Origin, PairProposal, Prompt

Turns = list[tuple[str, str]]


def messages(turns: Turns) -> list[dict[str, object]]:
    return [{"role": role, "content": content} for role, content in turns]


def run(prompt: Turns, chosen: Turns, rejected: Turns) -> GateResult:
    row = RawRow("line 7", messages(prompt), messages(chosen), messages(rejected))
    return Gate(ValidateConfig(token_checks=False), seed=0).run([row])


Q, X, Y = ("user", "q"), ("assistant", "x"), ("assistant", "y")


def test_two_user_turns_in_a_row_are_out_of_order() -> None:
    result = run([("user", "a"), ("user", "b")], [X], [Y])
    assert result.reasons == {"ROLE_ORDER": 1}
    assert "[0, 1]" in result.quarantined[0].message
    assert result.quarantined[0].row_id == "line 7"


def test_two_assistant_turns_in_a_row_are_out_of_order() -> None:
    result = run([Q], [X, X], [Y])
    assert result.reasons == {"ROLE_ORDER": 1}
    assert "[1, 2]" in result.quarantined[0].message


def test_a_tool_turn_that_nobody_asked_for_is_out_of_order() -> None:
    assert run([Q, ("tool", "4C")], [X], [Y]).reasons == {"ROLE_ORDER": 1}
    assert run([("tool", "4C")], [X], [Y]).reasons == {"ROLE_ORDER": 1}


def test_a_side_that_begins_with_the_prompt_repeats_it() -> None:
    result = run([Q], [Q, X], [Q, Y])
    assert result.reasons == {"PROMPT_REPEATED_IN_COMPLETION": 1}


def test_a_side_that_begins_with_the_last_question_repeats_it() -> None:
    result = run([("system", "s"), Q], [Q, X], [Y])
    assert result.reasons == {"PROMPT_REPEATED_IN_COMPLETION": 1}


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ([("assistant", "a1"), ("user", "more"), X], [("assistant", "b1"), ("user", "more"), Y]),
        ([("user", "other q"), X], [Q, Y]),
        ([("user", "other q"), X], [("user", "other q"), Y]),
    ],
)
def test_sides_with_turns_of_their_own_answer_another_history(
    chosen: Turns, rejected: Turns
) -> None:
    assert run([Q], chosen, rejected).reasons == {"HISTORY_DIFFERS": 1}


def test_a_pair_of_two_prompts_is_caught() -> None:
    prompts = [Prompt(messages=(Message(role="user", content=text),)) for text in ("q", "r")]
    sides = [
        Candidate(
            prompt_id=prompt.id,
            completion=Completion.from_text(f"answer {index}"),
            origin=Origin(generator="transformers"),
        )
        for index, prompt in enumerate(prompts)
    ]
    proposal = PairProposal(
        prompt=prompts[0], chosen=sides[0], rejected=sides[1], strategy="AllPairs"
    )
    result = Gate(ValidateConfig(token_checks=False), seed=0).run(rows_from_proposals([proposal]))
    assert result.reasons == {"HISTORY_DIFFERS": 1}
    assert prompts[1].id in result.quarantined[0].message


def test_a_prompt_that_ends_with_an_answer_has_the_wrong_last_role() -> None:
    assert run([Q, X], [Y], [("assistant", "z")]).reasons == {"LAST_ROLE": 1}


def test_a_side_that_ends_with_a_tool_turn_has_the_wrong_last_role() -> None:
    assert run([Q], [X, ("tool", "4C")], [Y]).reasons == {"LAST_ROLE": 1}


def test_a_row_without_prompt_shares_none() -> None:
    assert run([], [X], [Y]).reasons == {"NO_SHARED_PROMPT": 1}


def test_an_unknown_role_is_named_with_its_place() -> None:
    result = run([Q, X, ("bing", "c")], [X], [Y])
    assert result.reasons == {"UNKNOWN_ROLE": 1}
    assert "prompt[2] has role 'bing'" in result.quarantined[0].message


@pytest.mark.parametrize(
    "message",
    [
        "text",
        {"content": "x"},
        {"role": "assistant", "content": ["x"]},
        {"role": "assistant", "content": "x", "colour": "red"},
    ],
)
def test_what_is_no_message_is_told(message: object) -> None:
    row = RawRow("line 1", messages([Q]), [message], messages([Y]))  # type: ignore[list-item]
    result = Gate(ValidateConfig(token_checks=False), seed=0).run([row])
    assert result.reasons == {"BAD_MESSAGE": 1}


def test_a_null_key_is_an_absent_key() -> None:
    plain = RawRow("line 1", messages([Q]), messages([X]), messages([Y]))
    nulls = RawRow(
        "line 1",
        [{"role": "user", "content": "q", "tool_calls": None, "name": None}],
        [{"role": "assistant", "content": "x", "tool_calls": None}],
        [{"role": "assistant", "content": "y", "tool_calls": []}],
    )
    gate = Gate(ValidateConfig(token_checks=False), seed=0)
    assert gate.run([plain]).pairs == gate.run([nulls]).pairs
    repeated = RawRow("line 1", messages([Q]), [*nulls.prompt, *messages([X])], messages([Y]))
    assert gate.run([repeated]).reasons == {"PROMPT_REPEATED_IN_COMPLETION": 1}


def test_a_conversation_with_tools_passes_whole() -> None:
    call = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "type": "function",
                "function": {"name": "get_weather", "arguments": {"city": "Oslo"}},
            }
        ],
    }
    prompt = [
        {"role": "user", "content": "weather in Oslo?"},
        call,
        {"role": "tool", "name": "get_weather", "content": "4C"},
    ]
    row = RawRow("line 1", prompt, messages([("assistant", "4C")]), messages([X]))
    (pair,) = Gate(ValidateConfig(token_checks=False), seed=0).run([row]).pairs
    assert pair.prompt.message_dicts() == prompt
    calling = RawRow("line 2", [prompt[0]], [call], messages([("assistant", "no")]))
    (pair,) = Gate(ValidateConfig(token_checks=False), seed=0).run([calling]).pairs
    assert pair.chosen.completion.message_dicts() == [call]
