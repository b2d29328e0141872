"""Datasets for TRL, out and in."""

import tracemalloc
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.formats.card import dataset_card
from curation.formats.rows import preference_rows
from curation.formats.trl import (
    KtoWeights,
    dataset_row,
    read_dataset,
    suggested_weights,
    write_dataset,
    write_unpaired,
)
from curation.prompts import load_prompts
from schemas.configs import PromptSource
from schemas.records import Candidate, Completion, Message, Origin, PreferencePair, Prompt

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
CALL = {"type": "function", "function": {"name": "f", "arguments": {"x": None, "y": [1, 0.1]}}}


def pair(
    prompt: str | list[dict[str, Any]] = "q",
    chosen: str | list[dict[str, Any]] = "x",
    rejected: str | list[dict[str, Any]] = "y",
    *,
    tools: Any = None,
    **fields: Any,
) -> PreferencePair:
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    asked = Prompt(messages=tuple(Message(**message) for message in messages), tools=tools)
    sides = [
        Candidate(
            prompt_id=asked.id,
            completion=Completion.from_text(side)
            if isinstance(side, str)
            else Completion(messages=tuple(Message(**message) for message in side)),
            origin=Origin(generator="import:test"),
        )
        for side in (chosen, rejected)
    ]
    return PreferencePair(
        prompt=asked, chosen=sides[0], rejected=sides[1], strategy="test", **fields
    )


def with_call() -> PreferencePair:
    """A pair with a system turn, several turns, and tool calls on both sides of the prompt."""
    return pair(
        [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "weather in Oslo?"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", **CALL}]},
            {"role": "tool", "content": "4C", "name": "f", "tool_call_id": "c1"},
        ],
        [{"role": "assistant", "content": None, "tool_calls": [CALL]}],
        "40C",
        tools=TOOLS,
    )


def loaded(folder: Path, cache: Path, **options: Any) -> Any:
    import datasets

    return datasets.load_dataset(str(folder), cache_dir=str(cache), **options)


def test_a_plain_pair_is_prompt_and_answers_of_role_and_content(tmp_path: Path) -> None:
    item = pair(p_chosen=0.8, weight=0.5, margin=2.0)
    assert write_dataset([item], tmp_path) == {"train": 1, "test": 0}
    assert read_dataset(tmp_path) == {
        "train": [
            {
                "prompt": [{"role": "user", "content": "q"}],
                "chosen": [{"role": "assistant", "content": "x"}],
                "rejected": [{"role": "assistant", "content": "y"}],
                "tools": None,
                "pair_id": item.id,
                "p_chosen": 0.8,
                "weight": 0.5,
                "margin": 2.0,
            }
        ]
    }
    columns = pq.read_schema(tmp_path / "train.parquet").names
    assert columns == ["prompt", "chosen", "rejected", "pair_id", "p_chosen", "weight", "margin"]


def test_pairs_stay_in_their_split(tmp_path: Path) -> None:
    pairs = [pair(f"q{i}", split="test" if i % 3 == 0 else "train") for i in range(20)]
    assert write_dataset(pairs, tmp_path) == {"train": 13, "test": 7}
    rows = read_dataset(tmp_path)
    for split in ("train", "test"):
        ids = [item.id for item in pairs if item.split == split]
        assert [row["pair_id"] for row in rows[split]] == ids


def test_an_empty_test_split_makes_no_file_and_removes_an_old_one(tmp_path: Path) -> None:
    write_dataset([pair(), pair("r", split="test")], tmp_path)
    assert (tmp_path / "test.parquet").is_file()
    assert write_dataset([pair()], tmp_path) == {"train": 1, "test": 0}
    assert [file.name for file in tmp_path.iterdir()] == ["train.parquet"]


def test_no_pairs_at_all_make_an_empty_train_file(tmp_path: Path) -> None:
    assert write_dataset([], tmp_path) == {"train": 0, "test": 0}
    assert read_dataset(tmp_path) == {"train": []}


