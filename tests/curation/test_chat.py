from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from curation.chat import ChatTemplate, Encoded, TemplateError
from curation.models import Policy
from schemas.records import Completion, FunctionCall, Message, Prompt, ToolCall

BOS, EOS, PAD, END, START = "<s>", "</s>", "<pad>", "<end>", "<start>"
BOS_ID, EOS_ID, END_ID = 0, 1, 3

CHATML = (
    "{% for m in messages %}{{ '<start>' + m.role + '\n' + m.content + '<end>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start>assistant\n' }}{% endif %}"
)
LLAMA_LIKE = (
    "{{ bos_token }}{% for m in messages %}{{ '[' + m.role + ']' + m.content | trim + '<end>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)
GEMMA_LIKE = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}"
    "{{ '<u>' + m.content + '</u>' if m.role == 'user' else '<a>' + m.content + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<a>' }}{% endif %}"
)
DEAF_TO_SYSTEM = (
    "{% for m in messages %}{% if m.role in ['user', 'assistant'] %}"
    "{{ '[' + m.role + ']' + m.content + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)
STRICT = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{% endif %}{{ '[' + m.role + ']' + m.content + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)
QWEN3_LIKE = (
    "{% set last = namespace(user=0) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set last.user = loop.index0 %}{% endif %}"
    "{% endfor %}{% for m in messages %}{% set content = m.content %}"
    "{% if m.role == 'assistant' and loop.index0 < last.user %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<start>' + m.role + '\n' + content + '<end>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start>assistant\n' }}{% endif %}"
)
THINK_PREFILL = CHATML.replace("{{ '<start>assistant\n' }}", "{{ '<start>assistant\n<think>\n' }}")
# Writes an empty thought where it finds no whole one, so that a stored answer which holds only the
# closing tag gets a second pair.
TAG_HUNGRY = (
    "{% for m in messages %}{{ '<start>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.last "
    "and not ('<think>' in m.content and '</think>' in m.content) %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m.content + '<end>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start>assistant\n<think>\n' }}{% endif %}"
)
EMPTY_THOUGHT = TAG_HUNGRY.replace(
    "{{ '<start>assistant\n<think>\n' }}", "{{ '<start>assistant\n<think>\n\n</think>\n\n' }}"
)
TOOLS = (
    "{% if tools %}{{ 'TOOLS ' + (tools | tojson) + '\n' }}{% endif %}"
    "{% for m in messages %}{{ '[' + m.role + ']' + (m.content or '') }}"
    "{% for call in m.tool_calls or [] %}{{ '<call>' + call.function.name + ' ' }}"
    "{% if call.function.arguments is string %}{{ call.function.arguments }}"
    "{% else %}{{ call.function.arguments | tojson }}{% endif %}{% endfor %}{{ '<end>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)
DATED = (
    "{{ 'Today Date: ' }}"
    "{{ strftime_now('%d %b %Y') if not date_string is defined else date_string }}{{ '\n' }}"
) + CHATML
NO_EOS = CHATML.replace("'<end>\n'", "'\n\n'")
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
}


def toy_tokenizer(
    template: str | None, *, adds_bos: bool = False, merges: tuple[tuple[str, str], ...] = ()
) -> PreTrainedTokenizerFast:
    """One token a byte, after the special tokens 0 to 4; the merges given follow."""
    specials = [BOS, EOS, PAD, END, START]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*specials, *letters, *("".join(merge) for merge in merges)]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(specials)
    if adds_bos:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, BOS_ID)]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS if template is None or "eos_token" in template else END,
        pad_token=PAD,
        extra_special_tokens=[END, START],
    )
    tokenizer.chat_template = template
    return tokenizer


def chat_of(template: str, **options: Any) -> ChatTemplate:
    return ChatTemplate(toy_tokenizer(template), **options)


def prompt_of(*turns: tuple[str, str], **fields: object) -> Prompt:
    messages = tuple(Message(role=role, content=content) for role, content in turns)
    return Prompt(messages=messages, **fields)


