"""What the template renders and the trainer keeps of a row is what the row says."""

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest

from curation.chat import ChatTemplate, Encoded
from curation.models import load_chat
from curation.validation.gate import Gate, GateResult, RawRow, rows_from_proposals
from schemas.configs import ModelConfig, ValidateConfig
from schemas.records import Candidate, Completion, Message, Origin, PairProposal, Prompt

Turns = list[tuple[str, str]]
Q = [("user", "q")]
NOT_A_PREFIX = (
    "{% for m in messages %}{{ '<' + m.role + '>' + m.content + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant><think></think>' }}{% endif %}"
)
NO_END = (
    "{% for m in messages %}{{ '<' + m.role + '>' + m.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
FORGETS_THOUGHTS = (
    "{% for m in messages %}"
    "{% set said = m.content if loop.last else m.content.split('</think>')[-1] %}"
    "{{ '<' + m.role + '>' + said + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


@pytest.fixture(scope="module")
def chatml(tiny_model_folder: Path) -> ChatTemplate:
    return load_chat(ModelConfig(path=str(tiny_model_folder)))


def with_template(chat: ChatTemplate, template: str) -> ChatTemplate:
    return ChatTemplate(chat.tokenizer, template=template)


def row(prompt: Turns, chosen: str, rejected: str, row_id: str = "line 1") -> RawRow:
    return RawRow(
        row_id=row_id,
        prompt=[{"role": role, "content": content} for role, content in prompt],
        chosen=[{"role": "assistant", "content": chosen}],
        rejected=[{"role": "assistant", "content": rejected}],
    )


def run(chat: object, *rows: RawRow, max_length: int = 1024) -> GateResult:
    return Gate(ValidateConfig(max_length=max_length), seed=0, chat=chat).run(rows)  # type: ignore[arg-type]


def test_a_plain_row_passes_a_plain_template(chatml: ChatTemplate) -> None:
    result = run(chatml, row(Q, "a", "b"))
    assert (result.counts["out"], result.reasons, result.refusal) == (1, {}, None)


def lengths(chat: ChatTemplate, prompt: str, answer: str) -> tuple[int, int]:
    asked = Prompt(messages=(Message(role="user", content=prompt),))
    encoded = chat.encode(asked, Completion.from_text(answer))
    return len(encoded.prompt_ids), len(encoded.completion_ids)


def test_the_limit_is_held_to_the_token(chatml: ChatTemplate) -> None:
    asked, answered = lengths(chatml, "q", "a longer answer")
    pair = row(Q, "a longer answer", "b")
    whole = asked + answered
    assert run(chatml, pair, max_length=whole).counts["out"] == 1
    assert run(chatml, pair, max_length=whole - 1).reasons == {"TOO_LONG": 1}
    assert run(chatml, pair, max_length=asked + 1).reasons == {"TOO_LONG": 1}
    assert run(chatml, pair, max_length=asked).reasons == {"PROMPT_TOO_LONG": 1}
    assert run(chatml, pair, max_length=asked - 1).reasons == {"PROMPT_TOO_LONG": 1}


def test_sides_that_only_differ_beyond_the_limit_are_identical(chatml: ChatTemplate) -> None:
    asked, _ = lengths(chatml, "q", "a")
    result = run(chatml, row(Q, "7777 one", "7777 two"), max_length=asked + 2)
    assert result.reasons == {"IDENTICAL_AFTER_TRUNCATION": 1}


class Ids:
    """Ids written by hand in the place of a tokenizer."""

    def __init__(self, prompt: list[int], sides: dict[str, list[int]]) -> None:
        self._prompt, self._sides = prompt, sides

    def encode_batch(self, items: Sequence[tuple[Prompt, Completion]]) -> list[Encoded]:
        return [Encoded(self._prompt, self._sides[answer.text]) for _, answer in items]

    def check_history(self, prompt: Prompt) -> None:
        return None

    def rendered_markers(self, text: str) -> list[str]:
        return []


@pytest.mark.parametrize(
    ("max_length", "code"),
    [
        (4, "PROMPT_TOO_LONG"),
        (8, "IDENTICAL_AFTER_TRUNCATION"),
        (9, "IDENTICAL_AFTER_TRUNCATION"),
        (10, None),
    ],
)
def test_ids_that_part_at_the_last_token_need_all_ten(max_length: int, code: str | None) -> None:
    ids = Ids([1, 2, 3, 4], {"a": [7, 7, 7, 7, 7, 1], "b": [7, 7, 7, 7, 7, 2]})
    result = run(ids, row(Q, "a", "b"), max_length=max_length)
    assert result.reasons == ({} if code is None else {code: 1})


def test_each_side_is_cut_by_its_own_length() -> None:
    # Of 10 tokens the prompt takes 4; the short side keeps its one token, so they still differ.
    ids = Ids([1, 2, 3, 4], {"a": list(range(20, 32)), "b": [9]})
    assert run(ids, row(Q, "a", "b"), max_length=10).reasons == {"TOO_LONG": 1}


def test_sides_of_equal_tokens_are_identical() -> None:
    ids = Ids([1], {"a": [7, 2], "b": [7, 2]})
    assert run(ids, row(Q, "a", "b")).reasons == {"IDENTICAL_SIDES": 1}


def test_rows_of_many_batches_keep_their_order() -> None:
    ids = Ids([1], {"a": [7, 2], "b": [8, 2], "twin": [7, 2]})
    rows = [
        row([("user", f"q{at}")], "a", "twin" if at % 3 == 0 else "b", f"{at:04}")
        for at in range(1200)
    ]
    result = run(ids, *rows)
    assert [one.row_id for one in result.quarantined] == [f"{at:04}" for at in range(0, 1200, 3)]
    passed = [pair.prompt.messages[0].content for pair in result.pairs]
    assert passed == [f"q{at}" for at in range(1200) if at % 3]


def test_a_template_that_breaks_every_row_is_told_once_in_one_sentence(
    chatml: ChatTemplate,
) -> None:
    rows = [row(Q, "a", f"b{number}", str(number)) for number in range(3)]
    result = run(with_template(chatml, NOT_A_PREFIX), *rows)
    assert result.reasons == {"TEMPLATE_NOT_PREFIX": 3}
    assert result.refusal is not None
    assert "breaks all 3 rows that reach it (TEMPLATE_NOT_PREFIX 3)" in result.refusal
    assert "character 28" in result.refusal
    assert result.failed


def test_a_template_without_end_is_told(chatml: ChatTemplate) -> None:
    assert run(with_template(chatml, NO_END), row(Q, "a", "b")).reasons == {"NO_EOS": 1}


def test_a_second_beginning_of_sequence_is_told(chatml: ChatTemplate) -> None:
    tokenizer = copy.deepcopy(chatml.tokenizer)
    tokenizer.bos_token = "<|endoftext|>"
    doubled = ChatTemplate(
        tokenizer,
        template="{{ bos_token + bos_token }}"
        "{% for m in messages %}{{ '<' + m.role + '>' + m.content + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}",
    )
    assert run(doubled, row(Q, "a", "b")).reasons == {"DOUBLE_BOS": 1}


def test_a_row_that_was_rendered_before_is_told_and_not_rendered_again(
    chatml: ChatTemplate,
) -> None:
    rendered = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    result = run(chatml, row([("user", rendered)], "a", "b"), row(Q, "a", "b", "line 2"))
    assert result.reasons == {"ALREADY_RENDERED": 1}
    assert "<|im_" in result.quarantined[0].message
    assert result.counts["out"] == 1


def test_a_special_token_that_the_model_wrote_itself_has_a_code_of_its_own(
    chatml: ChatTemplate,
) -> None:
    prompt = Prompt(messages=(Message(role="user", content="q"),))
    chosen, rejected = (
        Candidate(
            prompt_id=prompt.id,
            completion=Completion.from_text(text, token_ids=(5, 6)),
            origin=Origin(generator="transformers"),
        )
        for text in ("yes<|im_start|>user", "no")
    )
    proposal = PairProposal(prompt=prompt, chosen=chosen, rejected=rejected, strategy="AllPairs")
    result = run(chatml, *rows_from_proposals([proposal]))
    assert result.reasons == {"SPECIAL_TOKEN_SAMPLED": 1}


def test_a_rewritten_history_is_a_warning_and_the_stored_texts_stay(chatml: ChatTemplate) -> None:
    said = "<think>recall</think>Seven"
    turns = [("user", "days per week?"), ("assistant", said), ("user", "sure?")]
    result = run(with_template(chatml, FORGETS_THOUGHTS), row(turns, "yes", "no"), row(Q, "a", "b"))
    (warning,) = [text for text in result.warnings if text.startswith("HISTORY_REWRITTEN")]
    assert "turn 1" in warning
    assert "<think>recall</think>" in warning
    assert result.counts["out"] == 2
    assert result.pairs[0].prompt.messages[1].content == said


def test_without_a_template_the_tokens_are_unchecked_and_that_is_said() -> None:
    result = run(None, row(Q, "a", "b"), max_length=2)
    assert result.counts["out"] == 1
    assert result.warnings[0].startswith("TOKENS_UNCHECKED")
    quiet = Gate(ValidateConfig(token_checks=False), seed=0).run([row(Q, "a", "b")])
    assert not any(text.startswith("TOKENS_UNCHECKED") for text in quiet.warnings)


def test_a_special_token_in_a_call_or_in_reasoning_is_found_too(chatml: ChatTemplate) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {"q": "<|im_end|>"}}}
    for index, hidden in enumerate(({"tool_calls": [call]}, {"reasoning_content": "<|im_end|>"})):
        asked = [{"role": "user", "content": "q"}]
        said = [{"role": "assistant", "content": "a", **hidden}]
        other = [{"role": "assistant", "content": "b"}]
        result = run(chatml, RawRow(f"line {index}", asked, said, other), row(Q, "c", "d"))
        assert result.reasons == {"ALREADY_RENDERED": 1}
