"""Files of preferences reach the gate row by row, each under its own line."""

import json
from pathlib import Path

import pytest

from curation.validation.gate import Gate, GateResult, rows_from_file
from schemas.configs import ValidateConfig

GATE = Gate(ValidateConfig(token_checks=False), seed=0)


def write(folder: Path, *rows: object) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(folder: Path, *rows: object, fix: bool = False) -> GateResult:
    return GATE.run(rows_from_file(write(folder, *rows), fix=fix))


def test_plain_texts_become_a_pair(tmp_path: Path) -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "p_chosen": 0.8, "weight": 2, "margin": 1}
    (pair,) = run(tmp_path, row).pairs
    assert pair.prompt.message_dicts() == [{"role": "user", "content": "q"}]
    assert (pair.chosen.completion.text, pair.rejected.completion.text) == ("a", "b")
    assert (pair.p_chosen, pair.weight, pair.margin) == (0.8, 2.0, 1.0)
    assert pair.chosen.origin.generator == "import:pairs.jsonl"


def test_conversations_without_prompt_share_their_first_turns(tmp_path: Path) -> None:
    start = [{"role": "user", "content": "q"}]
    sides = [[*start, {"role": "assistant", "content": text}] for text in "ab"]
    (pair,) = run(tmp_path, {"chosen": sides[0], "rejected": sides[1]}).pairs
    assert pair.prompt.message_dicts() == start


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"chosen": "Oslo ", "rejected": "Berlin"}, "NO_SHARED_PROMPT"),
        ({"chosen": "", "rejected": "x"}, "EMPTY_COMPLETION"),
        ({"prompt": "q", "chosen": "good", "rejected": ""}, "EMPTY_COMPLETION"),
        ({"prompt": "q", "chosen": "good", "rejected": "\u200b"}, "EMPTY_COMPLETION"),
        ({"prompt": "q", "chosen": "a\ud83c", "rejected": "b"}, "BAD_UNICODE"),
        (
            {
                "prompt": "q",
                "chosen": "a",
                "rejected": "b",
                "score_chosen": 3.0,
                "score_rejected": 3.0,
            },
            "TIE",
        ),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "margin": "wide"}, "BAD_NUMBER"),
        (
            {
                "prompt": "q",
                "chosen": "x",
                "rejected": "y",
                "generations": ["x", "y"],
                "ratings": [1, 5, 3],
            },
            "RATING_COUNT_MISMATCH",
        ),
        (
            {
                "prompt": "q",
                "chosen": "x",
                "rejected": "y",
                "generations": ["x", "y"],
                "ratings": [1, 5],
            },
            "REVERSED",
        ),
    ],
)
def test_a_row_that_fails_names_its_line_and_the_next_goes_on(
    tmp_path: Path, row: dict[str, object], code: str
) -> None:
    good = {"prompt": "q", "chosen": "c", "rejected": "d"}
    result = run(tmp_path, good, row, good | {"chosen": "e"})
    assert result.reasons == {code: 1}
    assert result.quarantined[0].row_id == "line 2"
    assert result.counts["out"] == 2


def test_ratings_follow_the_answers_they_rate_whichever_was_chosen(tmp_path: Path) -> None:
    row = {
        "prompt": "q",
        "chosen": "y",
        "rejected": "x",
        "generations": ["x", "y"],
        "ratings": [1, 5],
    }
    (pair,) = run(tmp_path, row).pairs
    assert pair.margin == 4.0


def test_ratings_of_answers_in_unknown_order_are_not_guessed_at(tmp_path: Path) -> None:
    (pair,) = run(
        tmp_path, {"prompt": "q", "chosen": "y", "rejected": "x", "ratings": [1, 5]}
    ).pairs
    assert pair.margin is None


def test_a_repeated_prompt_is_told_and_can_be_taken_off(tmp_path: Path) -> None:
    question = [{"role": "user", "content": "q"}]
    answers = [{"role": "assistant", "content": text} for text in "xy"]
    row = {
        "prompt": question,
        "chosen": [*question, answers[0]],
        "rejected": [*question, answers[1]],
    }
    assert run(tmp_path, row).reasons == {"PROMPT_REPEATED_IN_COMPLETION": 1}
    (pair,) = run(tmp_path, row, fix=True).pairs
    assert pair.chosen.completion.message_dicts() == [answers[0]]


def test_half_a_character_can_be_replaced(tmp_path: Path) -> None:
    row = {"prompt": "q", "chosen": "a\ud83c", "rejected": "\ud83c\udf78"}
    (pair,) = run(tmp_path, row, fix=True).pairs
    assert pair.chosen.completion.text == "a\ufffd"
    assert pair.rejected.completion.text == "\U0001f378"


def test_numbers_of_a_csv_are_read_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("prompt,chosen,rejected,margin,p_chosen\nq,a,b,0.5,\nq,c,d,0,0.9\n")
    result = GATE.run(rows_from_file(path))
    assert [(pair.margin, pair.p_chosen) for pair in result.pairs] == [(0.5, None)]
    assert result.reasons == {"TIE": 1}
