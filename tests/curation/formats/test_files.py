"""Rows out of files: every format, and errors that name file and line."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.formats.files import open_rows, read_jsonl, read_rows
from curation.formats.json_values import RowError

BOM = b"\xef\xbb\xbf"


def write(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.fixture
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path, name: str) -> None:
    text = "prompt,chosen\r\na,b\r\n" if name == "a.csv" else '{"prompt": "a", "chosen": "b"}\n'
    file = write(tmp_path / name, BOM + text.encode())
    assert list(read_rows(file)) == [(1, {"prompt": "a", "chosen": "b"})]


def test_broken_json_names_file_and_line(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", '{"prompt": "a"}\n' * 6 + '{"prompt": \n')
    with pytest.raises(ValueError, match=r"a\.jsonl' line 7 is broken JSON"):
        list(read_rows(file))


def test_broken_json_list_names_file_and_line(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", '[\n{"prompt": "a"},\n{"prompt" "b"}\n]')
    with pytest.raises(ValueError, match=r"a\.json' line 3 is broken JSON"):
        list(read_rows(file))


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    lines = b'{"prompt": "a"}\n{"prompt": "\xe9"}\n'
    with pytest.raises(ValueError, match=r"line 2 is not UTF-8"):
        list(read_rows(write(tmp_path / "a.jsonl", lines)))
    with pytest.raises(ValueError, match=r"line 2 is not UTF-8"):
        list(read_rows(write(tmp_path / "a.json", b"[" + lines + b"]")))


def test_a_torn_last_line_is_an_error_unless_asked_otherwise(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", '{"prompt": "a"}\n{"prom')
    with pytest.raises(ValueError, match="line 2"):
        list(read_jsonl(file))
    with pytest.warns(UserWarning, match="line 2 is torn"):
        assert list(read_jsonl(file, drop_torn_line=True)) == [(1, {"prompt": "a"})]


def test_a_whole_last_line_needs_no_newline_and_a_torn_one_inside_is_an_error(
    tmp_path: Path,
) -> None:
    file = write(tmp_path / "a.jsonl", '{"prompt": "a"}')
    assert list(read_jsonl(file, drop_torn_line=True)) == [(1, {"prompt": "a"})]
    file = write(tmp_path / "b.jsonl", '{"prom\n{"prompt": "a"}')
    with pytest.raises(ValueError, match="line 1"):
        list(read_jsonl(file, drop_torn_line=True))


def test_empty_lines_are_skipped_and_still_counted(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", '{"a": 1}\r\n\r\n  \n{"a": 2}\n')
    assert list(read_rows(file)) == [(1, {"a": 1}), (4, {"a": 2})]


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", '{"a": "x\u2028y\u0085z"}\n')
    assert list(read_rows(file)) == [(1, {"a": "x\u2028y\u0085z"})]


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_text_survives_jsonl(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.jsonl"
    for ascii_only in (True, False):
        write(file, json.dumps({"text": text}, ensure_ascii=ascii_only) + "\n")
        assert list(read_rows(file)) == [(1, {"text": text})]


def test_text_that_looks_like_a_schema_or_like_json_stays_text(tmp_path: Path) -> None:
    texts = ["{'action: string, datetime: timestamp[s]'}", "[1, 2]", '{"role": "user"}', "null"]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    rows = read_rows(write(tmp_path / "a.jsonl", lines))
    assert [row["text"] for _, row in rows if isinstance(row, dict)] == texts


def test_escaped_surrogate_pairs_are_one_character(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", '{"text": "\\ud83c\\udf78"}\n')
    assert list(read_rows(file)) == [(1, {"text": "\U0001f378"})]


def test_a_line_without_columns_is_an_error_of_its_row(tmp_path: Path) -> None:
    rows = list(read_rows(write(tmp_path / "a.jsonl", '[1]\n{"a": 1}\n"text"\n')))
    assert [type(row) for _, row in rows] == [RowError, dict, RowError]
    assert str(rows[0][1]) == "found a list; expected an object with columns"


def test_json_files_hold_a_list_or_one_object_a_line(tmp_path: Path) -> None:
    listed = write(tmp_path / "a.json", ' [{"a": 1}, {"a": 2}]')
    lines = write(tmp_path / "b.json", '{"a": 1}\n{"a": 2}\n')
    assert list(read_rows(listed)) == list(read_rows(lines)) == [(1, {"a": 1}), (2, {"a": 2})]
    assert (open_rows(listed).unit, open_rows(lines).unit) == ("row", "line")


def test_csv_cells_may_hold_commas_quotes_lines_and_200_kilobytes(tmp_path: Path) -> None:
    long = "x" * 200_000
    file = write(tmp_path / "a.csv", f'text,answer\n"a, ""b""\nc",1\n{long},2\n')
    assert list(read_rows(file)) == [
        (1, {"text": 'a, "b"\nc', "answer": "1"}),
        (2, {"text": long, "answer": "2"}),
    ]


def test_a_csv_row_of_another_length_is_an_error_of_its_row(tmp_path: Path) -> None:
    rows = list(read_rows(write(tmp_path / "a.csv", "a,b\n1,2,3\n\n1,2\n")))
    assert str(rows[0][1]) == "3 cells where the header names 2"
    assert rows[1] == (2, {"a": "1", "b": "2"})


def test_broken_csv_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 2 is broken CSV"):
        list(read_rows(write(tmp_path / "a.csv", 'a,b\n"1"x,2\n')))
    with pytest.raises(ValueError, match="names a column twice"):
        list(read_rows(write(tmp_path / "b.csv", "a,a\n1,2\n")))


def test_arrow_nulls_in_structs_are_absent_and_other_nulls_stay(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": "a"}], "answer": None},
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}],
                },
                {
                    "role": "assistant",
                    "tool_calls": [{"function": {"name": "g", "arguments": {"y": [None, 2]}}}],
                },
            ],
            "answer": "b",
        },
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [row for _, row in read_rows(tmp_path / "a.parquet")] == rows


def test_json_columns_come_back_with_the_nulls_their_author_wrote(tmp_path: Path) -> None:
    texts = pa.array([['{"x": null}', '{"y": "z"}'], None], pa.list_(pa.string()))
    table = pa.table({"values": texts.cast(pa.list_(pa.json_()))})
    pq.write_table(table, tmp_path / "a.parquet")
    assert [row for _, row in read_rows(tmp_path / "a.parquet")] == [
        {"values": [{"x": None}, {"y": "z"}]},
        {"values": None},
    ]


def test_more_rows_than_a_batch_keep_their_numbers(tmp_path: Path) -> None:
    pq.write_table(pa.table({"i": list(range(2500))}), tmp_path / "a.parquet")
    rows = list(read_rows(tmp_path / "a.parquet"))
    assert rows == [(i + 1, {"i": i}) for i in range(2500)]


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", "hello")
    with pytest.raises(ValueError, match=r"a\.parquet' cannot be read as Parquet"):
        list(read_rows(file))


def test_folders_that_datasets_saved_are_read_by_split(
    tmp_path: Path, datasets_cache: None
) -> None:
    import datasets

    train = datasets.Dataset.from_list([{"text": "a"}, {"text": "b"}])
    train.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": train, "test": train.select([1])}).save_to_disk(tmp_path / "two")
    assert list(read_rows(tmp_path / "one")) == [(1, {"text": "a"}), (2, {"text": "b"})]
    assert list(read_rows(tmp_path / "two", split="test")) == [(1, {"text": "b"})]
    with pytest.raises(ValueError, match="no split 'dev'; it has train, test"):
        list(read_rows(tmp_path / "two", split="dev"))


def test_folders_that_datasets_can_load_are_read_by_split(
    tmp_path: Path, datasets_cache: None
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "train.jsonl", '{"text": "a"}\n')
    write(folder / "test.jsonl", '{"text": "b"}\n')
    assert list(read_rows(folder, split="test")) == [(1, {"text": "b"})]
    with pytest.raises(ValueError, match="cannot be loaded"):
        list(read_rows(folder, split="dev"))


def test_two_folders_of_one_name_and_one_card_keep_their_own_rows(
    tmp_path: Path, datasets_cache: None
) -> None:
    front = "configs: [{config_name: default, data_files: [{split: train, path: rows.jsonl}]}]"
    for text in ("a", "b"):
        folder = tmp_path / text / "data"
        folder.mkdir(parents=True)
        write(folder / "README.md", f"---\n{front}\n---\n")
        write(folder / "rows.jsonl", f'{{"text": "{text}"}}\n')
        assert list(read_rows(folder)) == [(1, {"text": text})]


@pytest.mark.parametrize("name", ["missing.jsonl", "/missing/prompts", "./missing", "a/b/c"])
def test_a_missing_file_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' does not exist") as caught:
        read_rows(name)
    assert str(Path.cwd()) in str(caught.value)


def test_a_name_that_is_neither_here_nor_a_dataset_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="'nobody/nothing' is no file or folder here") as caught:
        list(read_rows("nobody/nothing"))
    assert "\n" not in str(caught.value)


def test_a_split_of_one_file_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", '{"text": "a"}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl' is one file, which has no split 'test'"):
        open_rows(file, split="test")
    assert list(open_rows(file, split="train").rows) == [(1, {"text": "a"})]


def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected \.jsonl"):
        read_rows(write(tmp_path / "a.xlsx", "x"))


def test_a_byte_order_mark_between_joined_files_is_no_part_of_a_line(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", b'{"a": 1}\n' + BOM + b'{"a": 2}\n')
    assert list(read_rows(file)) == [(1, {"a": 1}), (2, {"a": 2})]


def test_spaces_around_a_column_name_are_no_part_of_it(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "prompt, chosen\na, b\n")
    assert list(read_rows(file)) == [(1, {"prompt": "a", "chosen": " b"})]


def test_a_key_that_stands_twice_is_never_dropped_unseen(tmp_path: Path) -> None:
    lines = write(tmp_path / "a.jsonl", '{"a": {"b": 1, "b": 2}}\n{"a": 2}\n')
    (_, bad), (_, good) = read_rows(lines)
    assert isinstance(bad, RowError)
    assert str(bad) == "the key 'b' stands 2 times in one object"
    assert good == {"a": 2}
    listed = write(tmp_path / "a.json", '[{"a": 1, "a": 2}]')
    with pytest.raises(ValueError, match=r"a\.json' cannot be read: the key 'a' stands 2 times"):
        list(read_rows(listed))


def test_a_parquet_file_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["prompt", "prompt"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet' names a column twice"):
        list(read_rows(tmp_path / "a.parquet"))


def test_an_arrow_map_is_an_object(tmp_path: Path) -> None:
    kind = pa.map_(pa.string(), pa.struct([("x", pa.int64()), ("y", pa.int64())]))
    rows = pa.array([[("a", {"x": 1, "y": None})], None, []], kind)
    pq.write_table(pa.table({"arguments": rows}), tmp_path / "a.parquet")
    read = [row["arguments"] for _, row in read_rows(tmp_path / "a.parquet")]  # type: ignore[index]
    assert read == [{"a": {"x": 1}}, None, {}]


def test_nulls_are_absent_in_lists_of_one_length_too(tmp_path: Path) -> None:
    kind = pa.list_(pa.struct([("role", pa.string()), ("name", pa.string())]), 1)
    pq.write_table(pa.table({"m": pa.array([[{"role": "user"}]], kind)}), tmp_path / "a.parquet")
    assert list(read_rows(tmp_path / "a.parquet")) == [(1, {"m": [{"role": "user"}]})]
