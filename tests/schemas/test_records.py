"""Ids, identities and what a record refuses."""

import hashlib
import re

import pytest
from pydantic import ValidationError

from schemas.records import (
    Annotator,
    Candidate,
    Completion,
    FunctionCall,
    Judgement,
    Message,
    Origin,
    PairProposal,
    PreferencePair,
    Prompt,
    Ranking,
    ToolCall,
    normalise,
)

RULE = Annotator(kind="rule", name="brevity")


def prompt(*turns: tuple[str, str], **fields) -> Prompt:
    return Prompt(messages=tuple(Message(role=r, content=c) for r, c in turns), **fields)


QUESTION = prompt(("user", "Name a colour."))


def candidate(text: str, *, of: Prompt = QUESTION, index: int = 0) -> Candidate:
    return Candidate(
        prompt_id=of.id,
        completion=Completion.from_text(text, finish_reason="stop"),
        origin=Origin(generator="import:test", index=index),
    )


def pair(**changes) -> PreferencePair:
    fields = {
        "prompt": QUESTION,
        "chosen": candidate("Red."),
        "rejected": candidate("No."),
        "strategy": "test",
    }
    return PreferencePair(**{**fields, **changes})


def test_conversations_that_differ_in_a_later_turn_are_different_prompts():
    first = prompt(("user", "hi"), ("assistant", "a"), ("user", "q1"))
    second = prompt(("user", "hi"), ("assistant", "a"), ("user", "q2"))
    assert first.id != second.id


@pytest.mark.parametrize(
    "change",
    [
        {"messages": (Message(role="system", content="Be brief."), *QUESTION.messages)},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
    ],
)
def test_system_and_tools_are_part_of_a_prompts_identity(change):
    assert Prompt(**{"messages": QUESTION.messages, **change}).id != QUESTION.id


def test_a_reference_answer_or_a_tag_does_not_make_another_prompt():
    assert Prompt(messages=QUESTION.messages, answer="4", tags=("maths",)).id == QUESTION.id


def test_the_id_of_a_known_prompt_is_the_same_on_every_machine():
    text = b'[[{"content":"Name a colour.","role":"user"}],null]'
    assert hashlib.sha256(text).hexdigest()[:20] == "d39de5b482d28bbb13e3"
    assert QUESTION.id == "p-d39de5b482d28bbb13e3"


def test_case_width_and_spaces_do_not_make_another_group():
    shouted = prompt(("user", "  NAME a\u00a0 colour\uff0e"))
    assert shouted.id != QUESTION.id
    assert shouted.group == QUESTION.group
    assert normalise("  \ufb01ne\n\tday ") == "fine day"


def test_a_null_key_means_the_same_as_an_absent_one():
    with_nulls = Message.model_validate({"role": "user", "content": "hi", "tool_calls": None})
    assert with_nulls == Message(role="user", content="hi")
    assert with_nulls.to_dict() == {"role": "user", "content": "hi"}
    assert Message.model_validate({"role": "user", "content": "hi", "tool_calls": []}) == with_nulls


def test_a_tool_call_keeps_the_nulls_its_author_wrote():
    call = ToolCall(function=FunctionCall(name="f", arguments={"x": None, "y": {"z": []}}))
    message = Message(role="assistant", tool_calls=(call,))
    assert message.to_dict() == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "type": "function",
                "function": {"name": "f", "arguments": {"x": None, "y": {"z": []}}},
            }
        ],
    }


def test_a_prompt_that_ends_with_the_assistant_is_refused():
    with pytest.raises(ValidationError, match="ends with an assistant message"):
        prompt(("user", "hi"), ("assistant", "hello"))


def test_the_same_text_from_another_sample_is_another_candidate_with_the_same_text_id():
    first, second = candidate("Red."), candidate("Red.", index=1)
    assert first.id != second.id
    assert first.text_id == second.text_id


def test_the_same_text_as_an_answer_to_another_prompt_has_another_text_id():
    other = prompt(("user", "Name a fruit."))
    assert candidate("Orange").text_id != candidate("Orange", of=other).text_id


