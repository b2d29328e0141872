"""Files of conversations as token ids and masks; the template of a base model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from curation.chat import ChatTemplate
from curation.models import load_chat
from curation.tiny import CHATML
from dpo.base_template import base_template, load_sft_chat
from dpo.conversations import (
    ConversationTokens,
    Segment,
    check_trainable,
    ends_trained,
    masked_rows,
    read_conversations,
    tokenise_conversations,
)
from schemas.configs import ConversationSource, ModelConfig, SftConfig

Write = Callable[..., ConversationSource]
DATA = Path(__file__).parents[2].parent / "shared" / "data"
HI_YO = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function from rows to a source that holds them."""

    def rows(*rows: dict[str, Any], name: str = "rows.jsonl") -> ConversationSource:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return ConversationSource(path=str(path))

    return rows


@pytest.fixture(scope="session")
def base_model_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's tokenizer, without a template and with PAD == EOS."""
    folder = tmp_path_factory.mktemp("base") / "model"
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    tokenizer.chat_template = None
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text((tiny_model_folder / "config.json").read_text())
    return folder


@pytest.fixture
def chat(tiny_model_folder: Path) -> ChatTemplate:
    return load_chat(ModelConfig(path=str(tiny_model_folder)))


def tokens_of(source: ConversationSource, chat: ChatTemplate, max_length: int = 256) -> Any:
    return tokenise_conversations(read_conversations([source]).rows, chat, max_length)


def trained_text(row: ConversationTokens, chat: ChatTemplate) -> str:
    ids = [token for token, trained in zip(row.ids, row.mask, strict=True) if trained]
    return str(chat.tokenizer.decode(ids))


def test_text_becomes_messages_where_the_model_has_a_template(
    write: Write, chat: ChatTemplate
) -> None:
    (text,) = tokens_of(write({"prompt": "hi", "completion": "yo"}), chat).rows
    (messages,) = tokens_of(write({"messages": HI_YO}), chat).rows
    assert text == messages
    assert trained_text(text, chat) == "yo<|im_end|>"
    assert chat.tokenizer.decode(text.ids).startswith("<|im_start|>user\nhi<|im_end|>")


def test_text_without_a_template_goes_on_from_the_prompt_and_ends_once(
    write: Write, base_model_folder: Path
) -> None:
    rows = (
        {"prompt": "Q: 1+1?\nA:", "completion": " 2"},
        {"prompt": "Q: 1+1?\nA:", "completion": " 2<|im_end|>"},
    )
    read = read_conversations([write(*rows)])
    chat, given = load_sft_chat(ModelConfig(path=str(base_model_folder)), plain=read.plain)
    one, other = tokenise_conversations(read.rows, chat, 256).rows
    assert given is not None
    assert chat.tokenizer.decode(one.ids) == "Q: 1+1?\nA: 2<|im_end|>"
    assert one.ids == other.ids
    assert one.ids[-1] == chat.tokenizer.eos_token_id
    assert one.ids.count(chat.tokenizer.eos_token_id) == one.mask[-1] == 1
    assert trained_text(one, chat) == " 2<|im_end|>"


@pytest.mark.parametrize("end", ["<|im_end|>", "<|im_end|>\n", "<|im_end|> <|im_end|>"])
@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "hi", "completion": "yo"},
        {"instruction": "hi", "output": "yo"},
        {"messages": HI_YO},
        {"prompt": HI_YO[:1], "completion": HI_YO[1:]},
    ],
    ids=["text", "instruction", "messages", "lists"],
)
def test_an_answer_that_brings_its_end_has_one_under_a_template_too(
    row: dict[str, Any], end: str, write: Write, chat: ChatTemplate
) -> None:
    brings = json.loads(json.dumps(row).replace("yo", json.dumps(f"yo{end}")[1:-1]))
    one, other = tokens_of(write(row, brings), chat).rows
    assert one.ids == other.ids
    assert trained_text(other, chat) == "yo<|im_end|>"


def test_an_end_that_the_template_does_not_write_is_left_to_the_text(
    write: Write, tiny_model_folder: Path, tmp_path: Path
) -> None:
    endless = tmp_path / "endless.jinja"
    endless.write_text("{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}")
    chat = load_chat(ModelConfig(path=str(tiny_model_folder), chat_template=endless))
    (row,) = tokens_of(write({"prompt": "hi", "completion": "yo<|im_end|>"}), chat).rows
    assert trained_text(row, chat).endswith("yo<|im_end|>")
    assert ends_trained([row], chat.eos_ids) == 1


def test_an_answer_that_is_nothing_but_an_end_is_empty(write: Write, chat: ChatTemplate) -> None:
    tokens = tokens_of(write({"prompt": "hi", "completion": "<|im_end|>"}), chat)
    assert [row.code for row in tokens.quarantined] == ["EMPTY_COMPLETION"]