def test_calls_tools_and_several_turns_come_back_exactly(tmp_path: Path) -> None:
    pairs = [pair(), with_call(), pair("r", split="test")]
    write_dataset(pairs, tmp_path)
    rows = read_dataset(tmp_path)
    assert rows["train"] == [dataset_row(pairs[0]), dataset_row(pairs[1])]
    assert rows["test"] == [dataset_row(pairs[2])]
    assert [message["role"] for message in rows["train"][1]["prompt"]] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]
    (call,) = rows["train"][1]["chosen"][0]["tool_calls"]
    assert call["function"]["arguments"] == {"x": None, "y": [1, 0.1]}
    assert rows["train"][1]["chosen"][0]["content"] is None
    assert rows["train"][1]["tools"] == TOOLS


def test_only_columns_that_need_more_than_role_and_content_are_json(tmp_path: Path) -> None:
    write_dataset([pair(), with_call(), pair("r", split="test")], tmp_path)
    plain = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    for file in ("train.parquet", "test.parquet"):
        schema = pq.read_schema(tmp_path / file)
        assert schema.field("rejected").type.value_type == plain.value_type
        assert isinstance(schema.field("prompt").type.value_type, pa.JsonType)
        assert isinstance(schema.field("chosen").type.value_type, pa.JsonType)


def test_equal_pairs_give_equal_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        pairs = [pair(f"q{i}", margin=i + 1.0) for i in range(30)] + [with_call()]
        write_dataset(iter(pairs), tmp_path / folder)
    first, second = ((tmp_path / folder / "train.parquet").read_bytes() for folder in ("a", "b"))
    assert first == second