def test_how_often_a_text_was_sampled_does_not_change_its_identity():
    once = candidate("Red.")
    assert Candidate(**{**dict(once), "count": 3}).id == once.id


def test_a_record_changed_after_it_was_written_is_refused():
    row = candidate("Red.").model_dump()
    row["completion"]["messages"][0]["content"] = "Blue."
    with pytest.raises(ValidationError, match="changed after it was written"):
        Candidate.model_validate(row)


def test_an_unknown_field_is_refused():
    with pytest.raises(ValidationError, match="Extra inputs"):
        Message.model_validate({"role": "user", "content": "hi", "weight": 1})


def test_an_answer_again_after_a_change_of_mind_is_a_judgement_of_its_own():
    fields = {"prompt_id": "p", "annotator": RULE, "candidates": ("a", "b"), "ranks": (1, 2)}
    assert Judgement(**fields).id != Judgement(**fields, revision=2).id


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"ranks": (1,)}, "2 candidates but 1 ranks; expected one rank a candidate"),
        ({"scores": (0.5, float("nan"))}, "not a finite number"),
        ({"scores": (0.5, float("inf"))}, "not a finite number"),
        ({"ranks": (2, 3)}, "the best has rank 1"),
        ({}, "neither ranks, scores nor 'both bad'"),
        ({"candidates": ("a", "a"), "ranks": (1, 2)}, "shown twice"),
    ],
)
def test_a_judgement_that_does_not_fit_its_candidates_is_refused(fields, complaint):
    with pytest.raises(ValidationError, match=re.escape(complaint)):
        Judgement(**{"prompt_id": "p", "annotator": RULE, "candidates": ("a", "b"), **fields})


def test_an_abstention_is_no_score():
    judgement = Judgement(prompt_id="p", annotator=RULE, candidates=("a", "b"), scores=(0.5, None))
    assert judgement.scores == (0.5, None)


@pytest.mark.parametrize("ranks", [(1, 3), (2, 2), (0, 1)])
def test_a_ranking_has_dense_ranks_from_one(ranks):
    with pytest.raises(ValidationError, match="not dense"):
        Ranking(prompt_id="p", candidates=("a", "b"), ranks=ranks, method="score")


def test_a_pair_carries_its_confidence():
    kept = pair(p_chosen=0.75, weight=2.0, margin=0.5)
    assert (kept.p_chosen, kept.weight, kept.margin) == (0.75, 2.0, 0.5)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rejected": candidate("Red.", index=1)}, "the same text"),
        ({"rejected": candidate("No.", of=prompt(("user", "?")))}, "different prompts"),
        ({"p_chosen": 0.5}, "more than 0.5"),
        ({"p_chosen": 0.3}, "more than 0.5"),
        ({"p_chosen": 1.1}, "at most 1"),
        ({"margin": 0.0}, "a tie is no preference"),
        ({"margin": float("nan")}, "a tie is no preference"),
        ({"weight": 0.0}, "expected more than 0"),
    ],
)
def test_what_is_no_preference_cannot_be_built(changes, complaint):
    with pytest.raises(ValidationError, match=complaint):
        pair(**changes)


def test_the_gate_does_not_change_the_id_of_a_pair():
    accepted = pair(margin=0.5, split="test")
    proposal = PairProposal(**{k: v for k, v in accepted if k != "split"})
    assert proposal.id == accepted.id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Name a fish", "Name\u200b a\ufeff fish"),
        ("Name a fish", "Name\r\na \u00a0fish\n"),
        ("co\u00adoperate", "cooperate"),
        ("\u0390", "\u0390".upper()),
        ("STRASSE", "straße"),
    ],
)
def test_what_reads_alike_is_one_group(one: str, other: str) -> None:
    assert Prompt(messages=(Message(role="user", content=one),)).group == (
        Prompt(messages=(Message(role="user", content=other),)).group
    )