def ids_of(text: str) -> list[int]:
    """The toy ids of ASCII text without white space, one a letter: specials, then the alphabet."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [5 + letters.index(letter) for letter in text.replace("\n", "Ċ").replace(" ", "Ġ")]


def whole_text(chat: ChatTemplate, encoded: Encoded) -> str:
    return str(chat.tokenizer.decode(encoded.prompt_ids + encoded.completion_ids))


def refusal(chat: ChatTemplate, prompt: Prompt, answer: str | Completion) -> TemplateError:
    completion = Completion.from_text(answer) if isinstance(answer, str) else answer
    with pytest.raises(TemplateError) as caught:
        chat.encode(prompt, completion)
    assert prompt.id in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


# A template at all


def test_a_base_model_without_a_template_is_refused_with_the_remedy() -> None:
    with pytest.raises(TemplateError) as caught:
        ChatTemplate(toy_tokenizer(None))
    assert caught.value.code == "NO_TEMPLATE"
    assert "--chat-template FILE" in str(caught.value)
    assert "fine-tune the model first" in str(caught.value)


def test_a_given_template_is_used_in_place_of_the_models_own() -> None:
    tokenizer = toy_tokenizer(LLAMA_LIKE)
    chat = ChatTemplate(tokenizer, template=CHATML)
    assert chat.prompt_text(prompt_of(("user", "hi"))) == "<start>user\nhi<end>\n<start>assistant\n"
    assert tokenizer.chat_template == LLAMA_LIKE


@pytest.mark.parametrize("template", ["{% for %}", "{{ raise_exception('no') }}", "{{ 1 + '' }}"])
def test_a_template_that_renders_nothing_is_refused(template: str) -> None:
    with pytest.raises(TemplateError) as caught:
        chat_of(template)
    assert caught.value.code == "TEMPLATE_FAILED"


def test_a_model_with_several_templates_uses_the_one_for_tools_where_there_are_tools() -> None:
    tokenizer = toy_tokenizer(CHATML)
    tokenizer.chat_template = {"default": CHATML, "tool_use": TOOLS}
    chat = ChatTemplate(tokenizer)
    assert chat.prompt_text(prompt_of(("user", "hi"))).startswith("<start>user")
    assert chat.prompt_text(prompt_of(("user", "hi"), tools=[WEATHER])).startswith("TOOLS [")


# Tokens are what they claim


def test_a_conversation_is_split_where_generation_began() -> None:
    chat = chat_of(CHATML)
    prompt = prompt_of(("user", "hi"))
    encoded = chat.encode(prompt, Completion.from_text("yo"))
    # 4 is <start>, 3 is <end>.
    assert encoded.prompt_ids == [
        *[4, *ids_of("user\nhi"), 3, *ids_of("\n")],
        *[4, *ids_of("assistant\n")],
    ]
    assert encoded.completion_ids == [*ids_of("yo"), 3, *ids_of("\n")]
    assert chat.prompt_ids(prompt) == encoded.prompt_ids


@pytest.mark.parametrize("template", [CHATML, LLAMA_LIKE, GEMMA_LIKE, STRICT, QWEN3_LIKE, TOOLS])
def test_tokens_equal_those_that_transformers_and_so_trl_makes(template: str) -> None:
    tokenizer = toy_tokenizer(template, adds_bos=True)
    chat = ChatTemplate(tokenizer)
    prompt = prompt_of(("user", "What is 2 + 2?"), ("assistant", "4"), ("user", "Sure?"))
    completion = Completion.from_text("Yes, 4.")
    encoded = chat.encode(prompt, completion)
    opened = tokenizer.apply_chat_template(prompt.message_dicts(), add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(prompt.message_dicts() + completion.message_dicts())
    assert encoded.prompt_ids == opened["input_ids"]
    assert encoded.prompt_ids + encoded.completion_ids == whole["input_ids"]


@settings(deadline=None)
@given(contents=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=6))
def test_any_text_comes_back_from_its_tokens(tiny_policy: Policy, contents: list[str]) -> None:
    chat = tiny_policy.chat
    prompt = prompt_of(*(("user", content) for content in contents[1:]))
    encoded = chat.encode(prompt, Completion.from_text(contents[0]))
    assert chat.tokenizer.decode(encoded.prompt_ids) == chat.prompt_text(prompt)
    assert chat.tokenizer.decode(encoded.completion_ids) == contents[0] + "<|im_end|>\n"


def test_a_batch_gives_what_its_rows_give_alone_with_errors_in_their_places() -> None:
    chat, alone = chat_of(STRICT), chat_of(STRICT)
    good = prompt_of(("user", "hi"))
    bad = prompt_of(("user", "a"), ("user", "b"))
    broken = prompt_of(("user", "\ud800"))
    rows = [(good, "yo"), (bad, "yo"), (good, "ho"), (broken, "yo"), (good, "\udfff"), (bad, "no")]
    items = [(prompt, Completion.from_text(text)) for prompt, text in rows]
    results = chat.encode_batch(items)
    codes = [result.code if isinstance(result, TemplateError) else None for result in results]
    assert codes == [None, "ROLE_ORDER", None, "NOT_UNICODE", "NOT_UNICODE", "ROLE_ORDER"]
    assert results[0] == alone.encode(*items[0])
    assert results[2] == alone.encode(*items[2])
    assert chat.encode_batch([]) == []


def test_more_prompts_than_are_kept_still_encode() -> None:
    chat = chat_of(CHATML)
    items = [(prompt_of(("user", str(n))), Completion.from_text("a")) for n in range(5000)]
    encoded = chat.encode_batch(items)
    again = chat.encode_batch(items[:2])
    assert again == encoded[:2]
    assert isinstance(encoded[-1], Encoded)
    assert "user\n4999<end>" in whole_text(chat, encoded[-1])


# One beginning


def test_a_tokenizer_that_adds_bos_and_a_template_that_writes_it_give_one() -> None:
    chat = ChatTemplate(toy_tokenizer(LLAMA_LIKE, adds_bos=True))
    for answer in ("yes", "no"):
        encoded = chat.encode(prompt_of(("user", "hi")), Completion.from_text(answer))
        assert (encoded.prompt_ids + encoded.completion_ids).count(BOS_ID) == 1
        assert encoded.prompt_ids[0] == BOS_ID
        assert encoded.completion_ids == [*ids_of(answer), END_ID]
    report = chat.report()
    assert report.bos == BOS
    assert report.warnings == ()


def test_a_bos_that_only_the_tokenizer_writes_is_left_out_as_in_trl_and_told() -> None:
    chat = ChatTemplate(toy_tokenizer(CHATML, adds_bos=True))
    encoded = chat.encode(prompt_of(("user", "hi")), Completion.from_text("yo"))
    assert BOS_ID not in encoded.prompt_ids + encoded.completion_ids
    report = chat.report()
    assert report.bos is None
    (warning,) = report.warnings
    assert "the tokenizer adds <s> to plain text but the template writes none" in warning


@pytest.mark.parametrize("prompt_text", ["hi", "<s>hi"])
def test_a_second_bos_is_refused_with_its_place(prompt_text: str) -> None:
    answer = "yes" if "<s>" in prompt_text else "ye<s>s"
    error = refusal(chat_of(LLAMA_LIKE), prompt_of(("user", prompt_text)), answer)
    assert error.code == "DOUBLE_BOS"
    # <s> [user] hi <end> [assistant] ye: 1 + 6 + 2 + 1 + 11 + 2 tokens; or <s> [user].
    assert f"again as token {7 if '<s>' in prompt_text else 23}," in str(error)


def test_a_bos_that_opens_every_turn_is_no_second_bos() -> None:
    turns = CHATML.replace("<start>", BOS)
    chat = chat_of(turns)
    encoded = chat.encode(prompt_of(("user", "hi")), Completion.from_text("yo"))
    assert whole_text(chat, encoded) == "<s>user\nhi<end>\n<s>assistant\nyo<end>\n"
    assert chat.report().bos == BOS
    doubled = chat_of("{{ bos_token }}" + turns)
    assert refusal(doubled, prompt_of(("user", "hi")), "yo").code == "DOUBLE_BOS"


def test_a_bos_that_only_the_text_brings_is_refused() -> None:
    error = refusal(chat_of(CHATML), prompt_of(("user", "<s>hi")), "yo")
    assert error.code == "DOUBLE_BOS"


def test_one_token_that_both_begins_and_ends_is_not_taken_for_a_second_beginning() -> None:
    tokenizer = toy_tokenizer(CHATML)
    tokenizer.bos_token = END
    prompt = prompt_of(("user", "hi"), ("assistant", "ho"), ("user", "hm"))
    assert ChatTemplate(tokenizer).encode(prompt, Completion.from_text("yo"))


# An end


def test_a_template_that_writes_no_end_is_refused_unless_the_answer_was_cut_off() -> None:
    chat = chat_of(NO_EOS)
    prompt = prompt_of(("user", "hi"))
    error = refusal(chat, prompt, "yo")
    assert error.code == "NO_EOS"
    assert "a model trained on it never stops" in str(error)
    cut = Completion.from_text("yo", finish_reason="length")
    assert chat.encode(prompt, cut).completion_ids == ids_of("yo\n\n")
    report = chat.report()
    assert not report.ends_with_eos
    assert any("no row will pass" in warning for warning in report.warnings)
    with pytest.raises(TemplateError):
        chat.prove()


def test_white_space_may_follow_the_end_but_text_may_not() -> None:
    spaced = CHATML.replace("'<end>\n'", "'<end> \n\n'")
    chat_of(spaced).prove()
    signed = CHATML.replace("'<end>\n'", "'<end>\nover'")
    with pytest.raises(TemplateError) as caught:
        chat_of(signed).prove()
    assert caught.value.code == "NO_EOS"


def test_the_turn_end_that_a_template_writes_ends_answers_beside_the_tokenizers_own() -> None:
    tokenizer = toy_tokenizer(CHATML)
    tokenizer.eos_token = EOS
    chat = ChatTemplate(tokenizer)
    assert chat.eos_ids == {EOS_ID, END_ID}
    assert chat.encode(prompt_of(("user", "hi")), Completion.from_text("yo"))
    report = chat.report()
    assert report.eos == END
    (warning,) = report.warnings
    assert "answers end with <end>" in warning


def test_a_pad_token_that_also_ends_answers_is_told_and_is_no_fault() -> None:
    tokenizer = toy_tokenizer(CHATML)
    tokenizer.pad_token = END
    report = ChatTemplate(tokenizer).report()
    assert report.pad == report.eos == END
    assert report.warnings == ()


# The system role


def test_support_of_the_system_role_is_found_by_rendering() -> None:
    assert chat_of(CHATML).report().supports_system
    # Both name the word in their text; neither lets it through.
    assert not chat_of(GEMMA_LIKE).report().supports_system
    assert not chat_of(DEAF_TO_SYSTEM + "{# system #}").report().supports_system


@pytest.mark.parametrize("template", [GEMMA_LIKE, DEAF_TO_SYSTEM])
@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_refused_or_dropped_system_text_is_an_error_naming_row_and_role(
    template: str, role: str
) -> None:
    if template == GEMMA_LIKE:
        template = template.replace("== 'system'", "in ['system', 'developer']")
    error = refusal(chat_of(template), prompt_of((role, "Be brief."), ("user", "Hi")), "yo")
    assert error.code == "SYSTEM_ROLE_REFUSED"
    assert error.positions == (0,)
    assert f"'{role}'" in str(error)
    assert "system_role=merge" in str(error)


def test_merging_puts_the_system_text_before_the_first_user_turn() -> None:
    chat = chat_of(GEMMA_LIKE, system_role="merge")
    prompt = prompt_of(("system", "Be brief."), ("user", "Hi"))
    assert chat.prompt_text(prompt) == "<u>Be brief.\n\nHi</u><a>"
    encoded = chat.encode(prompt, Completion.from_text("yo"))
    assert whole_text(chat, encoded) == "<u>Be brief.\n\nHi</u><a>yo</s>"
    chat.check_history(prompt)
    assert not chat.report().supports_system
    assert chat.report().warnings == ()


def test_a_trainer_that_renders_with_the_tokenizer_merges_too() -> None:
    chat = chat_of(GEMMA_LIKE, system_role="merge")
    messages = prompt_of(("system", "Be brief."), ("user", "Hi")).message_dicts()
    rendered = chat.tokenizer.apply_chat_template(messages, tokenize=False)
    assert rendered == "<u>Be brief.\n\nHi</u>"


def test_a_system_text_with_nothing_to_merge_into_is_refused() -> None:
    chat = chat_of(DEAF_TO_SYSTEM, system_role="merge")
    for turns, position in (
        ([("system", "Be brief.")], 0),
        ([("user", "Hi"), ("system", "Be brief.")], 1),
    ):
        error = refusal(chat, prompt_of(*turns), "yo")
        assert error.code == "SYSTEM_ROLE_REFUSED"
        assert error.positions == (position,)
        assert "no user turn after it" in str(error)


@pytest.mark.parametrize("system_role", ["error", "merge"])
@pytest.mark.parametrize("template", [CHATML, GEMMA_LIKE])
def test_no_system_message_is_put_in_where_none_was_given(template: str, system_role: str) -> None:
    chat = chat_of(template, system_role=system_role)
    expected = (
        "<u>Hi</u><a>" if template == GEMMA_LIKE else "<start>user\nHi<end>\n<start>assistant\n"
    )
    assert chat.prompt_text(prompt_of(("user", "Hi"))) == expected


def test_a_supported_system_role_is_never_merged() -> None:
    chat = chat_of(CHATML, system_role="merge")
    text = chat.prompt_text(prompt_of(("system", "Be brief."), ("user", "Hi")))
    assert text.startswith("<start>system\nBe brief.<end>\n<start>user\nHi<end>")


# Turns


def test_a_strict_template_names_the_messages_out_of_turn() -> None:
    chat = chat_of(STRICT)
    two_users = refusal(chat, prompt_of(("user", "a"), ("user", "b")), "yo")
    assert two_users.code == "ROLE_ORDER"
    assert two_users.positions == (0, 1)
    assert "out of turn at message 0 (user) and 1 (user)" in str(two_users)
    repeated = Completion(
        messages=(Message(role="user", content="q"), Message(role="assistant", content="x"))
    )
    assert refusal(chat, prompt_of(("user", "q")), repeated).positions == (0, 1)
    answers = Completion(messages=(Message(role="assistant", content="x"),) * 2)
    assert refusal(chat, prompt_of(("user", "q")), answers).positions == (1, 2)
    assert refusal(chat, prompt_of(("assistant", "a"), ("user", "q")), "x").positions == (0,)


def test_another_failure_of_the_template_keeps_its_own_words() -> None:
    picky = "{% if 'cat' in messages[-1].content %}{{ raise_exception('No cats') }}{% endif %}"
    error = refusal(chat_of(picky + CHATML), prompt_of(("user", "cat"), ("user", "x cat")), "yo")
    assert error.code == "TEMPLATE_FAILED"
    assert "No cats" in str(error)


# History


def test_reasoning_taken_out_of_an_earlier_turn_is_named() -> None:
    chat = chat_of(QWEN3_LIKE)
    said = "<think>recall</think>Seven"
    prompt = prompt_of(("user", "days per week?"), ("assistant", said), ("user", "sure?"))
    with pytest.raises(TemplateError) as caught:
        chat.check_history(prompt)
    assert caught.value.code == "HISTORY_REWRITTEN"
    assert caught.value.positions == (1,)
    assert "turn 1 (assistant)" in str(caught.value)
    assert "'<think>recall</think>'" in str(caught.value)
    assert prompt.messages[1].content == said
    assert chat.report().rewrites_history


def test_reasoning_in_the_last_answer_stays() -> None:
    chat = chat_of(QWEN3_LIKE)
    prompt = prompt_of(("user", "days per week?"))
    answer = "<think>\nrecall\n</think>\n\nSeven"
    encoded = chat.encode(prompt, chat.completion(prompt, answer))
    assert chat.tokenizer.decode(encoded.completion_ids) == f"{answer}<end>\n"


def test_an_earlier_text_that_a_later_turn_repeats_is_still_missed() -> None:
    chat = chat_of(QWEN3_LIKE)
    prompt = prompt_of(
        ("user", "q"), ("assistant", "<think>so</think>A"), ("user", "<think>so</think>A ?")
    )
    with pytest.raises(TemplateError, match="turn 1"):
        chat.check_history(prompt)


def test_white_space_that_a_template_trims_is_no_rewritten_history() -> None:
    chat = chat_of(LLAMA_LIKE)
    chat.check_history(prompt_of(("user", " a \n"), ("assistant", "\n b"), ("user", "c")))
    assert not chat.report().rewrites_history


@pytest.mark.parametrize(
    ("message", "removed"),
    [
        (Message(role="tool", content="4C"), "4C"),
        (Message(role="assistant", content="4C", reasoning_content="I see"), "I see"),
        (
            Message(
                role="assistant",
                content="",
                tool_calls=(ToolCall(function=FunctionCall(name="look", arguments={})),),
            ),
            "look",
        ),
    ],
)
def test_whatever_a_template_leaves_out_of_the_history_is_named(
    message: Message, removed: str
) -> None:
    user = Message(role="user", content="q")
    prompt = Prompt(messages=(user, message, user))
    with pytest.raises(TemplateError, match=rf"turn 1 .* takes '{removed}' out") as caught:
        chat_of(DEAF_TO_SYSTEM).check_history(prompt)
    assert caught.value.code == "HISTORY_REWRITTEN"


# What the generation prompt opens


@pytest.mark.parametrize("template", [TAG_HUNGRY, THINK_PREFILL])
def test_a_thought_that_the_prompt_opens_is_part_of_the_answer(template: str) -> None:
    chat = chat_of(template)
    prompt = prompt_of(("user", "3 + 5?"))
    sampled = "Add three and five.\n</think>\n\nEight."
    completion = chat.completion(prompt, sampled, token_ids=[1, 2], finish_reason="stop")
    rendered = whole_text(chat, chat.encode(prompt, completion))
    assert rendered == chat.prompt_text(prompt) + sampled + "<end>\n"
    assert (rendered.count("<think>"), rendered.count("</think>")) == (1, 1)
    assert completion.text == "<think>\n" + sampled
    assert completion.token_ids == (1, 2)
    assert chat.report().prefill == "<think>\n"


def test_an_empty_thought_that_the_template_writes_by_itself_is_not_stored() -> None:
    chat = chat_of(EMPTY_THOUGHT)
    prompt = prompt_of(("user", "3 + 5?"))
    completion = chat.completion(prompt, "Eight.")
    assert completion.text == "Eight."
    rendered = whole_text(chat, chat.encode(prompt, completion))
    assert rendered == chat.prompt_text(prompt) + "Eight.<end>\n"
    assert chat.report().prefill == ""


def test_a_prompt_that_the_conversation_does_not_begin_with_is_refused_with_the_place() -> None:
    template = (
        "{% for m in messages %}{{ '<A>' if m.role == 'assistant' else '<S>' }}"
        "{{ m.content + '<end>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<A><think></think>' }}{% endif %}"
    )
    error = refusal(chat_of(template), prompt_of(("system", "s")), "a")
    assert error.code == "TEMPLATE_NOT_PREFIX"
    # <S>s<end><A> is 3 + 1 + 5 + 3 characters.
    assert "from character 12 the prompt has '<think></think>'" in str(error)
    assert "the conversation 'a<end>'" in str(error)


def test_a_template_that_ignores_the_generation_prompt_is_told() -> None:
    chat = chat_of(CHATML.replace("if add_generation_prompt", "if false"))
    assert any("no generation prompt" in warning for warning in chat.report().warnings)
    encoded = chat.encode(prompt_of(("user", "hi")), Completion.from_text("yo"))
    assert chat.tokenizer.decode(encoded.completion_ids) == "<start>assistant\nyo<end>\n"


def test_an_answer_whose_first_letter_merges_with_the_prompt_is_refused() -> None:
    tokenizer = toy_tokenizer(CHATML, merges=(("Ċ", "y"),))
    chat = ChatTemplate(tokenizer)
    prompt = prompt_of(("user", "hi"))
    assert chat.encode(prompt, Completion.from_text("no"))
    error = refusal(chat, prompt, "yo")
    assert error.code == "TOKENS_NOT_PREFIX"
    # <start> user \n hi <end> \n <start> assistant: 1 + 4 + 1 + 2 + 1 + 1 + 1 + 9 tokens.
    assert r"token 20 is '\n' in the prompt and '\ny' in the conversation" in str(error)


@pytest.mark.parametrize(
    "template",
    [
        CHATML.replace("m.content", "m.content.split('</think>')[-1]"),
        CHATML.replace("m.content", "(m.content | upper if m.role == 'assistant' else m.content)"),
    ],
)
def test_an_answer_that_the_template_rewrites_is_refused(template: str) -> None:
    error = refusal(chat_of(template), prompt_of(("user", "hi")), "<think>so</think>yes")
    assert error.code == "ANSWER_REWRITTEN"
    assert "'<think>so</think>yes'" in str(error)


def test_white_space_that_the_template_trims_from_an_answer_is_no_rewriting() -> None:
    encoded = chat_of(LLAMA_LIKE).encode(prompt_of(("user", "hi")), Completion.from_text(" yo\n"))
    assert encoded.completion_ids == [*ids_of("yo"), END_ID]


# Tools


def calling(arguments: object, content: str | None = None) -> Message:
    function = FunctionCall(name="get_weather", arguments=arguments)
    return Message(role="assistant", content=content, tool_calls=(ToolCall(function=function),))


def test_a_prompt_may_end_with_what_a_tool_said() -> None:
    chat = chat_of(TOOLS)
    prompt = Prompt(
        messages=(
            Message(role="user", content="weather in Oslo?"),
            calling({"city": "Oslo"}),
            Message(role="tool", name="get_weather", content="4C"),
        ),
        tools=[WEATHER],
    )
    chat.check_history(prompt)
    encoded = chat.encode(prompt, Completion.from_text("4C"))
    schema = (
        '[{"type": "function", "function": {"name": "get_weather", '
        '"parameters": {"type": "object", "properties": {}}}}]'
    )
    assert whole_text(chat, encoded) == (
        f"TOOLS {schema}\n[user]weather in Oslo?<end>"
        '[assistant]<call>get_weather {"city": "Oslo"}<end>[tool]4C<end>[assistant]4C<end>'
    )
    assert chat.report().supports_tools


def test_an_answer_that_is_only_a_tool_call_has_no_content_called_none(
    tiny_policy: Policy,
) -> None:
    prompt = prompt_of(("user", "go"), tools=[WEATHER])
    for chat in (chat_of(TOOLS), tiny_policy.chat):
        encoded = chat.encode(prompt, Completion(messages=(calling({}),)))
        text = chat.tokenizer.decode(encoded.completion_ids)
        assert "get_weather" in text
        assert "None" not in text


def test_arguments_go_to_the_template_as_they_are_object_or_text() -> None:
    chat = chat_of(TOOLS)
    prompt = prompt_of(("user", "go"))
    texts = [
        chat.tokenizer.decode(
            chat.encode(prompt, Completion(messages=(calling(arguments),))).completion_ids
        )
        for arguments in ({"city": "Oslo"}, '{"city":"Oslo"}', "{not json")
    ]
    assert texts == [
        '<call>get_weather {"city": "Oslo"}<end>',
        '<call>get_weather {"city":"Oslo"}<end>',
        "<call>get_weather {not json<end>",
    ]


def test_null_tool_calls_are_no_tool_calls() -> None:
    chat = chat_of(TOOLS)
    plain = {"role": "user", "content": "hi"}
    null = Prompt.model_validate({"messages": [{**plain, "tool_calls": None}]})
    absent = Prompt.model_validate({"messages": [plain]})
    assert null.id == absent.id
    assert chat.prompt_text(null) == chat.prompt_text(absent) == "[user]hi<end>[assistant]"


def test_no_tools_and_an_empty_list_of_tools_render_alike() -> None:
    boasting = "{% if tools is not none %}{{ 'You have tools. ' }}{% endif %}" + TOOLS
    chat = chat_of(boasting)
    plain, empty = prompt_of(("user", "hi")), prompt_of(("user", "hi"), tools=[])
    assert chat.prompt_text(empty) == chat.prompt_text(plain)


def test_tools_or_calls_that_the_template_does_not_write_are_refused() -> None:
    error = refusal(chat_of(CHATML), prompt_of(("user", "go"), tools=[WEATHER]), "yo")
    assert error.code == "TOOLS_IGNORED"
    called = Completion(messages=(calling({}, content="I look."),))
    error = refusal(chat_of(CHATML), prompt_of(("user", "go")), called)
    assert error.code == "TOOLS_IGNORED"
    assert "'get_weather'" in str(error)
    assert not chat_of(CHATML).report().supports_tools


# The date


class February(datetime):
    """A clock that stands at 2 February 2026."""

    @classmethod
    def now(cls, tz: object = None) -> "February":
        return cls(2026, 2, 2)


def test_a_prompt_renders_alike_on_any_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = prompt_of(("user", "hi"))
    tokenizer = toy_tokenizer(DATED)
    before = ChatTemplate(tokenizer)
    text, hashed = before.prompt_text(prompt), before.hash
    monkeypatch.setattr(chat_template_utils, "datetime", February)
    unpinned = tokenizer.apply_chat_template(prompt.message_dicts(), tokenize=False)
    assert unpinned.startswith("Today Date: 02 Feb 2026")
    after = ChatTemplate(tokenizer)
    assert after.prompt_text(prompt) == text
    assert text.startswith("Today Date: 01 Jan 2026\n<start>user")
    assert after.hash == hashed
    assert after.report().writes_date


def test_the_hash_covers_whatever_changes_the_text() -> None:
    dated = chat_of(DATED)
    assert chat_of(DATED).hash == dated.hash
    assert chat_of(DATED, date="2026-01-02").hash != dated.hash
    assert chat_of(CHATML).hash != chat_of(CHATML + " ").hash
    assert chat_of(GEMMA_LIKE).hash != chat_of(GEMMA_LIKE, system_role="merge").hash
    tokenizer = toy_tokenizer(CHATML)
    tokenizer.eos_token = EOS
    assert ChatTemplate(tokenizer).hash != chat_of(CHATML).hash


def test_a_date_that_the_template_does_not_write_is_not_in_the_hash() -> None:
    one, other = chat_of(CHATML), chat_of(CHATML, date="2027-08-09")
    assert one.hash == other.hash
    assert not one.report().writes_date


def test_a_template_that_writes_the_date_only_beside_tools_is_found() -> None:
    chat = chat_of("{% if tools %}{{ strftime_now('%Y') }}{% endif %}" + TOOLS)
    assert chat.report().writes_date
    assert (
        not chat_of("{% if false %}{{ strftime_now('%Y') }}{% endif %}" + TOOLS)
        .report()
        .writes_date
    )


def test_a_saved_tokenizer_renders_and_hashes_as_before(tmp_path: Path) -> None:
    chat = chat_of(DATED, date="2026-03-05")
    chat.tokenizer.save_pretrained(tmp_path)
    prompt = prompt_of(("user", "hi"))
    saved = AutoTokenizer.from_pretrained(tmp_path)
    again = ChatTemplate(saved, date="2026-03-05")
    assert again.prompt_text(prompt) == chat.prompt_text(prompt)
    assert again.hash == chat.hash
    assert "06 Mar 2026" in ChatTemplate(saved, date="2026-03-06").prompt_text(prompt)


# Text that is rendered already


def test_special_markers_in_a_text_are_found(tiny_policy: Policy) -> None:
    chat = tiny_policy.chat
    rendered = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert chat.rendered_markers(rendered) == ["<|im_start|>", "<|im_end|>"]
    assert chat.rendered_markers("a < b, <b>bold</b>, 1 | 2") == []
