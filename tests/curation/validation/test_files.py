"""Files of preferences reach the gate row by row, each under its own line."""

import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
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


def test_a_record_with_rated_answers_is_one_pair_or_names_its_mismatch(tmp_path: Path) -> None:
    rated = {"instruction": "q", "generations": ["x", "y", "z"], "ratings": [3, 5, 1]}
    result = run(
        tmp_path,
        {"generations": ["x", "y"], "ratings": [1, 5, 3]},
        rated,
        {**rated, "ratings": [3, 3, 3]},
    )
    assert result.reasons == {"RATING_COUNT_MISMATCH": 1, "TIE": 1}
    assert result.quarantined[0].row_id == "line 1"
    assert "2 answers but 3 ratings" in result.quarantined[0].message
    (pair,) = result.pairs
    assert (pair.chosen.completion.text, pair.rejected.completion.text) == ("y", "z")
    assert pair.margin == 4.0


def test_a_rating_that_its_aspects_contradict_keeps_the_pair_out(tmp_path: Path) -> None:
    def completion(text: str, overall: float, aspect: str) -> dict[str, object]:
        names = ("helpfulness", "honesty", "truthfulness", "instruction_following")
        annotations = {name: {"Rating": aspect, "Rationale": "..."} for name in names}
        return {"response": text, "overall_score": overall, "annotations": annotations}

    sound = [completion("good", 8.5, "5"), completion("so-so", 5, "3"), completion("bad", 1, "1")]
    turned = [completion("bad", 10, "1"), *sound[:2]]
    off = [completion("good", 85, "5"), *sound[1:]]
    rows = [{"instruction": "q", "completions": each} for each in (sound, turned, off)]
    kept = {"prompt": "r", "chosen": "bad", "rejected": "good", "completions": turned}
    result = run(tmp_path, *rows, kept)
    (pair,) = result.pairs
    assert (pair.chosen.completion.text, pair.rejected.completion.text) == ("good", "bad")
    assert pair.margin == 7.5
    assert [(row.row_id, row.code) for row in result.quarantined] == [
        *(("line 2", "SIGNAL_CONFLICT"), ("line 3", "OUT_OF_SCALE"), ("line 4", "SIGNAL_CONFLICT"))
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    reasons = GATE.run(rows_from_file(tmp_path / "pairs.parquet")).reasons
    assert reasons == {"SIGNAL_CONFLICT": 1, "OUT_OF_SCALE": 1}


@pytest.mark.parametrize(
    ("ratings", "code"),
    [
        ({"chosen-rating": 3, "rejected-rating": 3}, "TIE"),
        ({"chosen_avg_rating": 1.5, "rejected_avg_rating": 4.5}, "REVERSED"),
        ({"margin": 1, "score_chosen": 1, "score_rejected": 5}, "REVERSED"),
        ({"margin": 1, "score_chosen": 3, "score_rejected": 3}, "TIE"),
        ({"score_chosen": 0.1 + 0.2, "score_rejected": 0.3}, "TIE"),
        ({"score_chosen": 1.7e308, "score_rejected": -1.7e308}, "BAD_NUMBER"),
        ({"score_chosen": 5, "score_rejected": None}, "BAD_NUMBER"),
    ],
)
def test_ratings_that_speak_against_the_pair_keep_it_out(
    tmp_path: Path, ratings: dict[str, object], code: str
) -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    result = run(tmp_path, row | ratings, row)
    assert result.reasons == {code: 1}
    assert result.counts["out"] == 1


def test_numbers_that_only_a_file_can_hold_are_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    pair = '{"prompt": "q", "chosen": "%d", "rejected": "y", '
    values = ('"margin": NaN', '"weight": Infinity', '"p_chosen": -0.1', '"weight": -2')
    path.write_text("".join(pair % at + value + "}\n" for at, value in enumerate(values)))
    assert GATE.run(rows_from_file(path)).reasons == {"BAD_NUMBER": 4}
    table = pa.table(
        {"prompt": ["q"], "chosen": ["x"], "rejected": ["y"], "margin": [Decimal("1.50")]}
    )
    pq.write_table(table, tmp_path / "pairs.parquet")
    (decimal,) = GATE.run(rows_from_file(tmp_path / "pairs.parquet")).pairs
    assert decimal.margin == 1.5


@pytest.mark.parametrize(("name", "text"), [("a.jsonl", ""), ("a.csv", "prompt,chosen,rejected\n")])
def test_a_file_without_rows_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match="has no rows"):
        GATE.run(rows_from_file(tmp_path / name))
