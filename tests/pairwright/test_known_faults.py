"""Faults that preference files have had elsewhere, sent through the commands that people type."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.formats.trl import read_dataset

GOOD = {"prompt": "Name a bird.", "chosen": "A wren.", "rejected": "Bird"}


def write(folder: Path, *rows: dict[str, Any], name: str = "pairs.jsonl") -> Path:
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def quarantined(file: Path) -> list[tuple[str, str]]:
    lines = file.with_name(f"{file.stem}.quarantine.jsonl").read_text().splitlines()
    return [(row["row_id"], row["code"]) for row in map(json.loads, lines)]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"generations": ["x", "y"], "ratings": [1, 5, 3]}, "RATING_COUNT_MISMATCH"),
        ({"instruction": "q", "generations": ["x", "y", "z"], "ratings": [3, 3, 3]}, "TIE"),
        ({"chosen": "", "rejected": "x"}, "EMPTY_COMPLETION"),
        ({"chosen": "Oslo ", "rejected": "Berlin"}, "NO_SHARED_PROMPT"),
        ({**GOOD, "rejected": "\u200b"}, "EMPTY_COMPLETION"),
        ({**GOOD, "rejected": "\u3164"}, "EMPTY_COMPLETION"),
        ({**GOOD, "prompt": "\u200b"}, "EMPTY_PROMPT"),
        ({**GOOD, "chosen": "\ud83c"}, "BAD_UNICODE"),
        ({**GOOD, "tools": [{"name": "\ud83c"}]}, "BAD_UNICODE"),
        ({**GOOD, "margin": float("nan")}, "BAD_NUMBER"),
        ({**GOOD, "weight": -1}, "BAD_NUMBER"),
        ({**GOOD, "p_chosen": 1.2}, "BAD_NUMBER"),
        ({**GOOD, "prompt": [{"from": "bing", "value": "q"}]}, "UNKNOWN_ROLE"),
        (
            {
                **GOOD,
                "prompt": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
            },
            "ROLE_ORDER",
        ),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_the_others_go_on(
    tmp_path: Path, pairwright, row: dict[str, Any], code: str
) -> None:
    file = write(tmp_path, GOOD, row, {**GOOD, "chosen": "A robin."})
    checked = pairwright("validate", file, "--json")
    assert checked.code == 0, checked.err
    assert json.loads(checked.out)["reasons"] == {code: 1}
    assert quarantined(file) == [("line 2", code)]


def test_votes_that_contradict_or_go_in_a_circle_leave_no_pair(tmp_path: Path, pairwright) -> None:
    def preferred(prompt: str, *sides: str) -> list[dict[str, str]]:
        return [{"prompt": prompt, "chosen": a, "rejected": b} for a, b in sides]

    file = write(tmp_path, *preferred("p", "AB", "BC", "CA"), *preferred("q", "xy", "yx", "xy"))
    checked = pairwright("validate", file, "max_quarantined=1", "--json")
    data = json.loads(checked.out)
    assert data["reasons"] == {"CYCLE": 3, "CONTRADICTION": 3}
    assert data["counts"]["out"] == 0


def test_rated_answers_are_exported_as_the_best_against_the_worst(
    tmp_path: Path, pairwright
) -> None:
    file = write(
        tmp_path,
        {"instruction": "Name a bird.", "generations": ["b", "a", "c"], "ratings": [2, 5, 1]},
        {"generations": ["x", "y"], "ratings": [1, 5, 3]},
    )
    done = pairwright("export", file, "--to", tmp_path / "set", "test_share=0")
    assert done.code == 0, done.err
    (row,) = read_dataset(tmp_path / "set")["train"]
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("a", "c")
    assert row["margin"] == 4.0


def test_a_prompt_repeated_in_the_answers_is_taken_off_when_asked(
    tmp_path: Path, pairwright
) -> None:
    asked = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    sides = {
        side: [*repeated, {"role": "assistant", "content": text}]
        for side, repeated, text in (("chosen", asked, "x"), ("rejected", asked[1:], "y"))
    }
    file = write(tmp_path, {"prompt": asked, **sides})
    kept_out = pairwright("export", file, "--to", tmp_path / "none", "test_share=0")
    fixed = pairwright("export", file, "--to", tmp_path / "set", "test_share=0", "--fix")
    assert kept_out.code == 1
    assert fixed.code == 0, fixed.err
    (row,) = read_dataset(tmp_path / "set")["train"]
    assert row["prompt"] == asked
    assert row["chosen"] == [{"role": "assistant", "content": "x"}]
    assert row["rejected"] == [{"role": "assistant", "content": "y"}]


def test_a_file_with_a_byte_order_mark_windows_lines_and_quoted_cells_is_read(
    tmp_path: Path, pairwright
) -> None:
    file = tmp_path / "pairs.csv"
    text = 'prompt,chosen,rejected\r\nq,"a ""b"",\r\nc",d\r\n'
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    done = pairwright("export", file, "--to", tmp_path / "set", "test_share=0")
    assert done.code == 0, done.err
    (row,) = read_dataset(tmp_path / "set")["train"]
    assert row["chosen"][0]["content"] == 'a "b",\r\nc'


def test_calls_and_tools_survive_the_export_and_reading_it_again(
    tmp_path: Path, pairwright
) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": None}}}
    says = {"role": "assistant", "content": None, "tool_calls": [call]}
    asked = [{"role": "user", "content": "go"}]
    after = [*asked, says, {"role": "tool", "name": "f", "content": "4C"}]
    no = [{"role": "assistant", "content": "no"}]
    file = write(
        tmp_path,
        {"tools": tools, "prompt": asked, "chosen": [says], "rejected": no},
        {"prompt": after, "chosen": [{"role": "assistant", "content": "4C"}], "rejected": no},
    )
    first, again = tmp_path / "set", tmp_path / "again"
    assert pairwright("export", file, "--to", first, "test_share=0").code == 0
    called, answered = read_dataset(first)["train"]
    assert (called["chosen"], called["tools"]) == ([says], tools)
    assert answered["prompt"] == after
    assert pairwright("export", first / "train.parquet", "--to", again, "test_share=0").code == 0
    for one, other in zip(read_dataset(first)["train"], read_dataset(again)["train"], strict=True):
        assert {**one, "pair_id": ""} == {**other, "pair_id": ""}


def test_text_rendered_before_is_kept_out_by_the_models_own_tokens(
    inputs: Path, tmp_path: Path, pairwright
) -> None:
    rendered = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    file = write(tmp_path, {**GOOD, "prompt": rendered})
    known = pairwright("validate", file, "--model", inputs / "model", "--json")
    unknown = pairwright("validate", file, "--json")
    assert known.code == 1
    assert json.loads(known.out)["reasons"] == {"ALREADY_RENDERED": 1}
    assert unknown.code == 0
    assert any(text.startswith("ALREADY_RENDERED") for text in json.loads(unknown.out)["warnings"])


def test_a_file_without_rows_is_a_wrong_request(tmp_path: Path, pairwright) -> None:
    refused = pairwright("validate", write(tmp_path))
    assert refused.code == 2
    assert "has no rows" in refused.err


def test_a_dataset_is_never_written_over_the_file_it_is_made_of(tmp_path: Path, pairwright) -> None:
    table = pa.Table.from_pylist([GOOD, {**GOOD, "rejected": ""}])
    for name in ("train", "test"):
        file = tmp_path / f"{name}.parquet"
        pq.write_table(table, file)
        before = file.read_bytes()
        done = pairwright("export", file, "--to", tmp_path / "x" / "..")
        assert (done.code, file.read_bytes()) == (2, before)
        assert "would be written over" in done.err
        assert not (tmp_path / "README.md").exists()
