"""What reward training and reward scoring share: tokens, the last of them, the head."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification
from transformers.modeling_outputs import BaseModelOutputWithPast

from curation.chat import ChatTemplate, TemplateError
from curation.rewards.scoring import (
    conversation_ids,
    float32_head,
    head_names,
    pad_with,
    padding_id,
)
from curation.tiny import build_tiny_reward_model
from schemas.records import Completion, Message, Prompt


class IdTrunk(torch.nn.Module):
    """Hidden states that are the token ids themselves."""

    def forward(self, input_ids: Any, **_: Any) -> BaseModelOutputWithPast:
        return BaseModelOutputWithPast(last_hidden_state=input_ids[..., None].float())


def toy_model() -> Any:
    """Its score is the id of the token that it is read at."""
    config = LlamaConfig(
        vocab_size=16, hidden_size=1, intermediate_size=1, num_hidden_layers=1,
        num_attention_heads=1, num_labels=1,
    )  # fmt: skip
    network = LlamaForSequenceClassification(config)
    network.model = IdTrunk()
    torch.nn.init.ones_(network.score.weight)
    return network.eval()


def tiny_llama(dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_labels=1,
    )  # fmt: skip
    return LlamaForSequenceClassification(config).to(dtype).eval()


def read_scores(network: Any, tokenizer: Any, rows: list[list[int]]) -> list[float]:
    pad = padding_id(tokenizer, (row[-1] for row in rows))
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    pad_with(network, pad)
    with torch.no_grad():
        scores: list[float] = network(input_ids=ids, attention_mask=mask).logits[:, 0].tolist()
    return scores


def test_the_score_is_read_at_the_last_token_where_padding_is_what_ends_turns() -> None:
    tokenizer = SimpleNamespace(pad_token_id=9, all_special_ids=[9])
    # The prompt 1 5 9 is shared, and its turn ends with the pad token too.
    rows = [[1, 5, 9, 6, 7, 9], [1, 5, 9, 6, 8]]
    assert read_scores(toy_model(), tokenizer, rows) == [9.0, 8.0]
    assert read_scores(toy_model(), tokenizer, [[1, 5, 9, 4], [1, 5, 9, 3, 2, 6]]) == [4.0, 6.0]
    assert read_scores(toy_model(), tokenizer, rows[:1]) == [9.0]


def test_the_tokenizers_own_pad_token_is_taken_where_no_row_ends_with_it() -> None:
    tokenizer = SimpleNamespace(pad_token_id=2, all_special_ids=[2, 7])
    assert padding_id(tokenizer, [1, 5]) == 2
    assert padding_id(tokenizer, [2, 5]) == 7
    assert padding_id(tokenizer, [2, 7, 0]) == 1
    assert padding_id(SimpleNamespace(pad_token_id=None, all_special_ids=[]), [0]) == 1


def test_a_head_on_bfloat16_weights_computes_in_float32() -> None:
    network = tiny_llama(torch.bfloat16)
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    network.config.pad_token_id = 0
    with torch.no_grad():
        hidden = network.model(ids).last_hidden_state[:, -1]
        expected = hidden.float() @ network.score.weight.float().T
        coarse = network(ids).logits
        float32_head(network)
        fine = network(ids).logits
    assert coarse.dtype == torch.bfloat16
    assert fine.dtype == torch.float32
    torch.testing.assert_close(fine, expected, rtol=1e-6, atol=1e-7)
    assert not torch.equal(fine, fine.bfloat16().float())


def test_a_head_computes_in_float32_under_autocast_too() -> None:
    network = tiny_llama(torch.float32)
    network.config.pad_token_id = 0
    float32_head(network)
    ids = torch.tensor([[1, 2, 3]])
    with torch.autocast("cpu", torch.bfloat16):
        scores = network(ids).logits
    assert scores.dtype == torch.float32
    assert isinstance(network.score, torch.nn.Linear)
    torch.autograd.backward(scores.sum())
    assert network.score.weight.grad is not None


def test_the_head_is_all_that_stands_on_the_trunk_and_has_weights() -> None:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, num_labels=1,
    )  # fmt: skip
    assert head_names(BertForSequenceClassification(config)) == ["classifier"]
    assert head_names(tiny_llama(torch.float32)) == ["score"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = build_tiny_reward_model(tmp_path_factory.mktemp("rm") / "model")
    return AutoTokenizer.from_pretrained(folder)


def conversation(question: str, answer: str, **fields: Any) -> tuple[Prompt, Completion]:
    asked = Prompt(messages=(Message(role="user", content=question),))
    return asked, Completion.from_text(answer, **fields)


def test_a_model_is_shown_its_own_template_and_no_other(tokenizer: Any) -> None:
    own = (
        "{%- for message in messages -%}{%- if message.role == 'user' -%}"
        "RM: {{ message.content }}{%- else -%}=>{{ message.content }}{%- endif -%}{%- endfor -%}"
    )
    chat = ChatTemplate(tokenizer, template=own)
    (ids,) = conversation_ids(chat, [conversation("q", "a")])
    assert not isinstance(ids, TemplateError)
    assert tokenizer.decode(ids) == "RM: q=>a"


def test_an_answer_ends_alike_whether_or_not_it_was_sampled_whole(tokenizer: Any) -> None:
    chat = ChatTemplate(tokenizer)
    whole, cut, plain = conversation_ids(
        chat,
        [
            conversation("q", "a", finish_reason="stop"),
            conversation("q", "a", finish_reason="length", token_ids=(3, 4)),
            conversation("q", "a"),
        ],
    )
    assert whole == cut == plain
    assert not isinstance(whole, TemplateError)
    assert whole[-1] == tokenizer.eos_token_id