def test_messages_in_a_text_column_are_messages_in_any_file(write: Write) -> None:
    row = {"prompt": json.dumps(HI_YO[:1]), "completion": json.dumps(HI_YO[1:])}
    as_text, as_lists = read_conversations(
        [write(row, name="text.jsonl"), write({"messages": HI_YO}, name="lists.jsonl")]
    ).rows
    assert as_text.conversation == as_lists.conversation
    with pytest.raises(ValueError, match="as text in 1 rows, as messages in 1; expected"):
        read_conversations([write(row, {"prompt": "hi", "completion": "yo"})])


def test_a_special_token_inside_a_message_is_refused(write: Write, chat: ChatTemplate) -> None:
    rendered = "<|im_start|>user\nhi<|im_end|>"
    tokens = tokens_of(write({"prompt": rendered, "completion": "yo"}), chat)
    assert [row.code for row in tokens.quarantined] == ["ALREADY_RENDERED"]


def test_a_base_model_gets_a_template_of_known_tokens_that_passes_every_proof(
    write: Write, base_model_folder: Path
) -> None:
    source = write({"messages": [*HI_YO, *HI_YO]})
    read = read_conversations([source])
    chat, given = load_sft_chat(ModelConfig(path=str(base_model_folder)), plain=read.plain)
    (row,) = tokenise_conversations(read.rows, chat, 256).rows
    assert chat.tokenizer.decode(row.ids) == 2 * ("### User:\nhi\n\n### Assistant:\nyo<|im_end|>")
    assert trained_text(row, chat) == 2 * "yo<|im_end|>"
    assert chat.report().ends_with_eos
    assert given is not None
    assert "{%- generation -%}" in given
    # Anybody's SFTTrainer finds the same answers by the markers.
    messages = [message.to_dict() for message in read.rows[0].conversation.messages]
    marked = chat.tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    assert marked["input_ids"] == row.ids
    assert marked["assistant_masks"] == row.mask


@pytest.mark.parametrize("plain", [False, True])
def test_the_template_begins_as_the_tokenizer_begins_plain_text(
    plain: bool, tiny_model_folder: Path
) -> None:
    from tokenizers import processors

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    assert "bos_token" not in base_template(tokenizer, plain=plain)
    tokenizer.bos_token = "<|endoftext|>"
    assert "bos_token" not in base_template(tokenizer, plain=plain)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", tokenizer.bos_token_id)]
    )
    chat = ChatTemplate(tokenizer, template=base_template(tokenizer, plain=plain))
    assert chat.template.begins_with_bos
    chat.prove()


def test_a_model_without_an_end_token_is_refused(tiny_model_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="NO_EOS"):
        base_template(tokenizer, plain=False)


def test_a_template_that_is_given_is_used(
    write: Write, base_model_folder: Path, tmp_path: Path
) -> None:
    template = tmp_path / "template.jinja"
    template.write_text(CHATML)
    model = ModelConfig(path=str(base_model_folder), chat_template=template)
    chat, given = load_sft_chat(model, plain=True)
    assert given is None
    (row,) = tokens_of(write({"prompt": "hi", "completion": "yo"}), chat).rows
    assert chat.tokenizer.decode(row.ids).startswith("<|im_start|>user")


def test_a_span_that_is_cut_keeps_what_remains_of_it(write: Write, base_model_folder: Path) -> None:
    # Numbers have no merges in the tiny vocabulary, so each is a token.
    source = write({"prompt": "123456", "completion": "78901"})
    chat, _ = load_sft_chat(ModelConfig(path=str(base_model_folder)), plain=True)
    (whole,) = tokens_of(source, chat).rows
    (cut,) = tokens_of(source, chat, 9).rows
    assert whole.mask == [0] * 6 + [1] * 6
    assert cut.mask == [0] * 6 + [1] * 3
    assert cut.ids == whole.ids[:9]
    assert (cut.truncated, whole.truncated) == (True, False)
    assert (cut.trained, whole.trained) == (3, 6)


def test_a_row_whose_answers_are_all_cut_off_is_too_long(
    write: Write, base_model_folder: Path
) -> None:
    source = write({"prompt": "123456", "completion": "78901"})
    chat, _ = load_sft_chat(ModelConfig(path=str(base_model_folder)), plain=True)
    tokens = tokens_of(source, chat, 6)
    (row,) = tokens.quarantined
    assert (row.code, row.row_id) == ("TOO_LONG", "line 1")
    assert "token 6 of 12" in row.message
    with pytest.raises(ValueError, match=r"TOO_LONG: sft\.max_length 6 leaves none of the 1"):
        check_trainable(tokens.rows, tokens.quarantined, 6)