def test_a_write_that_fails_leaves_the_old_dataset_whole(tmp_path: Path) -> None:
    write_dataset([pair()], tmp_path)
    before = (tmp_path / "train.parquet").read_bytes()

    def breaking() -> Iterator[PreferencePair]:
        yield pair("other")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_dataset(breaking(), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["train.parquet"]
    assert (tmp_path / "train.parquet").read_bytes() == before


texts = st.text(st.characters(codec="utf-8"), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
calls = st.builds(
    lambda name, arguments: {"function": {"name": name, "arguments": arguments}},
    texts,
    st.dictionaries(texts, json_values, max_size=2) | st.just("raw, not JSON {"),
)
turns = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": texts},
    optional={"tool_calls": st.lists(calls, min_size=1, max_size=2), "name": texts},
)
pairs_strategy = st.builds(
    lambda before, chosen, rejected, tools, split: pair(
        [*before, {"role": "user", "content": "q"}],
        [{"role": "assistant", **chosen, "content": "c" + chosen["content"]}],
        [{"role": "assistant", **rejected, "content": "r" + rejected["content"]}],
        tools=tools,
        split=split,
    ),
    st.lists(turns, max_size=2),
    turns,
    turns,
    st.none() | st.lists(st.dictionaries(texts, json_values, max_size=2), min_size=1, max_size=2),
    st.sampled_from(["train", "test"]),
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(pairs_strategy, max_size=4))
def test_any_pairs_come_back_as_they_went(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[PreferencePair]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-pairs"
    write_dataset(pairs, folder)
    rows = read_dataset(folder)
    for split in ("train", "test"):
        kept = [dataset_row(item) for item in pairs if item.split == split]
        assert rows.get(split, []) == kept


def test_a_folder_without_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no dataset; expected train\.parquet"):
        read_dataset(tmp_path)
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "train.parquet")
    with pytest.raises(ValueError, match="row 1 is no row of a preference dataset"):
        read_dataset(tmp_path)


def test_datasets_loads_the_folder_equal_to_what_was_written(tmp_path: Path) -> None:
    pairs = [pair(), with_call(), pair("r", split="test", p_chosen=0.9)]
    folder = tmp_path / "export"
    rows = write_dataset(pairs, folder)
    card = dataset_card(run="demo", rows=rows, hashes={}, funnel={}, reasons={})
    (folder / "README.md").write_text(card)
    (folder / "manifest.json").write_text('{"stage": "export"}')
    dataset = loaded(folder, tmp_path / "cache")
    assert set(dataset) == {"train", "test"}
    ours = read_dataset(folder)
    for split in ("train", "test"):
        for theirs, row in zip(dataset[split], ours[split], strict=True):
            text = theirs["tools"]
            assert {**theirs, "tools": row["tools"]} == row
            assert text is None or text.startswith('[{"type": "function"')


def test_two_runs_exports_load_as_their_own_rows_from_one_cache(tmp_path: Path) -> None:
    for question in ("q", "r"):
        folder = tmp_path / question / "export"
        folder.mkdir(parents=True)
        rows = write_dataset([pair(question)], folder)
        card = dataset_card(run="demo", rows=rows, hashes={}, funnel={}, reasons={})
        (folder / "README.md").write_text(card)
        (row,) = loaded(folder, tmp_path / "cache", split="train")
        assert row["prompt"][0]["content"] == question


def test_types_do_not_depend_on_the_rows_of_a_shard(tmp_path: Path) -> None:
    pairs = [with_call(), *(pair(f"q{i}") for i in range(7))]
    write_dataset(pairs, tmp_path / "export")
    whole = loaded(tmp_path / "export", tmp_path / "cache", split="train")
    features = whole.features
    for processes in (1, 2):
        mapped = whole.map(lambda row: row, num_proc=processes, load_from_cache_file=False)
        assert (len(mapped), mapped.features) == (8, features)
    for shard in ("first", "second"):
        part = pairs[:1] if shard == "first" else pairs[1:]
        write_dataset(part, tmp_path / shard)
    plain = pq.read_schema(tmp_path / "second" / "train.parquet")
    assert plain.field("p_chosen").type == pa.float64()
    assert plain.field("rejected") == pq.read_schema(tmp_path / "first" / "train.parquet").field(
        "rejected"
    )


def test_trl_takes_the_rows_as_conversations(tmp_path: Path, tiny_model_folder: Path) -> None:
    from transformers import AutoTokenizer
    from trl.data_utils import apply_chat_template, is_conversational

    pairs = [pair("weather?", "4C", "40C"), with_call()]
    write_dataset(pairs, tmp_path / "export")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    for row, item in zip(
        loaded(tmp_path / "export", tmp_path / "cache", split="train"), pairs, strict=True
    ):
        assert is_conversational(row)
        text = apply_chat_template(row, tokenizer, tools=item.prompt.tools)
        asked, answered = item.prompt.message_dicts(), item.chosen.completion.message_dicts()
        assert text["prompt"] == tokenizer.apply_chat_template(
            asked, tools=item.prompt.tools, tokenize=False, add_generation_prompt=True
        )
        assert text["prompt"] + text["chosen"] == tokenizer.apply_chat_template(
            asked + answered, tools=item.prompt.tools, tokenize=False
        )


def test_messages_without_calls_have_no_key_for_them_where_others_call(tmp_path: Path) -> None:
    """Templates ask `'tool_calls' in message`; a null there breaks them."""
    write_dataset([with_call(), pair()], tmp_path / "export")
    for row in loaded(tmp_path / "export", tmp_path / "cache", split="train"):
        for message in row["prompt"] + row["chosen"] + row["rejected"]:
            assert None not in [value for key, value in message.items() if key != "content"]


def test_an_exported_file_reads_back_as_preference_rows(tmp_path: Path) -> None:
    pairs = [pair(p_chosen=0.7), with_call()]
    write_dataset(pairs, tmp_path)
    for row, item in zip(preference_rows(tmp_path / "train.parquet"), pairs, strict=True):
        assert row.error is None
        assert (row.prompt, row.chosen) == (
            item.prompt.message_dicts(),
            item.chosen.completion.message_dicts(),
        )
        assert row.tools == item.prompt.tools
        assert (row.extra["pair_id"], row.extra["p_chosen"]) == (item.id, item.p_chosen)


def test_a_prompt_has_one_id_before_and_after_the_export(tmp_path: Path) -> None:
    item = with_call()
    write_dataset([item, pair()], tmp_path)
    source = PromptSource(path=str(tmp_path / "train.parquet"), column="prompt")
    assert load_prompts([source]).prompts[0].id == item.prompt.id


def test_prompt_and_answer_are_never_joined_and_cut(tmp_path: Path) -> None:
    """A template whose generation prompt is no prefix has nothing here to cut wrong."""
    item = pair([{"role": "system", "content": "s"}], "a", "b")
    write_dataset([item], tmp_path)
    (row,) = read_dataset(tmp_path)["train"]
    assert row["prompt"] == [{"role": "system", "content": "s"}]
    assert row["chosen"] == [{"role": "assistant", "content": "a"}]


def unpaired_rows(file: Path) -> list[tuple[str, str, bool]]:
    return [
        (row["prompt"][0]["content"], row["completion"][0]["content"], row["label"])
        for row in pq.read_table(file).to_pylist()
    ]


def test_unpaired_completions_are_one_row_each_with_their_label(tmp_path: Path) -> None:
    pairs = [pair("q", "x", "y"), pair("q", "x", "z"), pair("r", "u", "v", split="test")]
    report = write_unpaired(pairs, tmp_path)
    assert unpaired_rows(tmp_path / "train.parquet") == [
        ("q", "x", True),
        ("q", "y", False),
        ("q", "z", False),
    ]
    assert unpaired_rows(tmp_path / "test.parquet") == [("r", "u", True), ("r", "v", False)]
    assert report == (
        {"train": 3, "test": 2},
        1,
        2,
        0,
        KtoWeights(desirable=2.0, undesirable=1.0),
    )


def test_a_completion_that_won_and_lost_has_no_label(tmp_path: Path) -> None:
    report = write_unpaired([pair("q", "x", "y"), pair("q", "y", "z")], tmp_path)
    assert unpaired_rows(tmp_path / "train.parquet") == [("q", "x", True), ("q", "z", False)]
    assert report.contradictory == 1


def test_unbalanced_labels_come_with_weights_of_equal_total(tmp_path: Path) -> None:
    pairs = [pair(f"q{i}", f"good {j}", "bad") for i in range(10) for j in range(9)]
    report = write_unpaired(pairs, tmp_path)
    assert (report.desirable, report.undesirable) == (90, 10)
    assert report.weights == KtoWeights(desirable=1.0, undesirable=9.0)
    assert suggested_weights(10, 90) == (9.0, 1.0)
    with pytest.raises(ValueError, match="0 undesirable completions; KTO needs both"):
        suggested_weights(5, 0)


def test_trl_takes_the_unpaired_rows(tmp_path: Path, tiny_model_folder: Path) -> None:
    from transformers import AutoTokenizer
    from trl.data_utils import apply_chat_template, is_conversational

    write_unpaired([pair(), with_call()], tmp_path / "export")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    rows = list(loaded(tmp_path / "export", tmp_path / "cache", split="train"))
    assert [row["label"] for row in rows] == [True, False, True, False]
    for row in rows:
        assert is_conversational(row)
        assert apply_chat_template(row, tokenizer)["completion"].endswith("<|im_end|>\n")


def test_memory_does_not_grow_with_the_pairs(tmp_path: Path) -> None:
    item = pair("q", "x" * 200, "y" * 200)

    def peak(count: int) -> int:
        tracemalloc.start()
        write_dataset(repeat(item, count), tmp_path / str(count))
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    assert peak(16000) < 1.2 * peak(8000)
