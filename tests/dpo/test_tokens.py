"""Rows to tokens: cut per side, refused where nothing is left to learn, one BOS."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from curation.chat import ChatTemplate, Encoded
from curation.models import Policy
from curation.tiny import CHATML
from dpo.tokens import tokenise_pairs
from schemas.records import Prompt

MakeDataset = Callable[..., Path]


class _FixedChat:
    """Encodes every pair to the tokens it is told."""

    def __init__(self, prompt: list[int], chosen: list[int], rejected: list[int]) -> None:
        self._sides = [Encoded(prompt, chosen), Encoded(prompt, rejected)]

    def encode_batch(self, items: Sequence[Any]) -> list[Encoded]:
        return self._sides * (len(items) // 2)


def _row(pair_id: str = "pair-1", **fields: Any) -> dict[str, Any]:
    def turn(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    return {
        "prompt": turn("user", "hi"),
        "chosen": turn("assistant", "yes"),
        "rejected": turn("assistant", "no"),
        "pair_id": pair_id,
        **fields,
    }


def test_each_side_is_cut_on_its_own() -> None:
    chat: Any = _FixedChat([9] * 4, list(range(12)), [50])
    (pair,) = tokenise_pairs([_row()], chat, 10)
    assert pair.chosen_ids == list(range(6))
    assert pair.rejected_ids == [50]
    assert pair.truncated
    assert not tokenise_pairs([_row()], chat, 16)[0].truncated


def test_sides_that_the_limit_makes_equal_are_refused() -> None:
    chat: Any = _FixedChat([3] * 4, [7, 7, 7, 7, 7, 1], [7, 7, 7, 7, 7, 2])
    with pytest.raises(ValueError, match="same within max_length 8"):
        tokenise_pairs([_row()], chat, 8)
    assert tokenise_pairs([_row()], chat, 10)


def test_a_prompt_that_fills_the_limit_is_refused() -> None:
    chat: Any = _FixedChat([3] * 8, [1], [2])
    with pytest.raises(ValueError, match="has 8 tokens and fills max_length 8"):
        tokenise_pairs([_row()], chat, 8)


def test_a_pair_that_is_there_twice_is_refused() -> None:
    chat: Any = _FixedChat([3], [1], [2])
    with pytest.raises(ValueError, match="'pair-1' is in the training split twice"):
        tokenise_pairs([_row(), _row()], chat, 8)


def test_no_confidence_is_full_confidence() -> None:
    chat: Any = _FixedChat([3], [1], [2])
    (pair,) = tokenise_pairs([_row(p_chosen=None, weight=None)], chat, 8)
    assert (pair.p_chosen, pair.weight, pair.has_confidence) == (1.0, 1.0, False)
    (pair,) = tokenise_pairs([_row(p_chosen=0.8, weight=2.0)], chat, 8)
    assert (pair.p_chosen, pair.weight, pair.has_confidence) == (0.8, 2.0, True)


def test_a_tokenizer_that_adds_bos_gives_one_and_none_before_the_answer(
    tiny_model_folder: Path,
) -> None:
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    bos = "<|endoftext|>"
    tokenizer.bos_token = bos
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)]
    )
    assert tokenizer("hi")["input_ids"][0] == tokenizer.bos_token_id
    chat = ChatTemplate(tokenizer, template="{{ bos_token }}" + CHATML)

    (pair,) = tokenise_pairs([_row()], chat, 64)

    for side in (pair.chosen_ids, pair.rejected_ids):
        assert (pair.prompt_ids + side).count(tokenizer.bos_token_id) == 1
        assert side[0] != tokenizer.bos_token_id
    assert pair.prompt_ids[0] == tokenizer.bos_token_id


@pytest.mark.parametrize(
    "bad",
    [
        {"p_chosen": 1.2},
        {"p_chosen": 0.5},
        {"p_chosen": 0.2},
        {"p_chosen": "0.9"},
        {"weight": 0.0},
        {"weight": float("nan")},
    ],
)
def test_confidence_that_is_none_is_refused(bad: dict[str, Any]) -> None:
    chat: Any = _FixedChat([3], [1], [2])
    with pytest.raises(ValueError, match=r"pair 'pair-1': p_chosen is .* and weight"):
        tokenise_pairs([_row(**bad)], chat, 8)


def test_a_row_without_an_id_is_refused() -> None:
    chat: Any = _FixedChat([3], [1], [2])
    with pytest.raises(ValueError, match="has no pair_id"):
        tokenise_pairs([_row(pair_id="")], chat, 8)


def test_tools_are_in_the_prompt_and_system_and_earlier_turns_too(tiny_policy: Policy) -> None:
    tools = [{"type": "function", "function": {"name": "get_weather"}}]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "weather?"},
    ]
    prompt = Prompt.model_validate({"messages": messages, "tools": tools})

    (pair,) = tokenise_pairs([_row(prompt=messages, tools=tools)], tiny_policy.chat, 512)

    assert pair.prompt_ids == tiny_policy.chat.prompt_ids(prompt)
    text = tiny_policy.tokenizer.decode(pair.prompt_ids)
    assert all(word in text for word in ("get_weather", "Be brief.", "hello", "weather?"))
    (plain,) = tokenise_pairs([_row(prompt=messages)], tiny_policy.chat, 512)
    assert len(plain.prompt_ids) < len(pair.prompt_ids)
    assert plain.chosen_ids == pair.chosen_ids


def test_a_pair_that_the_template_breaks_is_named(tiny_policy: Policy) -> None:
    rows = [_row(), _row("pair-2", rejected=[{"role": "user", "content": "no"}])]
    with pytest.raises(ValueError, match="pair 'pair-2': "):
        tokenise_pairs(rows, tiny_policy.chat, 512)


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ({"chosen": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"tools": "[{"}, "its tools are not JSON"),
    ],
)
def test_a_row_that_is_no_conversation_is_named(bad: dict[str, Any], complaint: str) -> None:
    chat: Any = _FixedChat([3], [1], [2])
    with pytest.raises(ValueError, match=f"pair 'pair-1': .*{complaint}"):
        tokenise_pairs([_row(**bad)], chat, 8)
