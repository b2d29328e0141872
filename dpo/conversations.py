"""Conversations out of files, as the token ids that are trained on and the mask that says which."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from curation.chat import ChatTemplate, TemplateError
from curation.formats.conversation_rows import Conversation, Shape, conversation_row, shape_of
from curation.formats.files import open_rows
from curation.formats.json_values import RowError, as_json
from curation.formats.messages import opened_cell
from curation.prompts import QuarantinedRow
from curation.said import texts
from curation.turns import EncodedTurns, encode_turns
from dpo.base_template import load_sft_chat
from schemas.configs import ConversationSource, ModelConfig, SftConfig
from schemas.records import Message, content_hash

_ROWS_LOOKED_AT = 64


class SourceRow(NamedTuple):
    """A conversation, and where it was read."""

    source: str
    row_id: str
    """`line 7` of a JSONL file, else `row 7`."""
    conversation: Conversation
    shape: Shape

    def quarantined(self, code: str, message: str) -> QuarantinedRow:
        return QuarantinedRow(
            source=self.source,
            row_id=self.row_id,
            code=code,
            message=message,
            row=self.conversation.model_dump(mode="json"),
        )


class ReadConversations(NamedTuple):
    rows: list[SourceRow]
    quarantined: list[QuarantinedRow]

    @property
    def plain(self) -> bool:
        """Whether every row is a text and the text that goes on from it."""
        return bool(self.rows) and all(row.shape == "text" for row in self.rows)


class ConversationTokens(NamedTuple):
    """A conversation, ready for a batch; at least one token is trained."""

    row_id: str
    """The hash of what is said: rows that say the same have the same."""
    group: str
    """The hash of the first user turn."""
    ids: list[int]
    mask: list[int]
    """1 at the tokens that are trained, else 0."""
    truncated: bool = False
    """Whether it lost tokens to the length limit."""

    @property
    def trained(self) -> int:
        """How many tokens the loss is over; nothing predicts the first token of all."""
        return sum(self.mask[1:])


class TokenisedConversations(NamedTuple):
    rows: list[ConversationTokens]
    quarantined: list[QuarantinedRow]


class Segment(NamedTuple):
    text: str
    trained: bool


class MaskedRow(NamedTuple):
    """A row as the trainer sees it."""

    row_id: str
    segments: list[Segment]
    """In order; neighbours differ in whether they are trained."""
    tokens: int
    trained: int
    truncated: bool


def read_conversations(sources: Sequence[ConversationSource]) -> ReadConversations:
    """The conversations of the sources, and the rows that hold none, each with its reason.

    Raises:
        ValueError: a source cannot be read or is empty, or one file holds prompt and completion as
            text in some rows and as messages in others (MIXED_FORMAT).
    """
    rows: list[SourceRow] = []
    quarantined: list[QuarantinedRow] = []
    for source in sources:
        shapes: Counter[str] = Counter()
        read = 0
        for row_id, row in _rows(source):
            read += 1
            try:
                if isinstance(row, RowError):
                    raise row
                shapes[str(shape_of(row))] += 1
                rows.append(SourceRow(source.path, row_id, *conversation_row(row)))
            except RowError as error:
                quarantined.append(
                    QuarantinedRow(
                        source=source.path,
                        row_id=row_id,
                        code=error.code,
                        message=str(error),
                        row=None if isinstance(row, RowError) else as_json(row),
                    )
                )
        if not read:
            raise ValueError(f"sft.data '{source.path}' has no rows")
        _check_one_format(source.path, shapes)
    return ReadConversations(rows, quarantined)


def tokenise_conversations(
    rows: Sequence[SourceRow], chat: ChatTemplate, max_length: int
) -> TokenisedConversations:
    """The rows' tokens as `chat` renders the whole conversations, cut to `max_length`.

    A row that the template breaks is quarantined under the template's code; ALREADY_RENDERED holds
    a special token as text, an answer of EMPTY_COMPLETION is but an end, ASSISTANT_MASK_EMPTY has
    no token that the assistant says, and of TOO_LONG the limit leaves none. An end token at the end
    of an answer is no fault: the row has one, whether the text brings it or the template.
    """
    bare = [_without_ends(row.conversation, chat) for row in rows]
    # What the template does not write is left to the text.
    said = bare if chat.template.terminator else [row.conversation for row in rows]
    encoded = encode_turns(chat, [(one.messages, one.tools) for one in said])
    kept: list[ConversationTokens] = []
    quarantined: list[QuarantinedRow] = []
    for row, conversation, result in zip(rows, bare, encoded, strict=True):
        try:
            _check_answers(conversation)
            _check_unrendered(conversation, chat)
            if isinstance(result, TemplateError):
                raise RowError(result.code, str(result))
            kept.append(_cut(row.conversation, result, max_length))
        except RowError as error:
            quarantined.append(row.quarantined(error.code, str(error)))
    return TokenisedConversations(kept, quarantined)


def check_trainable(
    rows: Sequence[ConversationTokens], quarantined: Sequence[QuarantinedRow], max_length: int
) -> None:
    """Return if there is a row to train on.

    Raises:
        ValueError: there is none; one sentence that says why.
    """
    if rows:
        return
    reasons = Counter(row.code for row in quarantined)
    told = ", ".join(f"{code} {count}" for code, count in reasons.most_common())
    if set(reasons) == {"TOO_LONG"}:
        raise ValueError(
            f"TOO_LONG: sft.max_length {max_length} leaves none of the {len(quarantined)} rows a "
            "token of an assistant's turn; raise it"
        )
    raise ValueError(
        f"ASSISTANT_MASK_EMPTY: none of the {len(quarantined)} rows has a token to train on "
        f"({told}); the first, {quarantined[0].row_id} of '{quarantined[0].source}': "
        f"{quarantined[0].message}"
    )


def masked_rows(
    sources: Sequence[ConversationSource], model: ModelConfig, config: SftConfig, *, limit: int = 3
) -> list[MaskedRow]:
    """The first rows as the trainer sees them: their text, and which of it is trained.

    Raises:
        ValueError: as `train_sft` does for the data and the template.
    """
    read = read_conversations(
        [
            source.model_copy(
                update={"limit": min(source.limit or _ROWS_LOOKED_AT, _ROWS_LOOKED_AT)}
            )
            for source in sources
        ]
    )
    chat = load_sft_chat(model, plain=read.plain).chat
    tokens = tokenise_conversations(read.rows, chat, config.max_length)
    check_trainable(tokens.rows, [*read.quarantined, *tokens.quarantined], config.max_length)
    return [_masked(row, chat) for row in islice(tokens.rows, limit)]


def ends_trained(rows: Iterable[ConversationTokens], eos_ids: frozenset[int]) -> float | None:
    """The share of rows whose last trained token ends the answer; None where all rows were cut."""
    ends = [
        next(token for token, trained in zip(row.ids[::-1], row.mask[::-1], strict=True) if trained)
        in eos_ids
        for row in rows
        if not row.truncated
    ]
    return sum(ends) / len(ends) if ends else None


def tokens_hash(rows: Sequence[ConversationTokens]) -> str:
    """The hash of ids, tokens and masks: another template or tokenizer is another hash."""
    return content_hash([[row.row_id, row.ids, row.mask] for row in rows])


def _rows(source: ConversationSource) -> Iterator[tuple[str, Any]]:
    unit, rows = open_rows(source.path, split=source.split)
    only_text = Path(source.path).suffix.lower() in (".csv", ".tsv")
    for number, row in islice(rows, source.limit):
        if isinstance(row, dict):
            row = {
                name: opened_cell(cell) if isinstance(cell, str) else cell
                for name, cell in row.items()
                # An empty cell of such a file is a column that the row does not use.
                if not (only_text and cell == "")
            }
        yield f"{unit} {number}", row


def _check_one_format(path: str, shapes: Counter[str]) -> None:
    if (
        sum(shapes[shape] > 0 for shape in ("text", "messages", "mixed")) < 2
        and not (shapes["mixed"])
    ):
        return
    mixed = f" and as one of each in {shapes['mixed']}" if shapes["mixed"] else ""
    raise ValueError(
        f"MIXED_FORMAT: sft.data '{path}' holds prompt and completion as text in "
        f"{shapes['text']} rows, as messages in {shapes['messages']}{mixed}; expected one form "
        "throughout a file"
    )


def _without_ends(conversation: Conversation, chat: ChatTemplate) -> Conversation:
    """The conversation, without the end tokens that its answers bring with them."""
    ends = chat.tokenizer.convert_ids_to_tokens(sorted(chat.eos_ids))
    if not ends:
        return conversation
    at_end = re.compile(rf"(?:(?:{'|'.join(map(re.escape, ends))})\s*)+\Z")

    def bare(message: Message) -> Message:
        if message.role != "assistant" or not message.content:
            return message
        return message.model_copy(update={"content": at_end.sub("", message.content)})

    return conversation.model_copy(update={"messages": tuple(map(bare, conversation.messages))})


def _check_answers(conversation: Conversation) -> None:
    for index, message in enumerate(conversation.messages):
        if message.role == "assistant" and message.content == "" and not message.tool_calls:
            raise RowError("EMPTY_COMPLETION", f"message {index} (assistant) is nothing but an end")


def _check_unrendered(conversation: Conversation, chat: ChatTemplate) -> None:
    for said in texts(conversation.messages):
        markers = chat.rendered_markers(said.text)
        if markers:
            raise RowError(
                "ALREADY_RENDERED",
                f"message {said.turn} holds the special token '{markers[0]}' as text; expected "
                "text to which no chat template has been applied",
            )


def _cut(conversation: Conversation, encoded: EncodedTurns, max_length: int) -> ConversationTokens:
    if not any(encoded.mask[1:]):
        raise RowError("ASSISTANT_MASK_EMPTY", "no token of it is the assistant's")
    mask = encoded.mask[:max_length]
    if not any(mask[1:]):
        raise RowError(
            "TOO_LONG",
            f"the first of the assistant's tokens is token {encoded.mask.index(1)} of "
            f"{len(encoded.ids)}, beyond sft.max_length {max_length}",
        )
    return ConversationTokens(
        row_id=conversation.id,
        group=conversation.group,
        ids=encoded.ids[:max_length],
        mask=mask,
        truncated=len(encoded.ids) > max_length,
    )


def _masked(row: ConversationTokens, chat: ChatTemplate) -> MaskedRow:
    # The first token of all is never predicted, so it is never trained.
    trained = [False, *map(bool, row.mask[1:])]
    decode = chat.tokenizer.decode
    segments = [
        Segment(decode([token for token, _ in run], clean_up_tokenization_spaces=False), is_trained)
        for is_trained, run in groupby(zip(row.ids, trained, strict=True), key=lambda one: one[1])
    ]
    return MaskedRow(row.row_id, segments, len(row.ids), row.trained, row.truncated)