def test_rows_without_any_assistant_token_are_an_error_with_the_reasons(
    write: Write, chat: ChatTemplate
) -> None:
    read = read_conversations([write({"messages": HI_YO[:1]}, {"messages": HI_YO[1:]})])
    tokens = tokenise_conversations(read.rows, chat, 256)
    quarantined = [*read.quarantined, *tokens.quarantined]
    with pytest.raises(
        ValueError,
        match=r"ASSISTANT_MASK_EMPTY: none of the 2 rows .*NO_ASSISTANT_TURN 1, NOTHING_ASKED 1",
    ):
        check_trainable(tokens.rows, quarantined, 256)


def test_mixed_columns_in_one_file_are_refused_with_counts(write: Write) -> None:
    text = {"prompt": "hi", "completion": "yo"}
    lists = {"prompt": HI_YO[:1], "completion": HI_YO[1:]}
    with pytest.raises(
        ValueError, match=r"MIXED_FORMAT: .* as text in 2 rows, as messages in 1; expected"
    ):
        read_conversations([write(text, lists, text)])
    with pytest.raises(ValueError, match=r"as messages in 0 and as one of each in 1; expected"):
        read_conversations([write({"prompt": "hi", "completion": HI_YO[1:]})])
    one, other = write(text, name="text.jsonl"), write(lists, name="lists.jsonl")
    read = read_conversations([one, other])
    assert len(read.rows) == 2
    assert not read.plain


def test_bad_rows_are_listed_with_their_place_and_reason(write: Write) -> None:
    read = read_conversations([write({"messages": HI_YO}, {"prompt": "hi"}, {"messages": [3]})])
    assert [(row.row_id, row.code) for row in read.quarantined] == [
        ("line 2", "MISSING_COLUMN"),
        ("line 3", "BAD_MESSAGE"),
    ]
    assert len(read.rows) == 1


def test_csv_cells_may_hold_messages_and_parquet_has_the_same_rows(
    write: Write, tmp_path: Path
) -> None:
    import csv

    import pyarrow as pa
    import pyarrow.parquet as pq

    with open(tmp_path / "rows.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["messages", "prompt"], [json.dumps(HI_YO), ""]])
    pq.write_table(pa.Table.from_pylist([{"messages": HI_YO}]), tmp_path / "rows.parquet")
    sources = [
        write({"messages": HI_YO}),
        *(ConversationSource(path=str(tmp_path / f"rows.{end}")) for end in ("csv", "parquet")),
    ]
    one, two, three = read_conversations(sources).rows
    assert one.conversation == two.conversation == three.conversation


def test_a_source_is_read_up_to_its_limit_and_an_empty_one_is_refused(write: Write) -> None:
    source = write(*({"messages": HI_YO} for _ in range(3)))
    assert len(read_conversations([source.model_copy(update={"limit": 2})]).rows) == 2
    with pytest.raises(ValueError, match="has no rows"):
        read_conversations([write()])


def test_the_share_of_rows_that_learn_to_stop_leaves_cut_rows_out() -> None:
    def row(*mask: int, truncated: bool = False) -> ConversationTokens:
        return ConversationTokens("s", "g", [5, 6, 9], list(mask), truncated)

    rows = [row(0, 1, 1), row(0, 1, 0), row(0, 1, 0, truncated=True)]
    assert ends_trained(rows, frozenset({9})) == 0.5
    assert ends_trained(rows[2:], frozenset({9})) is None


def test_masked_rows_show_what_is_trained(write: Write, tiny_model_folder: Path) -> None:
    source = write({"messages": HI_YO}, {"messages": [*HI_YO, *HI_YO]}, {"prompt": 3})
    config = SftConfig(data=(source,), max_length=256)
    model = ModelConfig(path=str(tiny_model_folder))
    first, second = masked_rows([source], model, config)
    assert first.segments == [
        Segment("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", False),
        Segment("yo<|im_end|>", True),
        Segment("\n", False),
    ]
    assert [segment.trained for segment in second.segments] == [False, True, False, True, False]
    assert first.trained < first.tokens
    assert len(masked_rows([source], model, config, limit=1)) == 1


@pytest.mark.parametrize(
    ("name", "read", "shape"),
    [
        ("gsm8k_train_sft.jsonl", 500, "text"),
        ("selfinstruct_seed_tasks_sft.jsonl", 175, "instruction"),
    ],
)
def test_real_rows_are_trained_on_their_answers(
    name: str, read: int, shape: str, chat: ChatTemplate
) -> None:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    rows = read_conversations([ConversationSource(path=str(path))])
    tokens = tokenise_conversations(rows.rows, chat, 8192)
    assert len(rows.rows) + len(rows.quarantined) == read
    assert {row.shape for row in rows.rows} == {shape}
    assert tokens.quarantined == []
    for row, source in zip(tokens.rows[:50], rows.rows, strict=False):
        answer = source.conversation.messages[-1].content
        assert trained_text(row, chat) == f"{answer}<|im_end|>"
