"""Prompts out of files: what is kept, what is not, and why."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.formats.conversation_rows import conversation_row
from curation.formats.json_values import RowError
from curation.formats.visible import is_visible
from curation.prompts import LoadedPrompts, QuarantinedRow, load_prompts
from schemas.arrow import from_table, to_table
from schemas.configs import PromptSource
from schemas.records import Instruction, Prompt

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"real data is not at {DATA}")


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def from_rows(*rows: Any, **options: Any) -> LoadedPrompts:
        file = tmp_path / "prompts.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return load_prompts([PromptSource(path=str(file), **options)])

    return from_rows


def codes(loaded: LoadedPrompts) -> list[tuple[str, str]]:
    return [(row.row_id, row.code) for row in loaded.quarantined]


def asked(loaded: LoadedPrompts) -> list[str | None]:
    return [prompt.messages[-1].content for prompt in loaded.prompts]


def test_text_is_kept_as_it_was_written(load: Any) -> None:
    texts = [" two  spaces\n", "{'action: string, datetime: timestamp[s]'}", "[1, 2]", "\U0001f378"]
    assert asked(load(*({"text": text} for text in texts))) == texts


def test_a_conversation_keeps_system_turns_tools_and_reference(load: Any) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": None}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "", "name": "f"},
    ]
    row = {
        "messages": messages,
        "tools": tools,
        "answer": {"value": [1, None]},
        "tags": ["a", "b"],
        "licence": "MIT",
    }
    (prompt,) = load(row, tags=("b", "c")).prompts
    assert prompt.message_dicts() == messages
    assert prompt.tools == tools
    assert prompt.answer == {"value": [1, None]}
    assert prompt.tags == ("b", "c", "a")
    assert (prompt.source, prompt.licence) == ("prompts.jsonl", "MIT")


@pytest.mark.parametrize("column", ["answer", "reference", "ground_truth", "solution"])
def test_a_reference_answer_is_found_under_each_usual_name(load: Any, column: str) -> None:
    (prompt,) = load({"prompt": "2+2?", column: "4"}).prompts
    assert prompt.answer == "4"


def test_the_licence_of_the_config_goes_before_the_row(load: Any) -> None:
    row = {"prompt": "q", "license": "MIT"}
    assert load(row).prompts[0].licence == "MIT"
    assert load(row, licence="CC0").prompts[0].licence == "CC0"


def test_sharegpt_conversations_are_prompts_too(load: Any) -> None:
    turns = [{"from": "human", "value": "q"}]
    loaded = load({"conversations": turns}, {"conversations": [*turns, {"from": "bing"}]})
    assert asked(loaded) == ["q"]
    assert codes(loaded) == [("line 2", "UNKNOWN_ROLE")]


def test_null_tool_calls_change_nothing_about_a_prompt(load: Any) -> None:
    plain = {"messages": [{"role": "user", "content": "hi"}]}
    nulls = {"messages": [{"role": "user", "content": "hi", "tool_calls": None, "name": None}]}
    assert load(plain).prompts == load(nulls).prompts


def test_a_conversation_that_ends_with_an_answer_is_never_cut(load: Any) -> None:
    ends = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    loaded = load({"messages": ends, "prompt": "q"}, {"messages": ends[:1]})
    assert codes(loaded) == [("line 1", "ENDS_WITH_ASSISTANT")]
    assert "column: ..." in loaded.quarantined[0].message
    assert asked(load({"messages": ends, "prompt": "q"}, column="prompt")) == ["q"]


def test_of_equal_prompts_the_first_stays_and_the_rest_are_counted(load: Any) -> None:
    loaded = load(
        {"prompt": "What  is IT?"},
        {"prompt": "what is it? "},
        {"prompt": "ｗhat is it?"},
        {"prompt": "What is that?"},
    )
    assert asked(loaded) == ["What  is IT?", "What is that?"]
    assert loaded.reasons == {"DUPLICATE_PROMPT": 2}
    assert "asks the same as line 1 of" in loaded.quarantined[0].message


def test_equal_prompts_with_other_answers_or_instructions_have_their_own_reason(load: Any) -> None:
    no_comma = [{"name": "punctuation:no_comma", "kwargs": {}}]
    loaded = load(
        {"prompt": "1+1?", "answer": "2"},
        {"prompt": "1+1?", "answer": " 2"},
        {"prompt": "1+1?", "answer": "3"},
        {"prompt": "1+1?"},
        {"prompt": "list", "instructions": no_comma},
        {"prompt": "list", "instructions": [{"name": "length:max", "kwargs": {"words": 3}}]},
    )
    assert asked(loaded) == ["1+1?", "list"]
    assert codes(loaded) == [
        ("line 2", "DUPLICATE_PROMPT"),
        ("line 3", "CONFLICTING_REFERENCE"),
        ("line 4", "DUPLICATE_PROMPT"),
        ("line 6", "CONFLICTING_REFERENCE"),
    ]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ([1], "BAD_ROW"),
        ({"other": "q"}, "MISSING_COLUMN"),
        ({"prompt": None}, "MISSING_COLUMN"),
        ({"prompt": ""}, "EMPTY_PROMPT"),
        ({"prompt": " \n"}, "EMPTY_PROMPT"),
        ({"messages": []}, "EMPTY_PROMPT"),
        ({"messages": [{"role": "system", "content": None}]}, "EMPTY_PROMPT"),
        ({"messages": [{"role": "user"}, {"role": "user", "content": "q"}]}, "EMPTY_PROMPT"),
        ({"messages": "[{'role': 'user', 'content': 'q'}]"}, "BAD_MESSAGE"),
        ({"prompt": 7}, "BAD_MESSAGE"),
        ({"prompt": "half \ud83c"}, "BAD_UNICODE"),
        ({"prompt": "q", "answer": "\udf78"}, "BAD_UNICODE"),
        ({"prompt": "a\0b"}, "NUL_CHARACTER"),
        ({"prompt": "q", "answer": float("nan")}, "BAD_NUMBER"),
        ({"prompt": "q", "tools": "f()"}, "BAD_TOOLS"),
        ({"prompt": "q", "instructions": ["no_comma"]}, "BAD_INSTRUCTIONS"),
        (
            {"prompt": "q", "instruction_id_list": ["a", "b"], "kwargs": [{}]},
            "BAD_INSTRUCTIONS",
        ),
        ({"prompt": "q", "instruction_id_list": ["a"], "kwargs": ["{x"]}, "BAD_INSTRUCTIONS"),
        ({"messages": [{"role": "bing\ud83c", "content": "q"}]}, "UNKNOWN_ROLE"),
    ],
)
def test_a_bad_row_is_quarantined_with_its_code_and_the_others_go_on(
    load: Any, row: Any, code: str
) -> None:
    loaded = load({"prompt": "before"}, row, {"prompt": "after"})
    assert asked(loaded) == ["before", "after"]
    assert codes(loaded) == [("line 2", code)]
    assert loaded.counts["read"] == loaded.counts["kept"] + loaded.counts["quarantined"]
    table = to_table(loaded.quarantined, QuarantinedRow)
    assert from_table(table, QuarantinedRow) == loaded.quarantined


def test_broken_json_is_one_error_for_the_file(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "q"}\n' * 6 + "{'prompt': 'q'}\n")
    with pytest.raises(ValueError, match=r"prompts\.jsonl' line 7 is broken JSON"):
        load_prompts([PromptSource(path=str(file))])


def test_a_source_that_gives_nothing_is_refused(tmp_path: Path, load: Any) -> None:
    with pytest.raises(ValueError, match="has no rows"):
        load()
    with pytest.raises(ValueError, match="no column promt; it has: prompt; name the column"):
        load({"prompt": "q"}, {"prompt": "r"}, column="promt")
    with pytest.raises(ValueError, match=r"missing\.jsonl' does not exist"):
        load_prompts([PromptSource(path=str(tmp_path / "missing.jsonl"))])


def test_ifeval_columns_become_instructions(load: Any) -> None:
    (prompt,) = load(
        {
            "prompt": "q",
            "instruction_id_list": ["en:punctuation:no_comma", "es:letters:enye", "length:words"],
            "kwargs": [None, {"n": None, "word": "ñ"}, '{"num_words": 300}'],
        }
    ).prompts
    assert prompt.instructions == (
        Instruction(name="punctuation:no_comma", kwargs={}),
        Instruction(name="es:letters:enye", kwargs={"word": "ñ"}),
        Instruction(name="length:words", kwargs={"num_words": 300}),
    )


def test_turns_are_no_conversation_so_the_first_is_asked_and_counted(load: Any) -> None:
    loaded = load(
        {"turns": ["first", "second"], "reference": ["a", "b"]},
        {"turns": ["only"], "reference": ["c"]},
    )
    assert asked(loaded) == ["first", "only"]
    assert [prompt.answer for prompt in loaded.prompts] == ["a", "c"]
    assert [n for key, n in loaded.counts.items() if key.endswith(": first turn only")] == [1]


def test_each_source_has_its_own_split_and_its_own_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        splits = {
            split: datasets.Dataset.from_list([{"text": f"{name} {split} {i}"} for i in range(3)])
            for split in ("train", "test")
        }
        datasets.DatasetDict(splits).save_to_disk(name)
    (tmp_path / "c.csv").write_text("prompt\na TRAIN 0\nnew\n")
    loaded = load_prompts(
        [
            PromptSource(path="a"),
            PromptSource(path="b", split="test", limit=2),
            PromptSource(path="c.csv"),
        ]
    )
    assert loaded.counts == {
        "read": 7,
        "kept": 6,
        "quarantined": 1,
        "a [train]: read": 3,
        "a [train]: kept": 3,
        "b [test]: read": 2,
        "b [test]: kept": 2,
        "c.csv: read": 2,
        "c.csv: kept": 1,
    }
    assert [prompt.source for prompt in loaded.prompts] == ["a"] * 3 + ["b"] * 2 + ["c.csv"]


def test_csv_cells_can_hold_messages_tools_and_tags_as_json(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "q"}]
    tools = [{"type": "function", "function": {"name": "f"}}]
    with open(tmp_path / "a.csv", "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["messages", "tools", "tags", "answer"])
        writer.writerow([json.dumps(messages), json.dumps(tools), '["a", "b"]', ""])
        writer.writerow(["plain text", "", "one tag", "42"])
    first, second = load_prompts([PromptSource(path=str(tmp_path / "a.csv"))]).prompts
    assert (first.message_dicts(), first.tools, first.tags) == (messages, tools, ("a", "b"))
    assert (first.answer, second.answer) == (None, "42")
    assert (second.messages[0].content, second.tools, second.tags) == (
        "plain text",
        None,
        ("one tag",),
    )


def test_a_prompt_is_the_same_out_of_jsonl_parquet_and_datasets(tmp_path: Path, load: Any) -> None:
    import datasets

    rows = [
        {
            "messages": [
                {"role": "user", "content": "a"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"type": "function", "function": {"name": name, "arguments": arguments}}
                    ],
                },
                {"role": "tool", "content": "4C"},
            ]
        }
        for name, arguments in (("f", {"x": 1}), ("g", {"y": "z"}))
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    ids = [prompt.id for prompt in load(*rows).prompts]
    for path in ("a.parquet", "saved"):
        loaded = load_prompts([PromptSource(path=str(tmp_path / path))])
        assert [prompt.id for prompt in loaded.prompts] == ids
        assert loaded.prompts[0].messages[0].to_dict() == {"role": "user", "content": "a"}


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@given(st.lists(texts, min_size=1, max_size=8))
def test_every_row_is_kept_or_quarantined_and_no_group_is_kept_twice(
    tmp_path_factory: pytest.TempPathFactory, prompts: list[str]
) -> None:
    file = tmp_path_factory.getbasetemp() / "any-prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in prompts))
    loaded = load_prompts([PromptSource(path=str(file))])
    assert loaded.counts["read"] == len(prompts)
    assert len(loaded.prompts) + len(loaded.quarantined) == len(prompts)
    assert sum(loaded.reasons.values()) == len(loaded.quarantined)
    groups = [prompt.group for prompt in loaded.prompts]
    assert len(set(groups)) == len(groups)
    wanted = {
        Prompt.model_validate({"messages": [{"role": "user", "content": text}]}).group
        for text in prompts
        if is_visible(text) and "\0" not in text
    }
    assert set(groups) == wanted


@real_data
@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("ifeval_en", 541),
        ("oasst_prompts", 250),
        ("mgsm", 1250),
        ("mtbench_questions", 80),
        ("vicuna_questions", 80),
        ("xstest_prompts", 450),
    ],
)
def test_real_files_load_whole_without_any_config(name: str, rows: int) -> None:
    loaded = load_prompts([PromptSource(path=str(DATA / f"{name}.jsonl"))])
    assert (loaded.counts["read"], loaded.counts["kept"]) == (rows, rows)


@real_data
def test_real_ifeval_rows_keep_every_instruction() -> None:
    loaded = load_prompts([PromptSource(path=str(DATA / "ifeval_en.jsonl"))])
    found = [item for prompt in loaded.prompts for item in prompt.instructions]
    assert len(found) == 834
    assert not any(item.name.startswith("en:") for item in found)
    assert loaded.prompts[0].instructions[1] == Instruction(
        name="detectable_format:number_highlighted_sections", kwargs={"num_highlights": 3}
    )


@real_data
def test_real_reference_answers_belong_to_what_is_asked() -> None:
    mgsm = load_prompts([PromptSource(path=str(DATA / "mgsm.jsonl"))])
    assert mgsm.prompts[0].answer == "18"
    bench = load_prompts([PromptSource(path=str(DATA / "mtbench_questions.jsonl"))])
    assert sum(prompt.answer is not None for prompt in bench.prompts) == 39
    assert [n for key, n in bench.counts.items() if key.endswith(": first turn only")] == [80]


def test_a_system_text_in_a_column_of_its_own_is_never_dropped(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    rows = [
        {"system": "Be brief.", "prompt": "Hi"},
        {"system_prompt": "Be brief.", "messages": [{"role": "user", "content": "Ho"}]},
        {"system": "", "question": "Hum"},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = load_prompts([PromptSource(path=str(file))])
    said = [[message.content for message in prompt.messages] for prompt in loaded.prompts]
    assert said == [["Be brief.", "Hi"], ["Be brief.", "Ho"], ["Hum"]]


def test_a_prompt_that_only_looks_different_is_the_same_prompt(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    texts = ["Name a fish", "name  a fish\u200b", "Name a\r\nfish", "\u200b"]
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    loaded = load_prompts([PromptSource(path=str(file))])
    assert loaded.reasons == {"DUPLICATE_PROMPT": 2, "EMPTY_PROMPT": 1}


def test_a_column_becomes_a_tag_with_its_name(load: Any) -> None:
    rows = [
        {"prompt": "Wie?", "lang": "de", "tags": ["own"]},
        {"prompt": "How?", "lang": None, "level": 2},
        {"prompt": "Que?", "lang": "es", "easy": True},
    ]
    loaded = load(*rows, tags=("all",), tag_columns=("lang", "level", "easy"))
    assert [prompt.tags for prompt in loaded.prompts] == [
        ("all", "own", "lang:de"),
        ("all", "level:2"),
        ("all", "lang:es", "easy:true"),
    ]


def test_only_rows_with_a_wanted_tag_are_taken_and_the_limit_counts_them(load: Any) -> None:
    rows = [{"prompt": f"q{i}", "lang": lang} for i, lang in enumerate(["en", "de", "es"] * 3)]
    loaded = load(*rows, tag_columns=("lang",), only_tags=("lang:de", "lang:es"), limit=3)
    assert asked(loaded) == ["q1", "q2", "q4"]
    assert loaded.counts["read"] == loaded.counts["kept"] == 3
    assert [n for key, n in loaded.counts.items() if key.endswith(": other tags")] == [2]


def test_a_tag_that_no_row_has_and_a_column_that_no_row_has_are_told(load: Any) -> None:
    row = {"prompt": "q", "lang": "de"}
    with pytest.raises(ValueError, match="has no rows with a tag lang:fr"):
        load(row, tag_columns=("lang",), only_tags=("lang:fr",))
    with pytest.raises(ValueError, match="no row has a column 'lng', which tag_columns names"):
        load(row, tag_columns=("lang", "lng"))


def test_keys_that_are_not_used_leave_no_trace_in_the_settings_of_a_run() -> None:
    assert PromptSource(path="p.jsonl").model_dump() == {
        "path": "p.jsonl",
        "split": "train",
        "column": None,
        "tags": (),
        "licence": None,
        "limit": None,
    }
    dumped = PromptSource(path="p.jsonl", tag_columns=("lang",)).model_dump(mode="json")
    assert dumped["tag_columns"] == ["lang"]


def test_messages_in_any_column_of_a_csv_file_are_opened(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    with open(tmp_path / "a.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["prompt"], [json.dumps(messages)], ['["a", "b"]']])
    first, second = load_prompts([PromptSource(path=str(tmp_path / "a.csv"))]).prompts
    assert first.message_dicts() == messages
    assert second.messages[0].content == '["a", "b"]'


def test_messages_as_python_prints_them_are_never_asked_as_text(tmp_path: Path) -> None:
    with open(tmp_path / "a.csv", "w", encoding="utf-8", newline="") as file:
        cell = str([{"role": "user", "content": "q"}])
        csv.writer(file).writerows([["prompt"], [cell], ["fine"]])
    loaded = load_prompts([PromptSource(path=str(tmp_path / "a.csv"))])
    assert asked(loaded) == ["fine"]
    assert codes(loaded) == [("row 1", "BAD_MESSAGE")]


def test_earlier_turns_beside_an_instruction_are_never_dropped(tmp_path: Path) -> None:
    file = tmp_path / "turns.jsonl"
    row = {"instruction": "And Rome?", "history": [["Oslo?", "4C"]], "output": "20C"}
    file.write_text(json.dumps(row) + "\n" + json.dumps({**row, "history": []}) + "\n")
    loaded = load_prompts([PromptSource(path=str(file), column="instruction")])
    assert asked(loaded) == ["And Rome?"]
    assert codes(loaded) == [("line 1", "BAD_ROW")]
    with pytest.raises(RowError, match="'history' holds earlier turns"):
        conversation_row(row)


def test_what_an_instruction_speaks_of_is_asked_with_it(tmp_path: Path) -> None:
    file = tmp_path / "alpaca.jsonl"
    rows = [{"instruction": "Sum up.", "input": "A text."}, {"instruction": "Hi", "input": ""}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = load_prompts([PromptSource(path=str(file), column="instruction")])
    assert asked(loaded) == ["Sum up.\n\nA text.", "Hi"]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "tools": "[" * 100_000},
        {"messages": "[" * 100_000},
        {"prompt": "q", "instructions": [{"name": "x", "kwargs": "[" * 100_000}]},
    ],
)
def test_text_that_is_nested_without_end_is_an_error_of_its_row(load: Any, row: Any) -> None:
    loaded = load(row, {"prompt": "after"})
    assert asked(loaded) == ["after"]
    assert len(loaded.quarantined) == 1
