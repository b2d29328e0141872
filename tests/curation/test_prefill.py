"""Templates of real models, as TRL ships them: found out about by rendering alone."""

from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from curation.chat import ChatTemplate, TemplateError
from schemas.records import Message, Prompt

QUESTION = Prompt(messages=(Message(role="user", content="3 + 5?"),))

ChatOf = Callable[..., ChatTemplate]


@pytest.fixture
def chat_of(tiny_model_folder: Path) -> ChatOf:
    def build(name: str, *, eos: str = "<|im_end|>") -> ChatTemplate:
        tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
        tokenizer.add_special_tokens({"bos_token": "<|endoftext|>", "eos_token": eos})
        file = resources.files("trl") / "chat_templates" / f"{name}.jinja"
        return ChatTemplate(tokenizer, template=file.read_text(encoding="utf-8"))

    return build


def rendered(chat: ChatTemplate, sampled: str) -> str:
    encoded = chat.encode(QUESTION, chat.completion(QUESTION, sampled))
    return str(chat.tokenizer.decode(encoded.prompt_ids + encoded.completion_ids))


@pytest.mark.parametrize("name", ["qwen3_5_think", "qwen3_6", "qwen3_8", "nemotron_3_nano"])
def test_a_thought_that_a_real_template_opens_renders_as_it_was_sampled(
    chat_of: ChatOf, name: str
) -> None:
    chat = chat_of(name)
    assert chat.report().prefill == "<think>\n"
    close = "</think>\n" if name == "nemotron_3_nano" else "</think>\n\n"
    sampled = f"Add three and five.\n{close}Eight."
    text = rendered(chat, sampled)
    assert text == chat.prompt_text(QUESTION) + sampled + "<|im_end|>\n"
    assert (text.count("<think>"), text.count("</think>")) == (1, 1)


def test_reasoning_goes_to_its_own_field_only_where_the_template_wants_it_there(
    chat_of: ChatOf,
) -> None:
    sampled = "Add three and five.\n</think>\n\nEight."
    (message,) = chat_of("qwen3_8").completion(QUESTION, sampled).messages
    assert message.content == "Eight."
    assert message.reasoning_content == "Add three and five."
    (message,) = chat_of("qwen3_6").completion(QUESTION, sampled).messages
    assert message.content == "<think>\n" + sampled
    assert message.reasoning_content is None


def test_a_thought_that_the_model_opens_itself_renders_as_it_was_sampled(chat_of: ChatOf) -> None:
    chat = chat_of("qwen3")
    sampled = "<think>\nAdd three and five.\n</think>\n\nEight."
    assert rendered(chat, sampled) == chat.prompt_text(QUESTION) + sampled + "<|im_end|>\n"
    assert chat.report().prefill == ""


def test_an_empty_thought_that_a_template_puts_in_is_told(chat_of: ChatOf) -> None:
    chat = chat_of("qwen3")
    warnings = chat.report().warnings
    assert any(r"writes '<think>\n\n</think>\n\n' in front of an answer" in w for w in warnings)
    expected = "<think>\n\n</think>\n\nEight.<|im_end|>\n"
    assert rendered(chat, "Eight.") == chat.prompt_text(QUESTION) + expected


def test_a_template_that_cuts_every_thought_out_of_answers_is_found(chat_of: ChatOf) -> None:
    chat = chat_of("deepseek_r1_distill", eos="<｜end▁of▁sentence｜>")
    assert chat.report().prefill == "<think>\n"
    assert any("no row will pass" in warning for warning in chat.report().warnings)
    with pytest.raises(TemplateError) as caught:
        rendered(chat, "Add.\n</think>\n\nEight.")
    assert caught.value.code == "TEMPLATE_NOT_PREFIX"


@pytest.mark.parametrize(
    ("name", "eos", "tail"),
    [
        ("qwen2_5", "<|im_end|>", "<|im_end|>\n"),
        ("llama3", "<|eot_id|>", "<|eot_id|>"),
        ("llama3_2", "<|eot_id|>", "<|eot_id|>"),
        ("gemma", "<end_of_turn>", "<end_of_turn>\n"),
        ("gemma3", "<end_of_turn>", "<end_of_turn>\n"),
        ("phi3", "<|end|>", "<|end|>\n<|end|>"),
        ("lfm2", "<|im_end|>", "<|im_end|>\n"),
        ("cohere", "<|END_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
    ],
)
def test_a_plain_answer_renders_as_it_was_sampled(
    chat_of: ChatOf, name: str, eos: str, tail: str
) -> None:
    chat = chat_of(name, eos=eos)
    assert rendered(chat, "Eight.") == chat.prompt_text(QUESTION) + "Eight." + tail
    report = chat.report()
    assert report.prefill == ""
    assert report.ends_with_eos
    assert report.eos == eos
    assert report.supports_system == (name != "gemma")
    assert report.writes_date == (name == "llama3_2")


@pytest.mark.parametrize(
    ("name", "sampled"),
    [("qwen3_6", "half a thought"), ("qwen3_8", "half a thought"), ("qwen3", "<think>\nhalf a")],
)
def test_a_thought_without_an_end_is_refused_rather_than_put_behind_an_empty_one(
    chat_of: ChatOf, name: str, sampled: str
) -> None:
    with pytest.raises(TemplateError) as caught:
        rendered(chat_of(name), sampled)
    assert caught.value.code == "ANSWER_REWRITTEN"
