"""A task is the same question in whatever order it is shown, and nothing that cannot be asked."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.arrow import from_table, to_table
from schemas.labels import LabelTask
from schemas.records import Candidate, Completion, Message, Origin, Prompt

PROMPT = Prompt(messages=(Message(role="user", content="Why?"),))


def candidate(text: str, prompt: Prompt = PROMPT, model: str = "m") -> Candidate:
    return Candidate(
        prompt_id=prompt.id,
        completion=Completion.from_text(text),
        origin=Origin(generator="import:test", weights=model),
    )


def task(*texts: str, **fields: Any) -> LabelTask:
    plain = {"dataset": "prefs", "workspace": "team", "prompt": PROMPT}
    return LabelTask(candidates=tuple(candidate(text) for text in texts), **{**plain, **fields})


@settings(deadline=None)
@given(st.permutations(["a", "b", "c", "d"]))
def test_the_order_shown_is_kept_and_is_no_part_of_the_id(order):
    asked = task(*order, kind="ranking")
    assert asked.id == task("a", "b", "c", "d", kind="ranking").id
    assert asked.shown == tuple(candidate(text).text_id for text in order)


def test_purpose_gold_answer_and_overlap_are_no_part_of_the_id():
    plain = task("a", "b")
    assert task("a", "b", purpose="gold", expected=(2, 1), overlap=5, assisted=True).id == plain.id


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "other"},
        {"workspace": "other"},
        {"kind": "ranking"},
        {"mirrored": True},
    ],
)
def test_another_place_kind_or_mirror_is_another_task(changes):
    assert task("a", "b", **changes).id != task("a", "b").id


def test_the_same_text_of_another_model_is_the_same_task():
    again = LabelTask(
        dataset="prefs",
        workspace="team",
        prompt=PROMPT,
        candidates=(candidate("a", model="other"), candidate("b")),
    )
    assert again.id == task("a", "b").id


@pytest.mark.parametrize(
    ("texts", "fields", "message"),
    [
        (("a", "a"), {}, "two candidates have the same text"),
        (("a", "b", "c"), {}, "3 candidates; a pair has 2"),
        (("a", "b"), {"purpose": "gold"}, "a gold question, and no other"),
        (("a", "b"), {"expected": (1, 2)}, "a gold question, and no other"),
        (("a", "b"), {"purpose": "gold", "expected": (1,)}, "one expected rank a candidate"),
        (("a",), {}, "at least 2 items"),
        (tuple("abcdefg"), {"kind": "ranking"}, "at most 6 items"),
        (("a", "b"), {"overlap": 0}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_asked_is_refused(texts, fields, message):
    with pytest.raises(ValidationError, match=message):
        task(*texts, **fields)


def test_a_candidate_of_another_prompt_is_refused():
    other = Prompt(messages=(Message(role="user", content="How?"),))
    with pytest.raises(ValidationError, match="answers another prompt"):
        LabelTask(
            dataset="prefs",
            workspace="team",
            prompt=PROMPT,
            candidates=(candidate("a"), candidate("b", other)),
        )


@settings(deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=6, unique=True
    ),
    st.booleans(),
)
def test_a_task_comes_back_from_the_store_as_it_was(texts, mirrored):
    asked = task(*texts, kind="ranking", mirrored=mirrored, follows="prefs", overlap=2)
    assert from_table(to_table([asked], LabelTask), LabelTask) == [asked]
