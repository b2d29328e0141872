"""What a dataset asks and a record shows."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.argilla.settings import (
    FIELD,
    dataset_settings,
    record_fields,
    record_metadata,
    shown_differently,
    shown_texts,
)
from schemas.configs import LabelConfig, WorkspaceConfig
from schemas.labels import LabelTask
from schemas.records import Candidate, Completion, Message, Origin, Prompt

NASTY = "</script><script>alert(1)</script> $& $' #TEMPLATE# &lt; \x00"


def config(**keys: Any) -> LabelConfig:
    workspaces = {"w": WorkspaceConfig(annotators=("a", "b", "c"))}
    return LabelConfig(dataset="d", workspaces=workspaces, **keys)


def task(*answers: str, question: str = "Q?", **keys: Any) -> LabelTask:
    prompt = Prompt(
        messages=(Message(role="system", content="S"), Message(role="user", content=question))
    )
    candidates = tuple(
        Candidate(
            prompt_id=prompt.id,
            completion=Completion.from_text(answer),
            origin=Origin(generator="import:a-model-nobody-may-see"),
        )
        for answer in answers
    )
    return LabelTask(dataset="d", workspace="w", prompt=prompt, candidates=candidates, **keys)


def test_a_pair_is_asked_with_four_choices_then_criteria_strength_and_reason() -> None:
    asked = dataset_settings(config(criteria=("Help", "Harm")), task("x", "y", overlap=3))
    assert [question["name"] for question in asked.questions] == [
        "overall",
        "help",
        "harm",
        "strength",
        "reason",
    ]
    for question in asked.questions[:3]:
        values = [option["value"] for option in question["settings"]["options"]]
        assert values == ["a", "b", "tie", "both_bad"]
        assert question["required"]
    assert not any(question["required"] for question in asked.questions[3:])
    assert asked.overlap == 3


def test_a_ranking_has_one_option_an_answer_titled_as_on_the_page() -> None:
    ranked = task("x", "y", "z", kind="ranking")
    asked = dataset_settings(config(kind="ranking"), ranked)
    assert [question["name"] for question in asked.questions] == ["overall", "reason"]
    options = asked.questions[0]["settings"]["options"]
    assert [option["value"] for option in options] == ["1", "2", "3"]
    titles = [answer["title"] for answer in record_fields(ranked)[FIELD]["answers"]]
    assert [option["text"] for option in options] == titles == ["Answer 1", "Answer 2", "Answer 3"]


def test_the_choices_name_the_answers_as_the_page_does() -> None:
    titles = [answer["title"] for answer in record_fields(task("x", "y"))[FIELD]["answers"]]
    options = dataset_settings(config(), task("x", "y")).questions[0]["settings"]["options"]
    assert titles == ["A", "B"]
    assert [option["text"] for option in options[:2]] == ["A is better", "B is better"]


def test_annotators_see_no_metadata_and_a_record_tells_nothing_else() -> None:
    gold = task("x", "y", purpose="gold", expected=(2, 1))
    asked = dataset_settings(config(), gold)
    assert {item["name"]: item["visible_for_annotators"] for item in asked.metadata} == {
        "shown": False,
        "mirrored": False,
    }
    assert record_metadata(gold) == {"shown": list(gold.shown), "mirrored": "no"}
    label = task("x", "y")
    assert (record_fields(gold), record_metadata(gold)) == (
        record_fields(label),
        record_metadata(label),
    )
    assert "nobody-may-see" not in json.dumps([record_fields(gold), record_metadata(gold)])


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_a_reader_of_the_fields_sees_what_a_reader_of_the_page_sees(
    question: str, first: str, second: str
) -> None:
    if first == second:
        return
    asked = task(first, second, question=question)
    fields = json.loads(json.dumps(record_fields(asked)))
    _, answers = shown_texts(fields)
    assert shown_differently(asked, fields) is None
    plain = [text for text in (first, second) if text.isprintable()]
    assert all(text in answers for text in plain)


def test_nothing_in_a_record_can_end_the_pages_script() -> None:
    asked = task(NASTY, "other", question=NASTY)
    sent = json.dumps(record_fields(asked), ensure_ascii=False)
    assert not re.search(r"[<>$#]", sent)
    messages, answers = shown_texts(record_fields(asked))
    assert answers[0] == NASTY.replace("\x00", "␀") == messages[1]["content"]
    assert asked.candidates[0].completion.text == NASTY
    assert asked.candidates[0].text_id == task(NASTY, "z", question=NASTY).candidates[0].text_id


@pytest.mark.parametrize(
    ("answers", "question", "why"),
    [
        (("y", "x"), "Q?", "another order"),
        (("x", "z"), "Q?", "other answers"),
        (("x", "y"), "P?", "another conversation"),
    ],
)
def test_a_record_that_shows_something_else_is_noticed(
    answers: tuple[str, str], question: str, why: str
) -> None:
    fields = record_fields(task(*answers, question=question))
    assert why in str(shown_differently(task("x", "y"), fields))


def test_a_record_of_somebody_elses_is_noticed() -> None:
    assert "no field 'conversation'" in str(shown_differently(task("x", "y"), {"text": "x"}))


@pytest.mark.parametrize("layout", ["auto", "side_by_side", "stacked"])
def test_the_page_has_the_layout_and_nothing_from_outside(layout: str) -> None:
    asked = dataset_settings(config(layout=layout), task("x", "y"))
    page = asked.fields[0]["settings"]["template"]
    assert f'LAYOUT = "{layout}"' in page
    assert "@LAYOUT@" not in page
    assert not re.search(r"https?:|//[a-z]|@import|url\(|src=|innerHTML|insertAdjacent|eval", page)
    # Argilla pastes the page in with String.replace, which would read a dollar sign as its own.
    assert "$" not in page
    assert "#TEMPLATE#" not in page


def test_the_projects_guidelines_fit_the_kind() -> None:
    pairwise = dataset_settings(config(), task("x", "y")).guidelines
    ranking = dataset_settings(config(), task("x", "y", kind="ranking")).guidelines
    assert "**A**" in pairwise
    assert "place 1" in ranking


def test_guidelines_come_from_the_users_file(tmp_path: Path) -> None:
    path = tmp_path / "ours.md"
    path.write_text("\ufeff# Ours\n", encoding="utf-8")
    assert dataset_settings(config(guidelines=path), task("x", "y")).guidelines == "# Ours"


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "does not exist"), (b"", "0 characters"), (b"\xff", "UTF-8"), (b"x" * 10_001, "10001")],
)
def test_guidelines_that_cannot_be_shown_are_refused(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "ours.md"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        dataset_settings(config(guidelines=path), task("x", "y"))
