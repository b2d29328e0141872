"""Whole conversations as token ids, and which of the tokens the assistant says.

An assistant's turn begins where the conversation before it, with the generation prompt, ends, and
it ends with its end token: what generation would be given, and what it would have to produce. Both
are found by rendering the conversation's beginnings, so no template needs markers for it.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from curation.said import first_difference
from curation.template import TemplateError
from schemas.records import Message

if TYPE_CHECKING:
    from curation.chat import ChatTemplate

_AT_ONCE = 64

Conversation = tuple[Sequence[Message], Any]
"""Messages, and the tools they may call."""


class EncodedTurns(NamedTuple):
    ids: list[int]
    """The whole conversation as the template renders it."""
    mask: list[int]
    """1 at the tokens that the assistant says, each turn's end token included; else 0."""


class _Turn(NamedTuple):
    at: int
    """Which message it is."""
    before: str
    """The conversation before the turn, with the generation prompt."""
    after: str
    """The conversation up to the turn's end."""


class _Rendered(NamedTuple):
    whole: str
    turns: list[_Turn]
    """Empty where the template's own markers have to say which text is whose."""
    marked: list[tuple[int, int]]

    @property
    def texts(self) -> list[str]:
        return [self.whole, *(text for turn in self.turns for text in (turn.before, turn.after))]


def encode_turns(
    chat: "ChatTemplate", conversations: Sequence[Conversation]
) -> list[EncodedTurns | TemplateError]:
    """One result a conversation, an error in the place of one that does not survive the template.

    Where the template renders a turn differently once the conversation goes on, its own
    `{% generation %}` markers say what the assistant says; without them it is HISTORY_REWRITTEN.
    """
    return [
        result
        for start in range(0, len(conversations), _AT_ONCE)
        for result in _encode(chat, conversations[start : start + _AT_ONCE])
    ]


def _encode(
    chat: "ChatTemplate", conversations: Sequence[Conversation]
) -> Iterator[EncodedTurns | TemplateError]:
    rendered: list[_Rendered | TemplateError] = []
    for messages, tools in conversations:
        try:
            rendered.append(_render(chat, messages, tools))
        except TemplateError as error:
            rendered.append(error.with_traceback(None))
    texts = [text for one in rendered if isinstance(one, _Rendered) for text in one.texts]
    tokens = iter(chat.template.tokenise(texts))
    for one in rendered:
        if isinstance(one, TemplateError):
            yield one
            continue
        ids = next(tokens)
        befores_and_afters = [(next(tokens), next(tokens)) for _ in one.turns]
        try:
            if (doubled := chat.double_bos(ids, "the conversation")) is not None:
                raise doubled
            spans = (
                [
                    _span(chat, ids, turn.at, before, after)
                    for turn, (before, after) in zip(one.turns, befores_and_afters, strict=True)
                ]
                if one.turns
                else list(_marked_tokens(chat, one, ids))
            )
        except TemplateError as error:
            yield error.with_traceback(None)
            continue
        mask = [0] * len(ids)
        for start, end in spans:
            mask[start:end] = [1] * (end - start)
        yield EncodedTurns(ids, mask)


def _render(chat: "ChatTemplate", messages: Sequence[Message], tools: Any) -> _Rendered:
    """The conversation's text, and the texts at which each turn of the assistant begins and ends.

    Raises:
        TemplateError: the template does not render it, not truly, or rewrites what was said.
    """
    if messages[0].role == "assistant":
        raise TemplateError(
            "NOTHING_ASKED",
            "message 0 (assistant): the conversation begins with an answer that no turn asks for",
            positions=(0,),
        )
    chat.check_takes(messages, tools, "the conversation")
    dicts = [message.to_dict() for message in messages]

    def text(count: int, add_generation_prompt: bool = False) -> str:
        return chat.render(
            dicts[:count],
            "the conversation",
            tools=tools,
            add_generation_prompt=add_generation_prompt,
        )

    whole = text(len(dicts))
    turns: list[_Turn] = []
    for index, message in enumerate(messages):
        if message.role != "assistant":
            continue
        turn = _Turn(index, text(index, add_generation_prompt=True), text(index + 1))
        if not (turn.after.startswith(turn.before) and whole.startswith(turn.after)):
            marked = chat.template.marked_spans(dicts, tools=tools)
            if marked:
                return _Rendered(whole, [], marked)
            raise _rewritten(turn, whole)
        said = turn.after[len(turn.before) - len(chat.template.opening.prefill) :]
        chat.check_said([message], said, f"message {index} (assistant)")
        turns.append(turn)
    return _Rendered(whole, turns, [])


def _rewritten(turn: _Turn, whole: str) -> TemplateError:
    subject = f"message {turn.at} (assistant)"
    if turn.after.startswith(turn.before):
        at = first_difference(turn.after, whole)
        return TemplateError(
            "HISTORY_REWRITTEN",
            f"{subject}: the chat template renders it as {turn.after[at : at + 30]!r} and, once "
            f"the conversation goes on, as {whole[at : at + 30]!r}, and has no "
            "{% generation %} markers; give each answer a row of its own, as the last turn",
            positions=(turn.at,),
        )
    at = first_difference(turn.before, turn.after)
    return TemplateError(
        "TEMPLATE_NOT_PREFIX",
        f"{subject}: generation would begin it with {turn.before[at : at + 30]!r} where the "
        f"chat template renders {turn.after[at : at + 30]!r}",
        positions=(turn.at,),
    )


def _span(
    chat: "ChatTemplate", ids: list[int], index: int, before: list[int], after: list[int]
) -> tuple[int, int]:
    """Where a turn's tokens begin, and where they end behind its end token."""
    start = len(before)
    if ids[:start] != before:
        at = first_difference(before, ids)
        decode = chat.tokenizer.decode
        raise TemplateError(
            "TOKENS_NOT_PREFIX",
            f"message {index} (assistant): its first characters merge with what comes before it; "
            f"token {at} is {decode(before[at : at + 1])!r} where generation begins and "
            f"{decode(ids[at : at + 1])!r} in the conversation",
            positions=(index,),
        )
    # What the template writes behind the turn may merge with what follows.
    shared = first_difference(after, ids)
    end = chat.end_of(ids[start:shared])
    return start, shared if end is None else start + end


def _marked_tokens(
    chat: "ChatTemplate", rendered: _Rendered, ids: list[int]
) -> Iterator[tuple[int, int]]:
    """The tokens inside the template's markers, and an end token right behind them."""
    offsets = chat.tokenizer(
        rendered.whole,
        add_special_tokens=False,
        return_offsets_mapping=True,
        verbose=False,
    )["offset_mapping"]
    for start, end in rendered.marked:
        inside = [at for at, (first, _) in enumerate(offsets) if start <= first < end]
        if not inside:
            continue
        first, behind = inside[0], inside[-1] + 1
        length = chat.end_of(ids[first:behind])
        if length is not None:
            yield first, first + length
        else:
            yield first, behind + (behind < len(ids) and ids[behind] in chat.eos_ids)
