"""Preference rows out of anybody's file."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.formats.rows import RawFileRow, preference_rows

USER = {"role": "user", "content": "q"}
GOOD = {"role": "assistant", "content": "x"}
BAD = {"role": "assistant", "content": "y"}


@pytest.fixture
def rows_of(tmp_path: Path) -> Any:
    def read(*rows: Any, fix: bool = False) -> list[RawFileRow]:
        file = tmp_path / "pairs.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return list(preference_rows(file, fix=fix))

    return read


def code_of(row: RawFileRow) -> str | None:
    return None if row.error is None else row.error[0]


def test_texts_become_messages_and_other_columns_are_kept(rows_of: Any) -> None:
    (row,) = rows_of(
        {"prompt": "q", "chosen": "x", "rejected": "y", "p_chosen": 0.8, "annotator": "ann"}
    )
    assert row == RawFileRow(
        row_id="line 1",
        prompt=[USER],
        chosen=[GOOD],
        rejected=[BAD],
        tools=None,
        extra={"p_chosen": 0.8, "annotator": "ann"},
    )


def test_a_byte_order_mark_does_not_hide_the_prompt(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"prompt":"a","chosen":"b","rejected":"c"}\n')
    (row,) = preference_rows(file)
    assert row.error is None
    assert row.prompt == [{"role": "user", "content": "a"}]


def test_conversations_are_split_after_the_messages_they_share(rows_of: Any) -> None:
    system = {"role": "system", "content": "s"}
    first = {"role": "assistant", "content": "a"}
    second = {"role": "user", "content": "r"}
    start = [system, USER, first, second]
    (row,) = rows_of({"chosen": [*start, GOOD], "rejected": [*start, BAD]})
    assert (row.prompt, row.chosen, row.rejected) == (start, [GOOD], [BAD])


def test_a_shared_assistant_message_is_part_of_the_answers(rows_of: Any) -> None:
    shared = {"role": "assistant", "content": "well"}
    first, second = {"role": "user", "content": "1"}, {"role": "user", "content": "2"}
    (row,) = rows_of(
        {"chosen": [USER, shared, first, GOOD], "rejected": [USER, shared, second, BAD]}
    )
    assert row.prompt == [USER]
    assert row.chosen == [shared, first, GOOD]
    assert row.rejected == [shared, second, BAD]


def test_equal_conversations_stay_equal_for_the_gate_to_judge(rows_of: Any) -> None:
    (row,) = rows_of({"chosen": [USER, GOOD], "rejected": [USER, GOOD]})
    assert row.error is None
    assert row.chosen == row.rejected == [GOOD]


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ("Oslo ", "Berlin"),
        ("Human: q\nAssistant: x", "Human: q\nAssistant: y"),
        ([USER, GOOD], [{"role": "user", "content": "p"}, BAD]),
        ([USER, GOOD], [USER, USER, BAD]),
        ([{"role": "system", "content": "s"}, USER, GOOD], [{"role": "system", "content": "s"}]),
        ([GOOD], [BAD]),
        ([USER, GOOD], "y"),
    ],
)
def test_without_a_shared_prompt_nothing_is_split(rows_of: Any, chosen: Any, rejected: Any) -> None:
    (row,) = rows_of({"chosen": chosen, "rejected": rejected})
    assert code_of(row) == "NO_SHARED_PROMPT"
    assert (row.prompt, row.chosen, row.rejected) == (None, chosen, rejected)


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": "", "rejected": "x"},
        {"prompt": "q", "chosen": "x", "rejected": ""},
        {"prompt": "q", "chosen": [], "rejected": "y"},
        {"chosen": [USER], "rejected": [USER, BAD]},
    ],
)
def test_an_empty_side_is_named_and_the_next_row_goes_on(rows_of: Any, row: Any) -> None:
    bad, good = rows_of(row, {"prompt": "q", "chosen": "x", "rejected": "y"})
    assert (bad.row_id, code_of(bad)) == ("line 1", "EMPTY_COMPLETION")
    assert (good.row_id, code_of(good)) == ("line 2", None)


def test_a_prompt_repeated_in_the_answers_is_flagged_and_fixed_on_request(rows_of: Any) -> None:
    row = {"prompt": [USER], "chosen": [USER, GOOD], "rejected": [USER, BAD]}
    (flagged,) = rows_of(row)
    assert flagged.error == (
        "PROMPT_REPEATED_IN_COMPLETION",
        "the whole prompt comes again in chosen and rejected; fix takes it off",
    )
    (fixed,) = rows_of(row, fix=True)
    assert fixed.error is None
    assert (fixed.prompt, fixed.chosen, fixed.rejected) == ([USER], [GOOD], [BAD])
    (text_prompt,) = rows_of({**row, "prompt": "q"}, fix=True)
    assert text_prompt.chosen == [GOOD]


def test_a_prompt_repeated_in_one_answer_alone_is_flagged_too(rows_of: Any) -> None:
    row = {"prompt": [USER], "chosen": [GOOD], "rejected": [USER, BAD]}
    assert code_of(rows_of(row)[0]) == "PROMPT_REPEATED_IN_COMPLETION"
    assert rows_of(row, fix=True)[0].rejected == [BAD]
    nothing_left = {"prompt": [USER], "chosen": [USER], "rejected": [USER, BAD]}
    assert code_of(rows_of(nothing_left, fix=True)[0]) == "EMPTY_COMPLETION"


def test_an_answer_that_opens_with_the_question_as_text_is_left_alone(rows_of: Any) -> None:
    (row,) = rows_of({"prompt": "Hi", "chosen": "Hi there", "rejected": "Hi!"}, fix=True)
    assert row.error is None
    assert row.chosen == [{"role": "assistant", "content": "Hi there"}]


def test_half_a_surrogate_pair_is_an_error_or_a_replacement_character(rows_of: Any) -> None:
    row = {"prompt": "\ud83c\udf78", "chosen": "a\ud83c", "rejected": "y"}
    assert code_of(rows_of(row)[0]) == "BAD_UNICODE"
    (fixed,) = rows_of(row, fix=True)
    assert fixed.prompt == [{"role": "user", "content": "\U0001f378"}]
    assert fixed.chosen == [{"role": "assistant", "content": "a\ufffd"}]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ([1], "BAD_ROW"),
        ({"prompt": "q", "chosen": "x"}, "MISSING_COLUMN"),
        ({"prompt": "q", "chosen": "x", "rejected": None}, "MISSING_COLUMN"),
        ({"prompt": "", "chosen": "x", "rejected": "y"}, "EMPTY_PROMPT"),
        ({"prompt": "q", "chosen": 1, "rejected": "y"}, "BAD_MESSAGE"),
        (
            {"prompt": [{"from": "bing", "value": "q"}], "chosen": "x", "rejected": "y"},
            "UNKNOWN_ROLE",
        ),
        ({"prompt": "q", "chosen": "x", "rejected": "y", "tools": "f()"}, "BAD_TOOLS"),
        ({"prompt": "q", "chosen": "x\0", "rejected": "y"}, "NUL_CHARACTER"),
        ({"instruction": "q", "generations": ["x", "y"]}, "MISSING_COLUMN"),
        ({"generations": ["x", "y"], "ratings": [1, 5, 3]}, "RATING_COUNT_MISMATCH"),
        ({"instruction": "q", "generations": ["x", "y"], "ratings": [3, 3]}, "TIE"),
        ({"generations": ["x", "y"], "ratings": [1, 5]}, "NO_SHARED_PROMPT"),
        ({"instruction": "sum", "input": "1 2", "chosen": "3", "rejected": "4"}, "BAD_ROW"),
    ],
)
def test_a_row_of_another_shape_has_an_error_and_the_others_go_on(
    rows_of: Any, row: Any, code: str
) -> None:
    bad, good = rows_of(row, {"prompt": "q", "chosen": "x", "rejected": "y"})
    assert code_of(bad) == code
    assert good.error is None


def test_tools_calls_and_tool_results_are_kept(rows_of: Any) -> None:
    call = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}
    prompt = [
        {"role": "user", "content": "weather in Oslo?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "4C", "name": "get_weather"},
    ]
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {}}}]
    (row,) = rows_of(
        {"prompt": prompt, "chosen": "4C", "rejected": "40C", "tools": json.dumps(tools)}
    )
    assert (row.prompt, row.tools, row.error) == (prompt, tools, None)


def test_parquet_rows_lose_what_arrow_filled_in(tmp_path: Path) -> None:
    call = {"function": {"name": "f", "arguments": {"x": 1}}}
    other = {"function": {"name": "g", "arguments": {"y": "z"}}}
    rows = [
        {
            "prompt": [USER],
            "chosen": [{"role": "assistant", "tool_calls": [made]}],
            "rejected": [BAD],
        }
        for made in (call, other)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    first, second = preference_rows(tmp_path / "pairs.parquet")
    assert (first.row_id, second.row_id) == ("row 1", "row 2")
    assert first.chosen == [
        {"role": "assistant", "content": None, "tool_calls": [{"type": "function", **call}]}
    ]
    assert second.chosen[0]["tool_calls"] == [{"type": "function", **other}]
    assert first.rejected == [BAD]


def test_broken_json_is_one_error_for_the_file(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"prompt": "q", "chosen": "x", "rejected": "y"}\n{"prompt"\n')
    with pytest.raises(ValueError, match=r"pairs\.jsonl' line 2 is broken JSON"):
        list(preference_rows(file))


def test_of_several_rated_answers_the_best_is_set_against_the_worst(rows_of: Any) -> None:
    (row,) = rows_of(
        {"instruction": "q", "generations": ["y", "z", "x"], "ratings": [1, 3, 5], "source": "s"}
    )
    assert (row.prompt, row.chosen, row.rejected, row.error) == ([USER], [GOOD], [BAD], None)
    assert row.extra == {"chosen_rating": 5, "rejected_rating": 1}


def test_sharegpt_pairs_have_conversations_and_one_message_a_side(rows_of: Any) -> None:
    (row,) = rows_of(
        {
            "conversations": [{"from": "Human ", "value": "q"}],
            "chosen": {"from": "gpt", "value": "x"},
            "rejected": {"from": "GPT", "value": "y"},
        }
    )
    assert (row.prompt, row.chosen, row.rejected, row.error) == ([USER], [GOOD], [BAD], None)


@pytest.mark.parametrize("column", ["system", "system_prompt"])
def test_a_system_text_in_a_column_of_its_own_opens_the_prompt(rows_of: Any, column: str) -> None:
    system = {"role": "system", "content": "Be brief."}
    pair = {"prompt": "q", "chosen": "x", "rejected": "y"}
    shared = {"chosen": [USER, GOOD], "rejected": [USER, BAD]}
    said = {**pair, "prompt": [system, USER]}
    for row in rows_of(*({**one, column: "Be brief."} for one in (pair, shared, said))):
        assert (row.prompt, row.error) == ([system, USER], None)
    (blank,) = rows_of({**pair, column: " "})
    assert blank.prompt == [USER]
    (two,) = rows_of({**said, column: "Be long."})
    assert code_of(two) == "BAD_MESSAGE"


def test_the_end_of_the_prompt_is_taken_off_where_an_answer_repeats_it(rows_of: Any) -> None:
    system = {"role": "system", "content": "s"}
    row = {"prompt": [system, USER], "chosen": [USER, GOOD], "rejected": [BAD]}
    (flagged,) = rows_of(row)
    assert flagged.error == (
        "PROMPT_REPEATED_IN_COMPLETION",
        "the end of the prompt comes again in chosen; fix takes it off",
    )
    (fixed,) = rows_of(row, fix=True)
    assert (fixed.prompt, fixed.chosen, fixed.error) == ([system, USER], [GOOD], None)


def test_a_role_that_is_none_is_named_with_its_place(rows_of: Any) -> None:
    (row,) = rows_of({"prompt": "q", "chosen": [{"from": "bing", "value": "x"}], "rejected": "y"})
    assert row.error is not None
    assert row.error[1].startswith("chosen: message 0: unknown role 'bing'")


def test_messages_in_csv_cells_are_read_and_other_json_stays_text(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    with open(file, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["prompt", "chosen", "rejected"])
        writer.writerow([json.dumps([USER]), json.dumps([GOOD]), json.dumps([BAD])])
        writer.writerow(["list two", "[1, 2]", '[{"a": 1}]'])
    messages, text = preference_rows(file)
    assert (messages.prompt, messages.chosen, messages.rejected) == ([USER], [GOOD], [BAD])
    assert [side[0]["content"] for side in (text.chosen, text.rejected)] == ["[1, 2]", '[{"a": 1}]']


def test_a_key_that_stands_twice_is_an_error_of_its_row(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    good = '{"prompt": "q", "chosen": "x", "rejected": "y"}'
    file.write_text(f'{good[:-1]}, "chosen": "z"}}\n{good}\n')
    bad, next_one = preference_rows(file)
    assert bad.error == ("BAD_ROW", "the key 'chosen' stands 2 times in one object")
    assert next_one.error is None


def test_what_is_nested_without_end_is_an_error_of_its_row(rows_of: Any) -> None:
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    pair = {"prompt": "q", "chosen": "x", "rejected": "y"}
    bad, good = rows_of({**pair, "tools": [{"name": deep}]}, pair)
    assert (code_of(bad), code_of(good)) == ("TOO_DEEP", None)


def test_messages_as_python_prints_them_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    with open(file, "w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows(
            [["prompt", "chosen", "rejected"], [str([USER]), str([GOOD]), str([BAD])]]
        )
    (row,) = preference_rows(file)
    assert code_of(row) == "BAD_MESSAGE"
