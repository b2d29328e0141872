"""Which tokens of a conversation the assistant says: one token a byte, so spans are counted."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from curation.chat import ChatTemplate, TemplateError
from curation.turns import EncodedTurns, encode_turns
from schemas.records import Message

CHATML = (
    "{% for m in messages %}{{ '<start>' + m.role + '\n' + m.content + '<end>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start>assistant\n' }}{% endif %}"
)
# The end token and the line break stand outside the markers, as in templates found in the wild.
MARKED = (
    "{% for m in messages %}{{ '<start>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% else %}{{ m.content }}{% endif %}{{ '<end>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start>assistant\n' }}{% endif %}"
)
# Takes thoughts out of earlier answers.
FORGETFUL = CHATML.replace(
    "m.content +", "(m.content if loop.last else m.content.split('</think>')[-1]) +"
)
FORGETFUL_MARKED = MARKED.replace(
    "{% generation %}{{ m.content }}",
    "{% generation %}{{ m.content if loop.last else m.content.split('</think>')[-1] }}",
)
NO_END = CHATML.replace("<end>\n", "\n")
PREFILLED = CHATML.replace("{{ '<start>assistant\n' }}", "{{ '<start>assistant\n<think>\n' }}")


class DictRenderer(PreTrainedTokenizerFast):  # type: ignore[misc]
    """A tokenizer of the transformers in which a tokenised template is a dict."""

    def apply_chat_template(self, *args: Any, **options: Any) -> Any:
        if options.get("tokenize", True):
            options.setdefault("return_dict", True)
        return super().apply_chat_template(*args, **options)


class ListRenderer(PreTrainedTokenizerFast):  # type: ignore[misc]
    """A tokenizer of the transformers in which it is a list."""

    def apply_chat_template(self, *args: Any, **options: Any) -> Any:
        options.setdefault("return_dict", False)
        return super().apply_chat_template(*args, **options)


def chat_of(
    template: str,
    *,
    merges: tuple[tuple[str, str], ...] = (),
    tokenizer_class: Any = PreTrainedTokenizerFast,
) -> ChatTemplate:
    specials = ["<end>", "<start>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*specials, *letters, *("".join(merge) for merge in merges)]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(specials)
    tokenizer = tokenizer_class(
        tokenizer_object=backend,
        eos_token="<end>",
        pad_token="<end>",
        extra_special_tokens=["<start>"],
    )
    tokenizer.chat_template = template
    return ChatTemplate(tokenizer)


def turns(*contents: str, system: str | None = None) -> tuple[list[Message], None]:
    """User and assistant in turn."""
    messages = [
        Message(role="assistant" if at % 2 else "user", content=content)
        for at, content in enumerate(contents)
    ]
    first = [] if system is None else [Message(role="system", content=system)]
    return [*first, *messages], None


def encode(chat: ChatTemplate, conversation: Any) -> EncodedTurns:
    (result,) = encode_turns(chat, [conversation])
    if isinstance(result, TemplateError):
        raise result
    return result


def trained_texts(chat: ChatTemplate, encoded: EncodedTurns) -> list[str]:
    """The runs of trained tokens as text."""
    runs: list[list[int]] = [[]]
    for token, trained in zip(encoded.ids, encoded.mask, strict=True):
        if trained:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return [chat.tokenizer.decode(run) for run in runs if run]


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_each_answer_is_trained_up_to_its_end_token(template: str) -> None:
    chat = chat_of(template)
    encoded = encode(chat, turns("a", "b", "c", "dd", system="s"))
    assert trained_texts(chat, encoded) == ["b<end>", "dd<end>"]
    assert sum(encoded.mask) == 5


def test_without_markers_one_answer_has_the_tokens_counted_by_hand() -> None:
    # <start> u s e r \n a <end> \n <start> a s s i s t a n t \n = 20, then b <end>, then \n.
    encoded = encode(chat_of(CHATML), turns("a", "b"))
    assert encoded.mask == [0] * 20 + [1, 1, 0]


def test_tokens_are_those_of_the_whole_rendered_conversation() -> None:
    chat = chat_of(CHATML)
    messages, _ = conversation = turns("a", "b", "c", "d")
    theirs = chat.tokenizer.apply_chat_template(
        [message.to_dict() for message in messages], tokenize=True, return_dict=False
    )
    assert encode(chat, conversation).ids == theirs


@pytest.mark.parametrize("renderer", [DictRenderer, ListRenderer])
def test_it_makes_no_difference_what_a_tokenised_template_is(renderer: Any) -> None:
    # A prompt of 7 tokens: <start> u s e r \n a.
    chat = chat_of(
        "{% for m in messages %}{{ '<start>user\n' + m.content if m.role == 'user' else "
        "m.content + '<end>' }}{% endfor %}",
        tokenizer_class=renderer,
    )
    encoded = encode(chat, turns("a", "bcd"))
    assert all(isinstance(token, int) for token in encoded.ids)
    assert encoded.mask == [0] * 7 + [1] * 4


def test_answers_that_follow_each_other_are_both_trained() -> None:
    chat = chat_of(CHATML)
    messages = [*turns("a", "b")[0], Message(role="assistant", content="c")]
    assert trained_texts(chat, encode(chat, (messages, None))) == ["b<end>", "c<end>"]


def test_a_last_turn_of_the_user_is_not_trained() -> None:
    chat = chat_of(CHATML)
    assert trained_texts(chat, encode(chat, turns("a", "b", "c"))) == ["b<end>"]


def test_history_that_is_rewritten_is_refused_without_markers() -> None:
    conversation = turns("a", "<think>x</think>b", "c", "d")
    with pytest.raises(TemplateError, match=r"message 1 .*a row of its own") as caught:
        encode(chat_of(FORGETFUL), conversation)
    assert caught.value.code == "HISTORY_REWRITTEN"
    assert caught.value.positions == (1,)


def test_history_that_is_rewritten_is_trained_as_the_markers_say() -> None:
    chat = chat_of(FORGETFUL_MARKED)
    encoded = encode(chat, turns("a", "<think>x</think>b", "c", "d"))
    assert trained_texts(chat, encoded) == ["b<end>", "d<end>"]


def test_the_last_answer_alone_survives_a_template_that_rewrites_history() -> None:
    chat = chat_of(FORGETFUL)
    encoded = encode(chat, turns("a", "<think>x</think>b"))
    assert trained_texts(chat, encoded) == ["<think>x</think>b<end>"]


def test_a_generation_prompt_that_the_conversation_lacks_is_refused() -> None:
    with pytest.raises(TemplateError) as caught:
        encode(chat_of(PREFILLED), turns("a", "b"))
    assert caught.value.code == "TEMPLATE_NOT_PREFIX"


def test_an_answer_that_merges_with_what_comes_before_is_refused() -> None:
    chat = chat_of(CHATML, merges=(("Ċ", "Ċ"),))
    assert encode(chat, turns("a", "b")).mask[-3:] == [1, 1, 0]
    with pytest.raises(TemplateError, match="message 1") as caught:
        encode(chat, turns("a", "\nb"))
    assert caught.value.code == "TOKENS_NOT_PREFIX"


def test_a_line_break_that_merges_behind_an_answer_does_not_move_its_end() -> None:
    template = CHATML.replace("'<start>' + m.role + '\n'", "'\n' + m.role + ':'")
    template = template.replace("'<start>assistant\n'", "'\nassistant:'")
    chat = chat_of(template, merges=(("Ċ", "Ċ"),))
    assert trained_texts(chat, encode(chat, turns("a", "b", "c", "d"))) == ["b<end>", "d<end>"]


def test_a_template_that_never_ends_an_answer_trains_all_it_writes() -> None:
    chat = chat_of(NO_END)
    assert trained_texts(chat, encode(chat, turns("a", "b"))) == ["b\n"]


def test_a_conversation_that_begins_with_an_answer_is_refused() -> None:
    with pytest.raises(TemplateError) as caught:
        encode(chat_of(CHATML), ([Message(role="assistant", content="b")], None))
    assert caught.value.code == "NOTHING_ASKED"


def test_tools_that_the_template_does_not_write_are_refused() -> None:
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    with pytest.raises(TemplateError) as caught:
        encode(chat_of(CHATML), (turns("a", "b")[0], tools))
    assert caught.value.code == "TOOLS_IGNORED"


def test_one_broken_conversation_leaves_the_others_theirs() -> None:
    chat = chat_of(FORGETFUL)
    good, bad = turns("a", "b"), turns("a", "<think>x</think>b", "c", "d")
    first, second, third = encode_turns(chat, [good, bad, good])
    assert first == third == encode(chat, good)
    assert isinstance(second, TemplateError)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="<"), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3))
def test_what_is_trained_is_what_the_assistant_says(exchanges: list[tuple[str, str]]) -> None:
    chat = chat_of(CHATML)
    encoded = encode(chat, turns(*(text for exchange in exchanges for text in exchange)))
    assert trained_texts(chat, encoded) == [answer + "<end>" for _, answer in exchanges]
    marked = encode(chat_of(MARKED), turns(*(text for pair in exchanges for text in pair)))
    assert marked == encoded
